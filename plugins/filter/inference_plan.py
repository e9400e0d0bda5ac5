# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter of the playbook attested.ai.plan: from a model and hosts to what fits where, at what cost."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.planning import plan as core
from ansible_collections.attested.ai.plugins.module_utils.planning import view
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: inference_plan
short_description: Tell which confidential hosts take a model, with how much memory, and at what cost
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes a model and returns, for each host, whether it fits, into how many GPUs in which mode, how much memory guest and host need, and which
    published figures say what confidential computing costs there. Each figure names its source.
  - Pure arithmetic over tables that come with the collection. Nothing is measured, and no host is asked.
positional: _input, hosts
options:
  _input:
    description:
      - The model. C(context) and C(concurrency), and the model's C(config) (its C(config.json) as a dictionary) or its shape, which is C(dtype), C(layers),
        C(heads), C(kv_heads) and C(head_dim), or C(latent_width) instead of the latter two where all heads share one compressed vector.
      - The weights by C(size) (V(141 GB)) or C(parameters) (V(70.6B)), unless they can be counted from C(config). What is given wins over C(config).
      - C(dtype) is one of V(fp32), V(bf16), V(fp16), V(fp8), V(int8), V(nvfp4), V(mxfp4), V(int4); C(kv_dtype) one of V(bf16), V(fp16), V(fp8).
    type: dict
    required: true
  hosts:
    description:
      - The hosts, each with C(name), C(tee) (V(tdx), V(snp), V(cca)), C(ram_gib), C(gpu) (V(h100), V(h100-pcie), V(h100-nvl), V(h200), V(h200-nvl), V(b200),
        V(b300), V(rtx-pro-6000), or none) and C(gpus), their number.
      - C(profile) is how the encrypted model is opened, V(files) into a tmpfs or V(image), mapped.
    type: list
    elements: dict
    required: true
  options:
    description: Other assumptions than ours, of C(gpu_use), C(gpu_workspace_gib), C(system_gib), C(engine_gib), C(host_system_gib), C(link_gb_per_s).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show where a model would go
  ansible.builtin.debug:
    msg: "{{ (model | attested.ai.inference_plan(hosts)).summary }}"
  vars:
    model: {parameters: 70.6B, dtype: fp8, layers: 80, heads: 64, kv_heads: 8, head_dim: 128, context: 32768, concurrency: 16}
    hosts:
      - {name: eight, gpu: h100, gpus: 8, ram_gib: 2048, tee: tdx}
      - {name: one, gpu: h200, gpus: 1, ram_gib: 512, tee: snp}
"""

RETURN = r"""
_value:
  description:
    - C(document) is the plan in the schema C(attested.ai/plan/1); C(summary), C(figures) and C(overhead) are rows for M(attested.ai.summary_table).
  type: dict
"""


@guarded
def inference_plan(model: t.Any, hosts: t.Any, options: t.Any = None) -> dict[str, t.Any]:
    document = core.plan(unlazy(model), unlazy(hosts), unlazy(options))
    return {"document": document, "summary": view.summary(document), "figures": view.figures(document), "overhead": view.overhead(document)}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"inference_plan": inference_plan}
