# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documents say what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SECTION_KEYS, TOP_KEYS, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp import _NEXT_STEPS
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import DEFAULT_POLICY, load_text

ROOT = Path(__file__).resolve().parents[3]
POLICY = (ROOT / "docs" / "policy-reference.md").read_text(encoding="utf-8")
RESULT = (ROOT / "docs" / "result-schema.md").read_text(encoding="utf-8")
# Each kind of evidence has a page of its own, with the keys of its section and its checks.
PAGES = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("tdx-evidence.md", "cca-evidence.md", "gpu-evidence.md", "clouds.md"))
APPRAISAL = ROOT / "plugins" / "module_utils" / "appraisal"


def blocks():
    return [load_text(block, "docs") for block in re.findall(r"```yaml\n(.*?)```", POLICY, re.S)]


def test_the_default_policy_of_the_reference_is_the_default_policy():
    written = blocks()[0]
    assert set(written) == set(TOP_KEYS)
    assert {name: set(written[name]) for name in SECTION_KEYS} == {name: set(keys) for name, keys in SECTION_KEYS.items()}
    assert load_policy(written) == load_policy(DEFAULT_POLICY)


def test_every_example_loads():
    for block in blocks():
        (load_policy if "policy/1" in block["schema"] else load_reference_values)(block)
    assert len(blocks()) == 4


def test_every_key_is_described():
    described = POLICY.split("## Keys")[1] + PAGES
    for key in TOP_KEYS + tuple(key for keys in SECTION_KEYS.values() for key in keys):
        assert any(form in described for form in (f"`{key}`", f"`{key}.", f"### {key}\n")), key


def test_every_check_id_is_described():
    """The ids are the first arguments of passed(), failed() and not_checked(), literal or by a constant of the same file."""
    found = set(_NEXT_STEPS)
    for path in sorted(APPRAISAL.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                targets, values = node.targets[0], node.value
                pairs = zip(targets.elts, values.elts) if isinstance(targets, ast.Tuple) and isinstance(values, ast.Tuple) else [(targets, values)]
                names.update({target.id: value.value for target, value in pairs if isinstance(target, ast.Name) and isinstance(value, ast.Constant)})
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("passed", "failed", "not_checked") and node.args:
                first = node.args[0]
                value = first.value if isinstance(first, ast.Constant) else names.get(getattr(first, "id", None))
                if isinstance(value, str):
                    found.add(value)
    assert len(found) > 40
    assert [check_id for check_id in sorted(found) if f"`{check_id}`" not in RESULT + PAGES] == []
