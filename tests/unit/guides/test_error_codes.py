# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of error codes in docs/troubleshooting.md is that of the source."""

from __future__ import annotations

import importlib.util

from .guides_lab import REPO

_spec = importlib.util.spec_from_file_location("error_codes", REPO / "docs" / "docsite" / "error_codes.py")
error_codes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(error_codes)


def test_every_error_code_of_the_source_is_in_the_guide_and_no_other():
    found = set(error_codes.collect())
    listed = error_codes.codes_of_guide((REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    hint = "run python docs/docsite/error_codes.py --write"
    assert not found - set(listed), f"missing: {sorted(found - set(listed))}; {hint}"
    assert not set(listed) - found, f"gone from the source: {sorted(set(listed) - found)}; {hint}"
    assert len(listed) == len(set(listed)) and len(found) > 400


def test_codes_are_found_in_every_form_they_are_written_in(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "a.py").write_text(
        'class E(Exception):\n    """A class that says it."""\n    default_code = "one"\n'
        'raise E("it is %d of " % 3 + x, fix="Do that", code="two")\nraise E(f"no {x}", code="three" if y else "four")\nraise E("x", code=name)\n'
    )
    found = error_codes.collect(tmp_path)
    assert sorted(found) == ["four", "one", "three", "two"]
    assert found["two"] == ("it is ... of ...", "Do that") and found["four"][0] == "no ..." and found["one"][0] == "A class that says it"
