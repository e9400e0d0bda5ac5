#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: tee_guest_info
short_description: Tell whether a guest's operating system keeps what its TEE protects
version_added: 0.1.0
description:
  - A TEE encrypts a guest's memory. This looks for the ways by which a guest gives its memory, its keys or its trust away all the same. These are swap on a
    disk, core dumps, host keys of SSH on a disk, time and randomness of the host, and agents of a cloud.
  - Nothing is changed. It runs C(systemctl show), C(modprobe --show-depends) and C(dmsetup table), which only read.
  - All answers are claims of the machine about itself. They help to set it up, and prove nothing; evidence does, see M(attested.ai.attest).
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
    details: Nothing is changed, so it does the same in check mode.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: N/A
    details: Nothing is changed.
options:
  ssh_dir:
    description: Directory with the configuration and the host keys of the SSH server.
    type: path
    default: /etc/ssh
notes:
  - Run it as root (C(become)). Otherwise some answers are V(unknown).
  - Python's standard library is enough on the machine.
seealso:
  - module: attested.ai.tee_info
  - name: Role attested.ai.tee_guest
    description: Sets all of this.
    link: https://github.com/attested-ai/attested.ai
"""

EXAMPLES = r"""
- name: Look at the guest
  attested.ai.tee_guest_info:
  become: true
  register: guest

- name: Show who else can do what to it
  attested.ai.summary_table:
    columns: [{key: subject, title: What}, {key: who, title: Who}, {key: can, title: Can}]
    rows: "{{ guest.told }}"
"""

RETURN = r"""
verdict:
  description: V(ready) if no probe failed and none is unknown, V(not-ready) if one failed, otherwise V(unknown).
  returned: success
  type: str
  sample: not-ready
counts:
  description: Number of probes by outcome.
  returned: success
  type: dict
  sample: {pass: 8, fail: 2, unknown: 0, skipped: 1}
cloud:
  description: Where it runs, as its firmware tables say. V(azure), V(gcp), V(aws), V(kvm) or V(none).
  returned: success
  type: str
  sample: azure
tee:
  description: The TEE that it claims to run in, as of RV(attested.ai.tee_info#module:tee).
  returned: success
  type: str
  sample: tdx
driver:
  description: The kernel module that evidence comes from, and whether the kernel has it (V(builtin), V(module), V(missing), V(unknown)). Null without a TEE.
  returned: success
  type: dict
  sample: {module: tdx-guest, available: module}
agents:
  description:
    - Agents of a cloud or a host that are installed. C(state) is V(runs), V(off) or V(masked), C(units) those that are not masked,
      C(can) what whoever speaks to it can do, C(without) what is lost without it.
    - Null where systemd does not tell.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: cloud-init, state: runs, units: [cloud-init.service], can: runs user data as root, without: network settings stay as they are now}
swaps:
  description: Names of what is swapped on. Null where that cannot be read.
  returned: success
  type: list
  elements: str
  sample: [/dev/vda2]
storage:
  description:
    - What its memory and its files lie on. C(layers) are the targets of the device mapper above a disk, from above, such as V(crypt) and V(verity);
      V(memory) and V(zram) for memory, with V(written-back) where zram has a disk behind it; empty for a disk as it is, null where it cannot be told.
    - C(swaps), C(mounts) of devices and of the places where secrets are, C(devices) of the device mapper with C(target), C(cipher) and what they lie C(on),
      and C(models), which are the mounts that only the units of P(attested.ai.model_server#role) see, null if not root asks.
    - No key is looked at.
  returned: success
  type: dict
  sample:
    swaps: []
    devices: [{name: root, target: verity, cipher: "", "on": [vda2, vda3]}]
    mounts: [{path: /, kind: erofs, layers: [verity], noswap: false}, {path: /run, kind: tmpfs, layers: [memory], noswap: false}]
    models: [{unit: attested-model-minilm@0d5c4f3e9f7b1a7f.service,
              mounts: [{path: /var/lib/attested-model/open, kind: tmpfs, layers: [memory], noswap: true}]}]
running_kdump:
  description: Services that write the memory of a crashed kernel to a disk.
  returned: success
  type: list
  elements: str
  sample: [kdump-tools.service]
time_service:
  description: The service that keeps the time. Empty if there is none.
  returned: success
  type: str
  sample: chrony.service
ssh:
  description: C(storage) of the private keys (V(memory), V(disk), V(unknown)), the public C(keys), their C(paths), and the C(problem). Null without a server.
  returned: success
  type: dict
  sample: {storage: memory, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM], paths: [/run/attested_hostkeys/ed25519_key.pub], problem: ""}
told:
  description: What others than the guest decide, which is not wrong by itself. C(subject), C(who), what they C(can) do, and what helps (C(fix)).
  returned: success
  type: list
  elements: dict
  sample:
    - {subject: clock kvm-clock, who: the host, can: "let the guest's time run fast, slow or back", fix: Boot with clocksource=tsc}
probes:
  description: The probes, in the form of RV(attested.ai.tee_info#module:probes).
  returned: success
  type: list
  elements: dict
  sample:
    - id: guest-os.swap
      area: memory
      outcome: fail
      observed: swap is active on '/dev/vda2'
      expected: no swap, or swap on zram in memory only
      source: /proc/swaps
      fix: "Turn it off (tee_guest_swap: off)"
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: host
"""

from typing import NoReturn, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os import ssh
from ansible_collections.attested.ai.plugins.module_utils.target.guest_os.look import look
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost

ARGUMENT_SPEC = {"ssh_dir": {"type": "path", "default": "/etc/ssh"}}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}

    def run(argv: Sequence[str]) -> Tuple[int, str]:
        rc, out, _err = module.run_command(list(argv), handle_exceptions=False, errors="replace")
        return rc, out

    try:
        module.exit_json(changed=False, **look(LocalHost(run), ssh.look(module.params["ssh_dir"])))
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
