#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_ready_state
short_description: Let the GPUs of a confidential guest take work, after they were attested
version_added: 0.1.0
description:
  - Sets the ready state of all GPUs of a guest (C(nvidia-smi conf-compute -srs)). Before that CUDA answers with error 802, and with some programs the work is
    done on the CPU without a word.
  - V(ready) needs the result of an attestation that was accepted and covers every GPU of the guest. This keeps a play from doing it in the wrong order.
    It is no protection against who controls the guest.
  - The state is lost when the guest stops.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description: V(not_ready) takes it back, and needs no attestation.
    type: str
    choices: [ready, not_ready]
    default: ready
  attestation:
    description: The RV(attested.ai.attest#module:result) of M(attested.ai.attest) with O(attested.ai.attest#module:gpus=required), of this run.
    type: dict
  nvidia_smi:
    description: NVIDIA's tool, a name or a path.
    type: str
    default: nvidia-smi
  root:
    description: Folder that stands for C(/) when the GPUs are counted.
    type: path
    default: /
notes:
  - Run it as root (C(become)).
seealso:
  - module: attested.ai.attest
  - module: attested.ai.gpu_guest_info
"""

EXAMPLES = r"""
- name: Attest CPU and GPUs
  attested.ai.attest:
    policy: policy.yml
    reference_values: reference-values.yml
    collateral: [collateral]
    gpus: required
  register: attested

- name: Let the GPUs take work
  attested.ai.gpu_ready_state:
    attestation: "{{ attested.result }}"
  become: true
"""

RETURN = r"""
ready:
  description: Whether the GPUs take work now, or would in check mode.
  returned: success
  type: bool
  sample: true
code:
  description: A stable word for the reason of a failure, V(gpu-not-attested), V(gpu-state) or V(gpu-no-driver).
  returned: failure
  type: str
  sample: gpu-not-attested
"""

from typing import NoReturn, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.inventory import read_inventory
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.ready import apply, plan, require_attested
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["ready", "not_ready"], "default": "ready"},
    "attestation": {"type": "dict"},
    "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
    "root": {"type": "path", "default": "/"},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options, wanted = module.params, module.params["state"] == "ready"
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}

    def run(argv: Sequence[str]) -> Tuple[int, str]:
        rc, out, err = module.run_command(list(argv), handle_exceptions=False, errors="replace")
        return rc, out + err

    try:
        if wanted:
            require_attested(options["attestation"], len(read_inventory(LocalHost(root=options["root"].rstrip("/"))).gpus))
        change = plan(run, options["nvidia_smi"], wanted)
        if change.needed and not module.check_mode:
            apply(run, options["nvidia_smi"], change)
        module.exit_json(changed=change.needed, ready=wanted, diff={"before": change.before + "\n", "after": change.after + "\n"})
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
