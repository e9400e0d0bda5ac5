# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print a table for people at the end of a run."""

from __future__ import annotations

import locale
import os
import typing as t

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.attested.ai.plugins.plugin_utils.action_failure import failure_as_result
from ansible_collections.attested.ai.plugins.plugin_utils.text_table import Column, Line, render

GOOD = frozenset(("accepted", "affirming", "equal", "ok", "pass", "released"))
BAD = frozenset(("contraindicated", "differs", "fail", "failed", "refused"))

ARGUMENT_SPEC = {
    "title": {"type": "str"},
    "columns": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "key": {"type": "str", "required": True, "no_log": False},
            "title": {"type": "str"},
            "align": {"type": "str", "choices": ["left", "right"], "default": "left"},
        },
    },
    "rows": {"type": "list", "elements": "dict", "required": True},
    "outcome": {"type": "str"},
    "notes": {"type": "list", "elements": "str", "default": []},
    "width": {"type": "int"},
}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True  # a table per run, not one per host

    @failure_as_result
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        rows, display = options["rows"], Display()
        lines = render(
            [Column(column["key"], column["title"] or column["key"], column["align"] == "right") for column in options["columns"]],
            rows,
            width=options["width"] or _environment_width() or display.columns,
            # A worker has no terminal of its own to ask: the locale says what the terminal can show.
            rule="\u2500" if locale.getpreferredencoding(False).lower().startswith("utf") else "-",
        )
        title = [Line(options["title"]), Line("")] if options["title"] else []
        notes = [Line(""), *(Line(note) for note in options["notes"])] if options["notes"] else []
        for line in [Line(""), *title, *lines, *notes, Line("")]:
            display.display(line.text, color=_colour(rows, line, options["outcome"]))
        return {**result, "changed": False, "lines": [line.text for line in [*title, *lines, *notes]]}


def _environment_width() -> int:
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdigit() else 0


def _colour(rows: list[dict[str, t.Any]], line: Line, key: str | None) -> str | None:
    if line.row is None or key is None:
        return None
    outcome = str(rows[line.row].get(key)).lower()
    return C.COLOR_OK if outcome in GOOD else C.COLOR_ERROR if outcome in BAD else C.COLOR_WARN
