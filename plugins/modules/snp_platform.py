#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: snp_platform
short_description: Commit the firmware of an SEV-SNP host, set what its reports say, and load a VLEK
version_added: 0.1.0
description:
  - Reads the state of AMD's firmware from C(/dev/sev), and runs C(snphost) for what differs. The state is read again after each run, and must be what
    was asked for.
  - A commit comes first, because it takes back a TCB that was set to be reported; a VLEK comes last, because the firmware may drop it before.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
    details: Nothing is run. What would be run is in RV(acts).
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - The firmware does not tell the committed TCB. It is known to be the current one where the reported TCB is the current one, because that is never
        higher than the committed one; and where O(record) says that this very firmware was committed.
      - Of a VLEK the firmware tells only whether there is one. Which file it was is in O(record).
requirements:
  - C(snphost) on the machine, unless nothing is to be done
options:
  commit:
    description: Commit the firmware that runs, so that no older one is ever taken again. B(This cannot be undone.)
    type: bool
    default: false
  config:
    description:
      - V(set) sets O(reported_tcb), O(mask_chip_id) and O(mask_chip_key).
      - V(reset) lets reports carry the committed TCB again, and unmasks everything.
      - V(keep) leaves them.
    type: str
    choices: [keep, set, reset]
    default: keep
  reported_tcb:
    description: The TCB that reports shall carry, each component from 0 to 255. At most the committed one. Without it, what is reported stays.
    type: dict
    suboptions:
      fmc:
        description: Mandatory on Turin, refused elsewhere.
        type: int
      bootloader:
        description: Version of the boot loader.
        type: int
        required: true
      tee:
        description: Version of the TEE.
        type: int
        required: true
      snp:
        description: Version of the SNP firmware.
        type: int
        required: true
      microcode:
        description: Version of the microcode.
        type: int
        required: true
  mask_chip_id:
    description: Whether reports hide the chip's id. Nobody can fetch a VCEK for them then. Without it, it stays.
    type: bool
  mask_chip_key:
    description: Whether the chip's own key signs no reports. Without it, it stays.
    type: bool
  vlek:
    description: A file with a wrapped VLEK hashstick of AMD's, on the machine. Loaded unless one is loaded already.
    type: path
  record:
    description: Where it is noted what was committed and loaded, for the next run.
    type: path
    default: /var/lib/attested-ai/snp-platform.json
notes:
  - Run it as root (C(become)).
  - The settings do not outlive a reset of the firmware. Run the task again after one.
seealso:
  - name: Role attested.ai.snp_host
    description: Asks for the confirmation that an irreversible act needs.
    link: https://github.com/attested-ai/attested.ai
"""

EXAMPLES = r"""
- name: Report a lower TCB until all verifiers know the new one
  attested.ai.snp_platform:
    config: set
    reported_tcb: {bootloader: 4, tee: 0, snp: 24, microcode: 219}
  become: true

- name: Report what is committed, and the chip's id
  attested.ai.snp_platform:
    config: reset
  become: true

- name: See what a commit would do
  attested.ai.snp_platform:
    commit: true
  become: true
  check_mode: true
  diff: true
"""

RETURN = r"""
acts:
  description: What was run, or would be in check mode. Empty where nothing was to be done.
  returned: success
  type: list
  elements: dict
  contains:
    act:
      description: V(commit), V(config) or V(vlek).
      type: str
    arguments:
      description: Arguments of C(snphost).
      type: list
      elements: str
    why:
      description: Why it is needed.
      type: str
  sample: [{act: commit, arguments: [commit], why: the reported TCB is lower than the current one}]
before:
  description: What the firmware said before.
  returned: success
  type: dict
  sample: &state
    firmware: 1.55.38
    current_tcb: {bootloader: 4, tee: 0, snp: 24, microcode: 219}
    reported_tcb: {bootloader: 4, tee: 0, snp: 23, microcode: 213}
    mask_chip_id: false
    mask_chip_key: false
    vlek: false
