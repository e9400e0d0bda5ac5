#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: file_tree
short_description: Make a folder hold exactly these files
version_added: 0.1.0
description:
  - Writes files below a folder and removes every other file there, in one task. What an earlier run with other settings left cannot stay.
  - RV(digest) tells one tree from another, by paths, modes and contents.
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
  path:
    description: The folder. It is made if it is not there.
    type: path
    required: true
  files:
    description:
      - The files by their paths inside of it. Each has C(content), a text, and can have C(mode), such as V("0755"); otherwise it is V("0644").
      - Not for secrets, the contents are shown in diff mode.
    type: dict
    required: true
  leave:
    description: Folders inside of it that somebody else keeps. They are neither looked at nor part of RV(digest).
    type: list
    elements: str
    default: []
seealso:
  - module: ansible.builtin.copy
"""

EXAMPLES = r"""
- name: Exactly these settings
  attested.ai.file_tree:
    path: /etc/example.d
    files:
      10-first.conf: {content: "a = 1\n"}
      hooks/run: {content: "#!/bin/sh\n", mode: "0755"}
  become: true
"""

RETURN = r"""
digest:
  description: SHA-256 over paths, modes and contents.
  returned: success
  type: str
  sample: f30b8d4881321933df55921a06743ce7da6e57cf300f97b5d899260d16721b69
written:
  description: Paths that were written, or would be.
  returned: success
  type: list
  elements: str
  sample: [10-first.conf]
removed:
  description: Paths that were removed, or would be.
  returned: success
  type: list
  elements: str
  sample: []
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: host
"""

import os
import tempfile
from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.file_tree import TreeChange, change_of, digest_of, listing, present_tree, wanted_tree

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "files": {"type": "dict", "required": True},
    "leave": {"type": "list", "elements": "str", "default": []},
}


def apply(module: AnsibleModule, root: str, change: TreeChange) -> None:
    os.makedirs(root, exist_ok=True)
    # What goes may be a file where a folder shall be.
    for path in change.remove:
        os.unlink(os.path.join(root, path))
    for path, entry in change.write:
        place = os.path.join(root, path)
        if os.path.isdir(place) and not os.path.islink(place):
            _remove_empty(place)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(handle, "wb") as stream:
            stream.write(entry.content)
        os.chmod(scratch, entry.mode)
        if os.path.islink(place):
            os.unlink(place)
        module.atomic_move(scratch, place)
        os.chmod(place, entry.mode)


def _remove_empty(place: str) -> None:
    """A folder whose files are gone; os.rmdir refuses one that still holds something."""
    for folder, _names, _files in os.walk(place, topdown=False):
        os.rmdir(folder)


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    try:
        wanted = wanted_tree(options["files"])
        present = present_tree(options["path"], tuple(options["leave"]))
        change = change_of(present, wanted)
        if change.needed and not module.check_mode:
            apply(module, options["path"], change)
        module.exit_json(
            changed=change.needed, digest=digest_of(wanted), written=[path for path, _entry in change.write], removed=list(change.remove),
            diff={"before": listing(present), "after": listing(wanted), "before_header": options["path"], "after_header": options["path"]},
        )  # fmt: skip
    except OSError as error:
        error = HostError(error.strerror or "it cannot be written", where=str(error.filename or options["path"]))
        module.fail_json(msg=str(error), code=error.code)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
