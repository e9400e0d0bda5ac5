#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: tdx_module
short_description: Put Intel's TDX module on the EFI partition of a host, or take that back
version_added: 0.1.0
description:
  - The BIOS's loader takes the TDX module from C(EFI/TDX/TDX-SEAM.so) and C(EFI/TDX/TDX-SEAM.so.sigstruct) at the next boot, and only if Intel signed it.
  - A module is refused before anything is written if it has another digest than named, if the signature structure is of another module, if it is a debug
    module, if it is not for this CPU, or if its security version is lower than that of the running module. Where that is in no table of
    published modules, their builds are compared.
  - What was there before is kept, and V(absent) brings it back.
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
    details: Paths and digests.
  idempotent:
    support: full
options:
  state:
    description: V(absent) brings back what was there before the first V(present).
    type: str
    choices: [present, absent]
    default: present
  archive:
    description: Intel's C(intel_tdx_module.tar.gz), on the machine.
    type: path
  archive_sha256:
    description: SHA-256 of O(archive), 64 lower-case hexadecimal digits.
    type: str
  module:
    description: The module itself, C(intel_tdx_module.so), instead of O(archive).
    type: path
  module_sha256:
    description: SHA-256 of O(module).
    type: str
  sigstruct:
    description: Its signature structure.
    type: path
  sigstruct_sha256:
    description: SHA-256 of O(sigstruct).
    type: str
  esp:
    description: Where the EFI partition is mounted. Found at C(/boot/efi), C(/efi) or C(/boot) by default.
    type: path
  allow_older:
    description: Whether a module may have a lower security version than the running one.
    type: bool
    default: false
  aside:
    description: Folder for what was there before, and for the note of it.
    type: path
    default: /var/lib/attested-ai/tdx-module
notes:
  - Run it as root (C(become)).
  - Updates while guests run, without a reboot, are not made. M(attested.ai.tee_info) tells whether the kernel offers them.
seealso:
  - name: Role attested.ai.tdx_host
    description: Places the module, reboots, and verifies which one runs.
    link: https://github.com/attested-ai/attested.ai
"""

EXAMPLES = r"""
- name: Place the module of a release
  attested.ai.tdx_module:
    archive: /root/intel_tdx_module.tar.gz
    archive_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  become: true
  register: placed

- name: Boot with it
  ansible.builtin.reboot:
  become: true
  when: placed.reboot_required

- name: Bring back what was there before
  attested.ai.tdx_module:
    state: absent
  become: true
"""

RETURN = r"""
tdx_module:
  description: What the module says of itself. Its C(version) is null for a module that is not in the table of published ones.
  returned: when O(state=present)
  type: dict
  sample: {version: 1.5.08, mrseam: 49b66faa451d19eb, date: "20240725", svn: 7, cpus: ["0x806f0", "0xa06f0", "0xc06f0"]}
paths:
  description: The files on the EFI partition.
  returned: success
  type: list
  elements: str
  sample: [/boot/efi/EFI/TDX/TDX-SEAM.so, /boot/efi/EFI/TDX/TDX-SEAM.so.sigstruct]
reboot_required:
  description: Whether the files changed since the machine was booted, by whichever run.
  returned: success
  type: bool
  sample: true
code:
  description: A stable word for the reason of a failure, V(tdx-module-digest), V(tdx-module-form), V(tdx-module-debug), V(tdx-module-cpu),
    V(tdx-module-older), V(tdx-module-esp), V(tdx-module-kept), V(tdx-module-foreign) or V(host).
  returned: failure
  type: str
  sample: tdx-module-cpu
"""

import re
from typing import Any, Dict, NoReturn, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp import given, placing
from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp.disk import must_read, real_disk

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "archive": {"type": "path"},
    "archive_sha256": {"type": "str"},
    "module": {"type": "path"},
    "module_sha256": {"type": "str"},
    "sigstruct": {"type": "path"},
    "sigstruct_sha256": {"type": "str"},
    "esp": {"type": "path"},
    "allow_older": {"type": "bool", "default": False},
    "aside": {"type": "path", "default": "/var/lib/attested-ai/tdx-module"},
}


def files_of(options: Dict[str, Any]) -> Tuple[bytes, bytes]:
    if options["archive"] is not None:
        return given.unpacked(given.checked(must_read(options["archive"]), options["archive_sha256"], options["archive"]))
    module, sigstruct = (given.checked(must_read(options[name]), options[name + "_sha256"], options[name]) for name in ("module", "sigstruct"))
    return module, sigstruct


def text_of(host: LocalHost, path: str) -> str:
    found = host.text(path)
    if isinstance(found, Unreadable):
        raise HostError(found.reason, where=path)
    return found


def booted_at(host: LocalHost) -> int:
    match = re.search(r"^btime (\d{1,12})$", text_of(host, "/proc/stat"), re.MULTILINE)
    return int(match.group(1)) if match else 0


def planned(options: Dict[str, Any], host: LocalHost, disk: placing.Disk) -> Tuple[placing.Change, str, Dict[str, Any]]:
    """The change, the EFI partition ('' where nothing is to be taken back), and what the module says of itself."""
    mounts, booted = text_of(host, "/proc/mounts"), booted_at(host)
    if options["state"] == "present":
        files = files_of(options)
        signed = given.judged(host, *files, options["allow_older"])
        esp = placing.esp_of(mounts, options["esp"] or "")
        return placing.plan_present(disk, esp, options["aside"], files, booted), esp, {"tdx_module": signed.to_dict()}
    esp = placing.esp_of_state(disk, options["aside"])
    if esp:
        placing.esp_of(mounts, esp)
    return placing.plan_absent(disk, options["aside"], booted), esp, {}


def main() -> NoReturn:
    pairs = [(name, name + "_sha256") for name in ("archive", "module", "sigstruct")]
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC, supports_check_mode=True, mutually_exclusive=[("archive", "module"), ("archive", "sigstruct")],
        required_together=[*pairs, ("module", "sigstruct")], required_if=[("state", "present", ("archive", "module"), True)],
    )  # fmt: skip
    options = module.params
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}
    try:
        host, disk = LocalHost(lambda argv: module.run_command(list(argv), handle_exceptions=False, errors="replace")[:2]), real_disk()
        change, esp, result = planned(options, host, disk)
        if change.needed and not module.check_mode:
            placing.apply(disk, esp, options["aside"], change)
        diff = {"before": placing.text(change.before), "after": placing.text(change.after)}
        paths = ["%s/%s/%s" % (esp, placing.FOLDER, name) for name in placing.NAMES] if esp else []
        module.exit_json(changed=change.needed, paths=paths, reboot_required=change.reboot_required, diff=diff, **result)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
