#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: overhead_measure
short_description: Measure one side of the overhead of confidential computing
version_added: 0.1.0
description:
  - Measures how long processor, memory, files, evidence, GPU and a model server take, several rounds of everything in turn, and returns all figures. Two
    such documents, one with confidential computing and one without, are compared by the filter P(attested.ai.overhead_compare#filter).
  - Python's standard library is enough. NumPy and PyTorch are used where they are installed already, and what cannot be measured is named with its reason.
  - Nothing is changed. It puts load on the machine, writes one file that it removes at once, and sends requests to O(serving_url).
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: none
    details: It is skipped, because a measurement puts load on the machine and on the server.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: N/A
    details: Nothing is changed.
options:
  parts:
    description:
      - What is measured. V(file) reads a file of its own, V(model) the files at O(model), V(attestation) makes evidence as M(attested.ai.tee_evidence) does,
        V(gpu) uses the first CUDA device.
    type: list
    elements: str
    choices: [cpu, memory, file, model, attestation, gpu, serving]
    default: [cpu, memory, file, attestation, gpu]
  rounds:
    description:
      - How often each measurement is taken, from 1 to 1000. Only their median counts in a comparison, which needs several calls of this module on each side.
    type: int
    default: 3
  warmup:
    description: Rounds before them that are not counted, from 1 to 100.
    type: int
    default: 1
  sizes:
    description: Sizes of copies in memory, in bytes.
    type: list
    elements: int
    default: [4096, 1048576, 67108864]
  gpu_sizes:
    description: Sizes of copies to and from the GPU, in bytes.
    type: list
    elements: int
    default: [4096, 1048576, 67108864, 1073741824]
  file_size:
    description: Size of the file that is written once and read in each round, in bytes.
    type: int
    default: 67108864
  directory:
    description: Where that file lies. It must be on the disk that shall be measured; a tmpfs measures memory. The default is the directory for temporary files.
    type: path
  model:
    description: A model's directory or file that is read for the part V(model). Its content stays on the machine.
    type: path
  tsm_path:
    description: Directory of the kernel's report interface.
    type: path
    default: /sys/kernel/config/tsm/report
  swiotlb_path:
    description: Directory where the kernel shows its bounce buffers.
    type: path
    default: /sys/kernel/debug/swiotlb
  serving_url:
    description: Where requests go for the part V(serving), such as V(https://127.0.0.1:8443/v1/chat/completions).
    type: str
  serving_body:
    description:
      - The request, sent as JSON. The server has to answer with server-sent events, one for each token; servers with OpenAI's interface do with C(stream=true).
    type: dict
  serving_headers:
    description: Further headers, such as one with a key. They are in no log and in no document.
    type: dict
  serving_ca:
    description: File with the certificates that the server's has to come from. The default are those of the machine.
    type: path
  serving_timeout:
    description: Seconds within which the server must send the next bytes, from 1 to 3600.
    type: int
    default: 120
  concurrency:
    description: How many requests are sent at once, one measurement for each number.
    type: list
    elements: int
    default: [1, 8, 64]
notes:
  - Run it as root (C(become)) for evidence and bounce buffers.
seealso:
  - plugin: attested.ai.overhead_compare
    plugin_type: filter
  - module: attested.ai.tee_evidence
"""

EXAMPLES = r"""
- name: Measure this side
  attested.ai.overhead_measure:
    parts: [cpu, memory, file, attestation]
  become: true
  register: measured

- name: Measure a model server, too
  attested.ai.overhead_measure:
    parts: [serving]
    serving_url: http://127.0.0.1:8000/v1/chat/completions
    serving_body: {model: llama, stream: true, max_tokens: 128, messages: [{role: user, content: Count to a hundred}]}
    concurrency: [1, 8, 64]
"""

RETURN = r"""
document:
  description:
    - The figures of this side, in the schema C(attested.ai/overhead/1). C(machine) is what the machine says of itself, C(settings) what must be the same on
      the other side, C(measures) the seconds of each round by name, C(absent) what could not be measured and why, C(swiotlb) the bounce buffers.
  returned: success
  type: dict
  sample:
    schema: attested.ai/overhead/1
    machine: {architecture: x86_64, cpus: 8, kernel: 6.12.0, tee: tdx}
    settings: {rounds: 2}
    measures: {cpu.hash: {seconds: [0.0005, 0.0005], bytes: 1048576}}
    absent: {gpu: PyTorch is not there}
    swiotlb: {slots: 32768, used_before: 12, used_most: 640}
code:
  description: A stable word for the reason of a failure, for instance V(nothing-measured), V(settings), V(model-path) or V(serving-url).
  returned: failure
  type: str
  sample: nothing-measured
"""

import json
import tempfile
from typing import Any, Dict, NoReturn, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.serving import Endpoint
from ansible_collections.attested.ai.plugins.module_utils.benchmark.run import Wanted, measure
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors

ARGUMENT_SPEC = {
    "parts": {
        "type": "list",
        "elements": "str",
        "choices": ["cpu", "memory", "file", "model", "attestation", "gpu", "serving"],
        "default": ["cpu", "memory", "file", "attestation", "gpu"],
    },
    "rounds": {"type": "int", "default": 3},
    "warmup": {"type": "int", "default": 1},
    "sizes": {"type": "list", "elements": "int", "default": [4096, 1048576, 67108864]},
    "gpu_sizes": {"type": "list", "elements": "int", "default": [4096, 1048576, 67108864, 1073741824]},
    "file_size": {"type": "int", "default": 67108864},
    "directory": {"type": "path"},
    "model": {"type": "path"},
    "tsm_path": {"type": "path", "default": "/sys/kernel/config/tsm/report"},
    "swiotlb_path": {"type": "path", "default": "/sys/kernel/debug/swiotlb"},
    "serving_url": {"type": "str"},
    "serving_body": {"type": "dict"},
    "serving_headers": {"type": "dict", "no_log": True},
    "serving_ca": {"type": "path"},
    "serving_timeout": {"type": "int", "default": 120},
    "concurrency": {"type": "list", "elements": "int", "default": [1, 8, 64]},
}


def endpoint(params: Dict[str, Any]) -> Optional[Endpoint]:
    if not params["serving_url"]:
        return None
    body = json.dumps(params["serving_body"] or {}, sort_keys=True).encode()
    headers = {str(name): str(value) for name, value in (params["serving_headers"] or {}).items()}
    return Endpoint(params["serving_url"], body, headers, params["serving_ca"], params["serving_timeout"])


def wanted(params: Dict[str, Any]) -> Wanted:
    same = ("parts", "rounds", "warmup", "sizes", "gpu_sizes", "file_size", "model", "tsm_path", "concurrency")
    directory = params["directory"] or tempfile.gettempdir()
    return Wanted(swiotlb=params["swiotlb_path"], directory=directory, endpoint=endpoint(params), **{name: params[name] for name in same})


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=False)
    try:
        with signals_as_errors():
            document = measure(wanted(module.params), LocalHost())
        module.exit_json(changed=False, document=document)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
