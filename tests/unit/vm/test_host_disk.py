# SPDX-License-Identifier: GPL-3.0-or-later
"""What the adversary of the machine scenario finds on a disk, and that it finds it."""

from __future__ import annotations

import base64
import os

import pytest
from host_disk import SECTOR, WINDOW, search


@pytest.fixture
def place(tmp_path):
    for name in ("plain", "control"):
        # The last sector is not whole.
        (tmp_path / name).write_bytes(os.urandom(40 * SECTOR) + b"rest")
    return tmp_path


def look(place, disk, **keys):
    (place / "disk").write_bytes(disk)
    return search(place / "disk", [place / "plain"], [place / "control"], keys)


def test_a_disk_without_the_model_is_told_from_one_with_a_sector_of_it(place):
    control, plain = ((place / name).read_bytes() for name in ("control", "plain"))
    said = look(place, bytes(8 * SECTOR) + control[: 3 * SECTOR])
    assert said["held"] and said["sectors"] == {"plain plain": 0, "control control": 3} and said["sought"]["plain plain"] == 40
    said = look(place, bytes(8 * SECTOR) + control[:SECTOR] + plain[7 * SECTOR : 8 * SECTOR])
    assert not said["held"] and said["sectors"]["plain plain"] == 1


@pytest.mark.parametrize("shift", [8, 48, 504, WINDOW - 3 * SECTOR - 24])
def test_what_was_in_memory_begins_at_no_sector(place, shift):
    control, plain = ((place / name).read_bytes() for name in ("control", "plain"))
    said = look(place, control[:SECTOR] + bytes(shift) + plain[7 * SECTOR : 9 * SECTOR] + bytes(SECTOR))
    assert not said["held"] and said["sectors"] == {"plain plain": 2, "control control": 1}


def test_where_the_control_is_not_found_nothing_is_said_to_hold(place):
    assert not look(place, bytes(64 * SECTOR))["held"]


@pytest.mark.parametrize("spell", [bytes, bytes.hex, lambda key: key.hex().upper(), base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_is_found_at_any_place_and_in_any_spelling(place, spell):
    key = bytes([0xFB, 0xFF, 0xBF]) + os.urandom(29)
    said = spell(key)
    said = said if isinstance(said, bytes) else said.encode()
    control = (place / "control").read_bytes()[:SECTOR]
    # Across the border of two reads, where it begins at no sector.
    disk = control + bytes(WINDOW - SECTOR - 10) + said + bytes(SECTOR)
    told = look(place, disk, dek=key)
    assert not told["held"] and told["keys"] == {"dek": 1}
    assert look(place, control + bytes(SECTOR), dek=key)["held"]


def test_files_of_nothing_in_particular_cannot_be_looked_for(place):
    (place / "plain").write_bytes(bytes(4096))
    with pytest.raises(SystemExit, match="nothing to look for in plain plain"):
        look(place, bytes(4096))
