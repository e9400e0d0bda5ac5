# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter of the role overhead_benchmark: two sides of a benchmark as one comparison."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.benchmark import compare as core
from ansible_collections.attested.ai.plugins.module_utils.benchmark import view
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: overhead_compare
short_description: Tell what confidential computing costs, from measurements with and without it
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes the documents of M(attested.ai.overhead_measure) of both sides and returns, for each measurement, the median of the paired ratios on/off, its
    bootstrap interval, the outliers, and how that stands to published figures.
  - Whatever else differs between the sides is named, and then nothing is held against published figures. Pure arithmetic; nothing is measured.
positional: _input, without
options:
  _input:
    description: The passes of the side with confidential computing, in their order. 12 are enough for 100 measurements at 95 %.
    type: list
    elements: dict
    required: true
  without:
    description: As many passes of the side without.
    type: list
    elements: dict
    required: true
  confidence:
    description: With what confidence all intervals together hold, from 0.5 to below 1.
    type: float
    default: 0.95
seealso:
  - module: attested.ai.overhead_measure
  - plugin: attested.ai.inference_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what it costs
  attested.ai.summary_table:
    columns: "{{ compared.columns }}"
    rows: "{{ compared.rows }}"
    notes: "{{ compared.notes }}"
    outcome: outcome
  vars:
    compared: "{{ with_cc | attested.ai.overhead_compare(without) }}"
"""

RETURN = r"""
_value:
  description:
    - C(document) is the comparison in the schema C(attested.ai/overhead-comparison/1). C(columns), C(rows) and C(notes) are for M(attested.ai.summary_table).
      C(table) is one of C(report_tables) of the role P(attested.ai.report#role).
  type: dict
"""


@guarded
def overhead_compare(given: t.Any, without: t.Any, confidence: t.Any = 0.95) -> dict[str, t.Any]:
    document = core.compare(unlazy(given), unlazy(without), unlazy(confidence))
    rows, notes = view.summary(document), view.notes(document)
    table = {"title": "Overhead of confidential computing", "text": ". ".join(notes) + ".", "columns": view.COLUMNS, "rows": rows}
    return {"document": document, "columns": view.COLUMNS, "rows": rows, "notes": notes, "table": table}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"overhead_compare": overhead_compare}
