#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: summary_table
short_description: Print a table for people at the end of a run
version_added: 0.1.0
description:
  - Prints an aligned plain-text table on the controller, once, whatever the number of hosts in the play.
  - Each row is coloured by its outcome where Ansible uses colours. No information is in the colour alone.
  - The last column is wrapped to the width of the terminal. The log file receives the table without colours.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  title:
    description: A line above the table.
    type: str
  columns:
    description: The columns from left to right.
    type: list
    elements: dict
    required: true
    suboptions:
      key:
        description: Name of the value in each row.
        type: str
        required: true
      title:
        description: Heading of the column. The default is O(columns[].key).
        type: str
      align:
        description: Where the text stands in the column.
        type: str
        choices: [left, right]
        default: left
  rows:
    description:
      - The rows, each a dictionary with a value for each column. A missing value is shown as a dash.
      - Line breaks and control characters in values become spaces, so that a value cannot draw on the terminal.
    type: list
    elements: dict
    required: true
  outcome:
    description:
      - Key of the value that colours the row. Good are V(accepted), V(affirming), V(equal), V(ok), V(pass), V(released);
        bad are V(contraindicated), V(differs), V(fail), V(failed), V(refused);
        all others, such as V(not_checked) and V(warning), stand between.
      - The value needs no column of its own.
    type: str
  notes:
    description: Lines below the table.
    type: list
    elements: str
    default: []
  width:
    description: Width to wrap to, in characters. The default is C(COLUMNS) of the environment, else the width of the terminal, else 79.
    type: int
seealso:
  - name: Role attested.ai.report
    description: The same as an HTML page.
    link: https://github.com/attested-ai/attested.ai
"""

EXAMPLES = r"""
- name: Show what came of it
  attested.ai.summary_table:
    title: Attestation
    columns:
      - {key: guest, title: Guest}
      - {key: outcome, title: Outcome}
      - {key: checks, title: Checks, align: right}
      - {key: reason, title: Reason}
    outcome: outcome
    rows:
      - {guest: guest1, outcome: accepted, checks: 41, reason: affirming}
      - {guest: guest2, outcome: refused, checks: 41, reason: "policy.debug: the guest can be debugged by its host"}
    notes:
      - "Report: report/report.html"
"""

RETURN = r"""
lines:
  description: The lines as printed, without colours.
  returned: always
  type: list
  elements: str
  sample:
    - "Guest   Outcome   Checks  Reason"
    - "guest1  accepted      41  affirming"
"""
