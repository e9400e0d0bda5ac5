# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The table: aligned, no wider than asked, and safe against values that draw on the terminal."""

from __future__ import annotations

from ansible_collections.attested.ai.plugins.plugin_utils.text_table import Column, display_width, one_line, render
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = [Column("name", "Name"), Column("count", "Checks", right=True), Column("why", "Reason")]


def texts(rows, width=80):
    return [line.text for line in render(COLUMNS, rows, width)]


def test_columns_are_aligned_and_numbers_stand_to_the_right():
    assert texts([{"name": "a", "count": 7, "why": "fine"}, {"name": "longer", "count": 41, "why": None}]) == [
        "Name    Checks  Reason",
        "----------------------",
        "a            7  fine",
        "longer      41  -",
    ]


def test_the_last_column_wraps_below_itself_and_keeps_every_word():
    reason = "policy.debug: the guest can be debugged by its host, which reads all of its memory"
    lines = render(COLUMNS, [{"name": "guest", "count": 1, "why": reason}], 50)
    body = [line for line in lines if line.row == 0]
    assert len(body) > 1 and all(len(line.text) <= 50 for line in lines)
    start = body[0].text.index("policy")
    assert all(line.text[:start].strip() == "" for line in body[1:])
    assert " ".join(line.text[start:] for line in body) == reason


def test_lines_know_their_row_for_the_colour():
    assert [line.row for line in render(COLUMNS, [{"name": "a"}, {"name": "b"}], 80)] == [None, None, 0, 1]


def test_wide_characters_take_two_columns():
    lines = texts([{"name": "模型", "why": "x"}, {"name": "abcd", "why": "x"}])
    assert display_width(lines[2]) == display_width(lines[3]) == len(lines[3])


def test_truth_values_and_missing_ones_are_words():
    assert [one_line(value) for value in (True, False, None, "", 0, " \n ")] == ["yes", "no", "-", "-", "0", "-"]


@given(st.text())
def test_no_value_can_move_the_cursor_or_break_the_line(value):
    assert all(ord(character) >= 32 and character not in "\x7f\u200b\u202e\u2028\u2029" and not 0x80 <= ord(character) < 0xA0 for character in one_line(value))
    assert len(one_line(value).splitlines()) == 1


@given(st.lists(st.fixed_dictionaries({"name": st.text("ab ", max_size=8), "count": st.integers(0, 10**6), "why": st.text("ab c", max_size=200)}), max_size=4))
def test_no_line_is_wider_than_asked(rows):
    assert all(len(text) <= 60 for text in texts(rows, 60))
