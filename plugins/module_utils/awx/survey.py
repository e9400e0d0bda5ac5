# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Surveys of AWX from argument specifications of roles, so that there is one source of truth.

No question has a default: AWX would hand it over as an extra variable, and that beats the inventory. What stays unanswered stays as the inventory or the
role has it.
"""

from __future__ import annotations

import re
import typing as t
from fnmatch import fnmatchcase

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError

TEXT: t.Final = {"str": "text", "path": "text", "raw": "", "int": "integer", "float": "float"}
# Question names and texts are shown by AWX as plain text: the marks of our documentation mean nothing there.
_MARKS: t.Final = re.compile(r"\b[BCEILMOPRUV]\(([^()]*)\)")


def question(name: str, option: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """The question for one option; None if a survey cannot ask for it (lists, dictionaries)."""
    kind = str(option.get("type", "str"))
    choices: list[str] = []
    if kind == "bool":
        form, choices = "multiplechoice", ["true", "false"]
    elif option.get("choices") and kind in ("str", "int", "float", "path"):
        form, choices = "multiplechoice", [str(choice) for choice in option["choices"]]
    elif option.get("choices") and kind == "list":
        form, choices = "multiselect", [str(choice) for choice in option["choices"]]
    else:
        form = TEXT.get(kind, "")
    if not form:
        return None
    if option.get("no_log"):
        form, choices = "password", []
    return {
        "variable": name,
        "question_name": name.replace("_", " "),
        "question_description": _described(option, choices),
        "type": form,
        "required": bool(option.get("required", False)),
        **({"choices": choices} if choices else {}),
    }


def survey(name: str, options: t.Mapping[str, t.Mapping[str, t.Any]], ask: t.Sequence[str], without: t.Collection[str] = ()) -> dict[str, t.Any]:
    """The survey with a question for each option that a pattern of ``ask`` names, in the order of the patterns.

    A pattern without a wildcard must name an option that can be asked for; a wildcard may find none. Raises AttestedError.
    """
    spec: list[dict[str, t.Any]] = []
    asked: set[str] = set(without)
    for pattern in ask:
        found = [option for option in options if fnmatchcase(option, pattern)]
        if not found and "*" not in pattern:
            raise AttestedError("%s is no option" % pattern, where="survey of %s" % name, fix="Name one of its roles' options")
        for option in found:
            made = question(option, options[option])
            if made is None and "*" not in pattern:
                raise AttestedError("no survey can ask for %s, a %s" % (option, options[option].get("type")), where="survey of %s" % name, fix="Leave it out")
            if made is not None and option not in asked:
                asked.add(option)
                # An option that a role needs may stand in the inventory: only what the playbook itself needs is required.
                spec.append(made)
    return {"name": "", "description": "", "spec": spec}


def _described(option: t.Mapping[str, t.Any], choices: t.Sequence[str]) -> str:
    text = option.get("description") or ""
    text = " ".join(str(part) for part in text) if isinstance(text, (list, tuple)) else str(text)
    text = _MARKS.sub(r"\1", text)
    default = option.get("default")
    if default not in (None, "", [], {}) and not option.get("no_log") and "{{" not in str(default):
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        text = f"{text.rstrip('.')}. Unanswered: as the inventory says, else {shown}"
    return text
