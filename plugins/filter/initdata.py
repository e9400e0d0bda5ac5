# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of init-data: make the document with its annotation and digests, take one apart, and the sections that point to a KBS."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.attested.ai.plugins.module_utils.kbs import initdata as core
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded

DOCUMENTATION = r"""
name: initdata
short_description: Make init-data of Confidential Containers, with its annotation and its digest for each TEE
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes the parts (C(aa.toml), C(cdh.toml), C(policy.rego)), each as text or as a dictionary, or a whole document as text, and returns it in every form
    that is needed.
  - The same parts give the same bytes, so that nothing changes where nothing changed. The digest is over the exact bytes of the TOML.
  - Init-data is measured but not secret. A private key in it is refused.
positional: _input, algorithm
options:
  _input:
    description: The parts, or the text of a document, which is then taken as it is.
    type: raw
    required: true
  algorithm:
    description:
      - The hash that binds it. V(sha256) fits every TEE; SEV-SNP cuts longer ones.
      - Of no effect if a whole document is given, which names its own.
    type: str
    choices: [sha256, sha384, sha512]
    default: sha256
seealso:
  - plugin: attested.ai.initdata_kbs
    plugin_type: filter
  - plugin: attested.ai.kata_agent_policy
    plugin_type: filter
  - module: attested.ai.kbs_policy
"""

EXAMPLES = r"""
- name: Make init-data that points to the KBS, with the policy that genpolicy made
  ansible.builtin.set_fact:
    initdata: >-
      {{ 'https://kbs.example.org:8080' | attested.ai.initdata_kbs(cert=lookup('file', 'kbs-ca.pem'))
         | combine({'policy.rego': lookup('file', 'agent-policy.rego', rstrip=false) | attested.ai.kata_agent_policy})
         | attested.ai.initdata }}

- name: Show the digest that the KBS has to pin for SEV-SNP
  ansible.builtin.debug:
    msg: "{{ initdata.digests['sev-snp'] }}"
"""

RETURN = r"""
_value:
  description:
    - C(toml), C(algorithm), C(digest) (hexadecimal), C(annotation) and C(annotation_name) for the pod.
    - C(digests) holds what a report has in its field, by C(sev-snp) (HOST_DATA), C(tdx) (MRCONFIGID), C(cca) (RPV), and for C(sample) what Trustee makes
      of it.
  type: dict
"""


@guarded
def initdata(value: t.Any, algorithm: str = "sha256") -> dict[str, t.Any]:
    given = plain(value, "initdata")
    if isinstance(given, str):
        return core.accept(given).to_dict()
    if not isinstance(given, dict):
        raise AnsibleFilterError("initdata takes a dictionary of parts or the text of a document")
    return core.render(given, str(algorithm)).to_dict()


@guarded
def initdata_kbs(
    url: str, cert: str = "", image_security_policy_uri: str = "", registry_credentials_uri: str = "", allow_http: bool = False
) -> dict[str, t.Any]:  # fmt: skip
    return core.for_kbs(str(url), str(cert), str(image_security_policy_uri), str(registry_credentials_uri), boolean(allow_http))


@guarded
def initdata_read(annotation: str) -> dict[str, t.Any]:
    return core.accept(core.unpacked(str(annotation))).to_dict()


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"initdata": initdata, "initdata_kbs": initdata_kbs, "initdata_read": initdata_read}
