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


def test_every_code_says_what_and_what_next():
    found, more = error_codes.collect(), error_codes.added()
    assert not set(more) - set(found), f"gone from the source: {sorted(set(more) - set(found))}"
    assert all(set(entry) <= {"says", "next"} and all(text and len(text) <= error_codes.LONGEST for text in entry.values()) for entry in more.values())
    # What the source says is not said again, other than where its first message is that of another case.
    assert not [code for code, entry in more.items() if "next" in entry and found[code][1].strip(". ") and "says" not in entry]
    lacking = [code for code, (what, fix) in error_codes.whole().items() if not what.strip(". ") or not fix.strip(". ")]
    assert not lacking, f"write them into docs/docsite/error_codes.yml, or into the source: {lacking}"
    rows = (REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition(error_codes.BEGIN)[2].partition(error_codes.END)[0]
    assert "|  |" not in rows and "see the message" not in rows, "run python docs/docsite/error_codes.py --write"


def test_what_a_name_stands_for_is_found_where_it_is_raised(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "a.py").write_text(
        'AGAIN = "Fetch it again"\n\ndef a(x):\n    what = "first"\n    raise E(what, fix=AGAIN, code="one")\n\ndef b(x):\n    what = "second " + x\n'
        '    fix = "Do b" if x else "Do c"\n    raise E(what, fix=fix, code="two" if x else "three")\n\ndef helper(what, fix=""):\n'
        '    return E(what, fix=fix, code="four")\n\ndef c():\n    raise helper("from a caller", fix="Call less")\n\n'
        'made = partial(E, fix=AGAIN, code="five")\n'
    )
    assert error_codes.collect(tmp_path) == {
        "one": ("first", "Fetch it again"), "two": ("second ...", "Do b"), "three": ("second ...", "Do c"), "four": ("from a caller", "Call less"),
        "five": ("", "Fetch it again"),
    }  # fmt: skip
