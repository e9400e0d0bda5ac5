# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Objects as a file of variables that ansible-core reads without evaluating what AWX, or a later job, shall evaluate."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError

try:
    import yaml
except ImportError:  # pragma: no cover - ansible-core brings it
    yaml = None  # type: ignore[assignment]

HEAD: t.Final = "---\n# Made by attested.ai.awx. Variables of infra.aap_configuration, items as the modules of awx.awx take them.\n"


def export(objects: t.Mapping[str, t.Any]) -> str:
    """YAML in which each text with braces is marked !unsafe."""
    if yaml is None:
        raise AttestedError("PyYAML is missing", where="export", fix="Install PyYAML for the interpreter of ansible-core")

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: t.Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        if "{{" in value or "{%" in value:
            return dumper.represent_scalar("!unsafe", value, style='"')
        return dumper.represent_scalar("tag:yaml.org,2002:str", value)

    Dumper.add_representer(str, text)
    # Numbers and texts of templates carry marks of ansible-core; JSON leaves them behind.
    plain = json.loads(json.dumps(dict(objects)))
    return HEAD + yaml.dump(plain, Dumper=Dumper, sort_keys=False, width=150, allow_unicode=True)
