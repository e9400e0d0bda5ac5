# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter for paths on the controller that users give to playbooks of this collection."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.attested.ai.plugins.plugin_utils.local_path import absolute

DOCUMENTATION = r"""
name: controller_path
short_description: Make a path on the controller absolute, as the collection's own tasks do
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Relative paths begin at the playbook, so that a run from another working directory does not find another ledger.
  - A playbook that was started by the name of its collection lies inside of the collection, where nobody keeps files. Then they begin at the folder where
    it was started.
positional: _input, playbook_dir
options:
  _input:
    description: The path. An empty one stays empty, and C(~) is the home of the user who runs Ansible.
    type: str
    required: true
  playbook_dir:
    description: The variable of this name.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Read a file of the user's
  ansible.builtin.set_fact:
    my_policy: "{{ lookup('ansible.builtin.file', my_policy_file | attested.ai.controller_path(playbook_dir)) }}"
"""

RETURN = r"""
_value:
  description: The absolute path.
  type: str
"""


def controller_path(path: t.Any, playbook_dir: t.Any) -> str:
    for value in (path, playbook_dir):
        if not isinstance(value, str):
            raise AnsibleFilterError("attested.ai.controller_path: a path was expected, this is %s" % type(value).__name__)
    return absolute(str(playbook_dir), str(path)) if path else ""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., str]]:
        return {"controller_path": controller_path}
