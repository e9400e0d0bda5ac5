# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Grants of a task: which resources go to which workloads, with init-data by document or by digest."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.kbs import initdata
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.rego_resource import TEES, Grant, is_digest
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, plain

# Names of TEEs in tokens -> those of init-data's fields.
_FIELDS = {"snp": "sev-snp", "tdx": "tdx", "sample": "sample"}
GRANT_SPEC: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "resources": {"type": "list", "elements": "str", "required": True},
        "tees": {"type": "list", "elements": "str", "choices": list(TEES), "default": ["snp", "tdx"]},
        "gpu": {"type": "int", "default": 0},
        "switch": {"type": "int", "default": 0},
        "init_data": {"type": "list", "elements": "raw", "default": []},
        "init_data_waiver": {"type": "str"},
    },
}


def grants_of(given: t.Sequence[t.Mapping[str, t.Any]], inputs: Inputs) -> list[Grant]:
    """Raises AttestedError."""
    return [
        Grant(
            str(grant["name"]), tuple(grant["resources"]), _claims(grant, inputs), grant["init_data_waiver"], tuple(grant["tees"]), grant["gpu"],
            grant["switch"],
        )
        for grant in given
    ]  # fmt: skip


def _claims(grant: t.Mapping[str, t.Any], inputs: Inputs) -> tuple[str, ...]:
    """Each entry is what the filter initdata returned, the path of a document, or a digest as the token has it."""
    found: set[str] = set()
    for entry in grant["init_data"]:
        value = plain(entry, f"init_data of grant {grant['name']}")
        if isinstance(value, str) and not is_digest(value):
            value = initdata.accept(inputs.read_text(value, "init_data")).to_dict()
        if isinstance(value, dict):
            # Worked out anew: a dictionary is as good as the TOML in it.
            if not isinstance(value.get("toml"), str):
                raise KbsError("it is no result of the filter initdata", where=f"init_data of grant {grant['name']}", code="kbs-grant")
            fields = initdata.accept(value["toml"]).fields
            found |= {fields[_FIELDS[tee]] for tee in grant["tees"]}
        elif isinstance(value, str):
            found.add(value)
        else:
            raise KbsError("a digest, a path or a result of the filter initdata was expected", where=f"init_data of grant {grant['name']}", code="kbs-grant")
    return tuple(sorted(found))
