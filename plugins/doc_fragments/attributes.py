# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Attribute descriptions shared by the documentation of all modules and action plugins."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and tell the truth about what it would change, without changing anything.
  diff_mode:
    description: Returns what it changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system queried by the module has not changed in a relevant way.
"""

    ACTIONGROUP_AI = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/attested.ai.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - attested.ai.all
"""

    CONTROLLER = r"""
options: {}
attributes:
  action:
    description: Has a corresponding action plugin, so parts of the options are executed on the controller.
    support: full
"""
