# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the role awx: from what is described to what AWX shall hold."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.awx import export, pack
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: awx_pack
short_description: Make the objects of AWX from their description
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes the description of credential types, job templates, a workflow and schedules, as in C(files/pack.yml) of the role P(attested.ai.awx#role), and
    returns lists of options for the modules of C(awx.awx), under the names of variables that the roles of C(infra.aap_configuration) read.
  - Surveys are made from argument specifications of roles. They ask for texts, numbers, choices and booleans, and for secrets as passwords; they have no
    defaults, because these would beat the inventory.
positional: _input, settings, specifications
options:
  _input:
    description: The description.
    type: dict
    required: true
  settings:
    description: The settings of the role P(attested.ai.awx#role), without the prefix.
    type: dict
    required: true
  specifications:
    description: The options of roles, by the names of the roles.
    type: dict
    required: true
seealso:
  - plugin: attested.ai.awx_export
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show which job templates there will be
  ansible.builtin.debug:
    msg: "{{ (pack | attested.ai.awx_pack(settings, specifications)).controller_templates | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: Lists of objects by the names C(aap_organizations), C(controller_credential_types), C(controller_templates) and the like.
  type: dict
"""


@guarded
def awx_pack(data: t.Any, settings: t.Any, specifications: t.Any) -> dict[str, t.Any]:
    return pack.pack(unlazy(data), unlazy(settings), unlazy(specifications))


@guarded
def awx_export(objects: t.Any) -> str:
    return export.export(unlazy(objects))


class FilterModule:
    """Filters of the role awx."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"awx_pack": awx_pack, "awx_export": awx_export}
