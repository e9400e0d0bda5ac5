#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trustee_backup
short_description: Save and restore what a key broker of Confidential Containers holds
version_added: 0.1.0
description:
  - Saves folders of a key broker (configuration, keys, data) into one file that only its owner may read, and reads it again whole before it gets its name.
  - Restores such a file. All of it is compared with its list, extracted beside the folders and compared again; then the folders change places. What was
    there stays beside each, with C(.attested-before) added.
  - The file holds every secret of the key broker as it is. Keep it where the key broker itself could be kept. The module does not stop services.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: What it moves are secrets.
  idempotent:
    support: full
    details: Nothing is saved if nothing has changed since the newest backup, and nothing restored if all is as in the backup.
options:
  state:
    description: V(saved) makes a backup if something has changed, V(restored) puts O(archive) back.
    type: str
    choices: [saved, restored]
    default: saved
  folders:
    description: Folders by a short name each. The names are in the backup, the paths are not.
    type: dict
    required: true
  directory:
    description: The folder of backups, with V(saved). It is made, for its owner alone.
    type: path
  name:
    description: What the files begin with.
    type: str
    default: trustee
  keep:
    description: How many backups stay.
    type: int
    default: 14
  archive:
    description: The backup, with V(restored).
    type: path
  sha256:
    description: Its SHA-256, as it was returned when it was made. Without it a backup that somebody replaced is not noticed.
    type: str
    default: ""
  owner:
    description: User to whom what is restored belongs, with that user's own group.
    type: str
  about:
    description: What the backup tells of itself, such as the version of Trustee. No secrets.
    type: dict
    default: {}
seealso:
  - module: attested.ai.trustee_keys
"""

EXAMPLES = r"""
- name: Save the key broker
  attested.ai.trustee_backup:
    folders: {keys: /etc/trustee/keys, data: /var/lib/trustee}
    directory: /var/backups/trustee
  become: true
  register: backup

- name: Put it back
  attested.ai.trustee_backup:
    state: restored
    folders: {keys: /etc/trustee/keys, data: /var/lib/trustee}
    archive: /var/backups/trustee/trustee-20260131T120000Z.tar
    sha256: 5e583a99031af15025cdc9714d2e6f16248b12c9c26186c0738694aab415616a
    owner: trustee
  become: true
"""

RETURN = r"""
archive:
  description: The backup; empty where check mode would make one.
  returned: success
  type: str
  sample: /var/backups/trustee/trustee-20260131T120000Z.tar
sha256:
  description: Its SHA-256. Note it elsewhere.
  returned: success
  type: str
  sample: 5e583a99031af15025cdc9714d2e6f16248b12c9c26186c0738694aab415616a
files:
  description: How many files it holds.
  returned: success
  type: int
  sample: 17
kept:
  description: Where what was there before a restore is now, by the names of folders.
  returned: success, with O(state=restored)
  type: dict
  sample: {data: /var/lib/trustee.attested-before}
about:
  description: What the backup tells of itself.
  returned: success
  type: dict
  sample: {version: 0.21.0}
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: trustee-backup-damaged
"""

import datetime
import pwd
from typing import Any, Dict, NoReturn, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors
from ansible_collections.attested.ai.plugins.module_utils.trustee import archive, backup
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["saved", "restored"], "default": "saved"},
    "folders": {"type": "dict", "required": True},
    "directory": {"type": "path"},
    "name": {"type": "str", "default": "trustee"},
    "keep": {"type": "int", "default": 14},
    "archive": {"type": "path"},
    "sha256": {"type": "str", "default": ""},
    "owner": {"type": "str"},
    "about": {"type": "dict", "default": {}},
}


def save(given: Dict[str, Any], check: bool) -> Dict[str, Any]:
    if given["keep"] < 1:
        raise TrusteeError("at least one backup has to stay", where="keep", code="trustee-options")
    entries = archive.survey(given["folders"])
    last = backup.newest(given["directory"], given["name"])
    told = {"files": len(entries), "about": given["about"]}
    if last is not None and last.digest == archive.digest_of(entries):
        return dict(told, changed=False, archive=last.path, sha256=last.sha256)
    if check:
        return dict(told, changed=True, archive="", sha256="")
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    made = backup.make(given["folders"], given["directory"], given["name"], stamp, given["about"], entries, given["keep"])
    return dict(told, changed=True, archive=made.path, sha256=made.sha256)


def restore(given: Dict[str, Any], check: bool) -> Dict[str, Any]:
    about, entries = archive.verify(given["archive"], given["sha256"].lower())
    told = {"files": len(entries), "about": about, "archive": given["archive"], "sha256": given["sha256"], "kept": {}}
    if _same(given["folders"], entries):
        return dict(told, changed=False)
    if check:
        return dict(told, changed=True)
    return dict(told, changed=True, kept=backup.restore(given["archive"], entries, given["folders"], owner_of(given["owner"])))


def _same(folders: Dict[str, str], entries: list) -> bool:
    try:
        found = archive.survey(folders)
    except AttestedError:
        return False
    return [(one.path, one.sha256) for one in found] == [(one.path, one.sha256) for one in entries]


def owner_of(name: Optional[str]) -> Optional[Tuple[int, int]]:
    try:
        found = pwd.getpwnam(name) if name else None
    except KeyError:
        raise TrusteeError("there is no user %s" % name, where="owner", code="trustee-owner") from None
    return (found.pw_uid, found.pw_gid) if found else None


def main() -> NoReturn:
    needed = [("state", "saved", ["directory"]), ("state", "restored", ["archive"])]
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_if=needed, supports_check_mode=True)
    try:
        with signals_as_errors():
            act = save if module.params["state"] == "saved" else restore
            result = act(module.params, module.check_mode)
        module.exit_json(**result)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
