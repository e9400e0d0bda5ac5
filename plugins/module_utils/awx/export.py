# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Objects as a file of variables that ansible-core reads without evaluating what AWX, or a later job, shall evaluate."""

from __future__ import annotations

import json
import typing as t

_BRACES: t.Final = ("{{", "{%")

HEAD: t.Final = "---\n# Made by attested.ai.awx. Variables of infra.aap_configuration, items as the modules of awx.awx take them.\n"


def export(objects: t.Mapping[str, t.Any]) -> str:
    """YAML in which each text with braces is marked !unsafe. Texts are written as JSON writes them, which is YAML, too."""
    # Numbers and texts of templates carry marks of ansible-core; JSON leaves them behind.
    return HEAD + "".join("%s:%s\n" % (name, _value(items, 0)) for name, items in json.loads(json.dumps(dict(objects))).items())


def _value(value: t.Any, depth: int) -> str:
    margin = "\n" + "  " * (depth + 1)
    if isinstance(value, dict) and value:
        return "".join("%s%s:%s" % (margin, json.dumps(name, ensure_ascii=False), _value(item, depth + 1)) for name, item in value.items())
    if isinstance(value, list) and value:
        return "".join("%s-%s" % (margin, _value(item, depth + 1)) for item in value)
    mark = "!unsafe " if isinstance(value, str) and any(brace in value for brace in _BRACES) else ""
    return " " + mark + json.dumps(value, ensure_ascii=False)