after:
  description: What it says now, or would in check mode. C(reported_tcb) is null where only the firmware knows.
  returned: success
  type: dict
  sample: *state
notes:
  description: Why something was left as it is.
  returned: success
  type: list
  elements: str
  sample: ["the firmware 1.55.38 is committed: the reported TCB is the current one"]
code:
  description: A stable word for the reason of a failure, V(snp-status), V(snp-not-initialized), V(snp-product), V(snp-tcb), V(snphost-missing),
    V(snphost-failed), V(snp-not-applied), V(snp-vlek) or V(host).
  returned: failure
  type: str
  sample: snp-tcb
"""

import hashlib
import json
import os
import tempfile
from typing import Any, Dict, Mapping, NoReturn, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.snp.acting import Tools, carry_out, chips, look
from ansible_collections.attested.ai.plugins.module_utils.target.snp.platform import Wish, plan

HASHSTICK = 432
ARGUMENT_SPEC = {
    "commit": {"type": "bool", "default": False},
    "config": {"type": "str", "choices": ["keep", "set", "reset"], "default": "keep"},
    "reported_tcb": {
        "type": "dict",
        "options": {"fmc": {"type": "int"}, **{name: {"type": "int", "required": True} for name in ("bootloader", "tee", "snp", "microcode")}},
    },
    "mask_chip_id": {"type": "bool"},
    "mask_chip_key": {"type": "bool", "no_log": False},
    "vlek": {"type": "path"},
    "record": {"type": "path", "default": "/var/lib/attested-ai/snp-platform.json"},
}


def digest_of(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(HASHSTICK + 1)
    except OSError as error:
        raise HostError("it cannot be read: %s" % error.strerror, where=path, code="snp-vlek") from None
    if len(data) != HASHSTICK or not any(data):
        raise HostError(
            "it is no wrapped VLEK hashstick, which has %d bytes" % HASHSTICK, where=path, fix="Fetch it with snphost fetch hashsticks", code="snp-vlek"
        )
    return hashlib.sha256(data).hexdigest()


def read_record(path: str, known: Sequence[str]) -> Dict[str, Any]:
    """What was noted for these chips. A file of another machine, or a damaged one, counts for nothing."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if known and isinstance(found, dict) and found.get("chips") == list(known) else {}


def tools_of(module: AnsibleModule) -> Tools:
    program = module.get_bin_path("snphost", opt_dirs=["/usr/local/bin", "/usr/sbin"])

    def snphost(arguments: Sequence[str]) -> Tuple[int, str, str]:
        if program is None:
            raise HostError("snphost is not installed", fix="Install it (https://github.com/virtee/snphost), and run the task again", code="snphost-missing")
        return module.run_command([program, *arguments], errors="replace")

    def note(record: Mapping[str, Any]) -> None:
        path = module.params["record"]
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            handle, scratch = tempfile.mkstemp(dir=module.tmpdir)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(record, stream, sort_keys=True)
            module.atomic_move(scratch, path)
        except OSError as error:
            raise HostError("it was done, and cannot be noted: %s" % error.strerror, where=path) from None

    return Tools(snphost, note)


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}
    try:
        host, file = LocalHost(), options["vlek"] or ""
        wish = Wish(options["commit"], options["config"], options["reported_tcb"], options["mask_chip_id"], options["mask_chip_key"],
                    file, digest_of(file) if file else "")  # fmt: skip
        now = look(host)
        record = read_record(options["record"], chips(host))
        change = plan(now, wish, record)
        after, changed = (change.after, bool(change.acts)) if module.check_mode else carry_out(host, change, wish, tools_of(module), record)
        module.exit_json(
            changed=changed, before=now.to_dict(), after=after.to_dict(), notes=list(change.notes),
            acts=[{"act": act.kind, "arguments": list(act.arguments), "why": act.why} for act in change.acts],
            diff={"before": now.text(), "after": after.text(), "before_header": "/dev/sev", "after_header": "/dev/sev"},
        )  # fmt: skip
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
