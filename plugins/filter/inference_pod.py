# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of inference pods: from a description to objects of Kubernetes, and whether a cluster can run them."""

from __future__ import annotations

import importlib.util
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.attested.ai.plugins.module_utils.kubernetes import cluster
from ansible_collections.attested.ai.plugins.plugin_utils import inference_pod as core
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded

DOCUMENTATION = r"""
name: inference_pod
short_description: Make the objects of Kubernetes for an inference service in a confidential pod, or say what stands against it
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes a small, strict description and returns a Deployment, a Service, a NetworkPolicy and what else is needed, the grant that the KBS needs for it, and
    every reason against it with the next step. There are no objects where something stands against it.
  - It asks no cluster and changes nothing. The role P(attested.ai.inference_pod#role) uses it.
positional: _input
options:
  _input:
    description:
      - The description, see the collection's C(docs/inference-pods.md). Unknown members are errors. Empty ones count as not said.
    type: dict
    required: true
  seed_pod:
    description:
      - A manifest that exists (Pod, Deployment, StatefulSet or Job), as a dictionary. It is translated; what the description says wins. Each thing that is
        done otherwise is in C(corrections).
    type: dict
  sealing_key:
    description: EC P-256 private key on the controller that signs sealed secrets, PEM, mode 0600.
    type: path
  sealing_kid:
    description: Where guests find its public key.
    type: str
    default: kbs:///default/signing-key/sealed-secret
  deployed:
    description: Objects that may hold the Secret which is deployed. What still holds stays as it is.
    type: list
    elements: dict
    default: []
  draft:
    description: Make objects without init-data, for genpolicy. They are not to be run.
    type: bool
    default: false
seealso:
  - plugin: attested.ai.inference_pod_cluster
    plugin_type: filter
  - plugin: attested.ai.initdata
    plugin_type: filter
  - module: attested.ai.kbs_policy
"""

EXAMPLES = r"""
- name: What would stand against it?
  ansible.builtin.debug:
    msg: "{{ (description | attested.ai.inference_pod(sealing_key='secrets/sealed.pem')).refusals }}"

- name: What is wrong with a pod that was written elsewhere?
  ansible.builtin.debug:
    msg: "{{ ({'tee': 'snp', 'server': 'given', 'command': ['/serve']} | attested.ai.inference_pod(seed_pod=pod)).corrections }}"
  vars:
    pod: "{{ lookup('ansible.builtin.file', 'pod.yml') | ansible.builtin.from_yaml }}"
"""

RETURN = r"""
_value:
  description:
    - C(objects), in the order to apply them. C(refusals), each with C(id), C(what), C(fix) and C(source). C(notes). C(corrections) of a seed, each with C(id),
      C(where), C(given), C(becomes), C(why) and C(source).
    - C(grant) for M(attested.ai.kbs_policy), C(initdata), C(sizing), C(runtime_class) and the C(handlers) that it may lead to.
    - C(protection) is what was asked for, V(sev-snp) or V(tdx), and V(unprotected) for drafts, for what is refused and for pods without a TEE.
    - C(proven_by) is V(kbs) where the pod needs what a KBS releases by C(grant), so that it gets ready only as what was asked for, and else V(nothing).
  type: dict
"""


@guarded
def inference_pod(
    description: t.Any, seed_pod: t.Any = None, sealing_key: str | None = None, sealing_kid: str = "kbs:///default/signing-key/sealed-secret",
    deployed: t.Any = None, draft: t.Any = False,
) -> dict[str, t.Any]:  # fmt: skip
    return core.inference_pod(
        plain(description, "pod"), plain(seed_pod, "seed_pod"), str(sealing_key) if sealing_key else None, str(sealing_kid), plain(deployed, "deployed"),
        boolean(draft),
    )  # fmt: skip


@guarded
def inference_pod_cluster(plan: t.Any, runtime_classes: t.Any, nodes: t.Any = None) -> list[dict[str, t.Any]]:
    return cluster.look(plain(plan, "plan"), plain(runtime_classes, "runtime_classes"), plain(nodes, "nodes"))


@guarded
def inference_pod_running(plan: t.Any, deployments: t.Any, pods: t.Any) -> dict[str, t.Any]:
    return cluster.running(plain(plan, "plan"), plain(deployments, "deployments"), plain(pods, "pods"))


def collection_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.%s" % name) is not None
    except (ImportError, ValueError):
        return False


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"inference_pod": inference_pod, "inference_pod_cluster": inference_pod_cluster, "inference_pod_running": inference_pod_running,
                "collection_installed": collection_installed}  # fmt: skip
