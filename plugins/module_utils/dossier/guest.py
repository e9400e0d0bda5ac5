# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a guest says of what its files and its swap lie on, as a line for a person. It is its own word: nothing here makes a check pass or fail."""

from __future__ import annotations

import json
from typing import Any, List, Mapping

OWN_WORDS = "in the guest's own words, of which no evidence speaks"
_MOST = 8
_LONGEST = 600


def told(data: bytes) -> str:
    """``data`` is the file of the record, in the form of tee_guest_info or in any other. Never raises for what is in it."""
    try:
        storage = json.loads(data.decode("utf-8"))["storage"]
        parts = [_swaps(storage["swaps"]), _models(storage["models"]), "files: %s" % _mounts(storage["mounts"])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "kept %s" % OWN_WORDS
    return ("%s: %s" % (OWN_WORDS, "; ".join(parts)))[:_LONGEST]


def _swaps(found: Any) -> str:
    if found is None:
        return "swap not told"
    return "swap: %s" % _some("%s on %s" % (one["name"], _layers(one["layers"])) for one in found) if found else "no swap"


def _models(found: Any) -> str:
    places = ["%s %s" % (one["unit"], "not told" if one["mounts"] is None else _mounts(one["mounts"])) for one in found]
    return "model: %s" % _some(places) if places else "no unit with a model"


def _mounts(found: Any) -> str:
    return "not told" if found is None else _some(_mount(one) for one in found) if found else "none"


def _mount(one: Mapping[str, Any]) -> str:
    return "%s %s on %s%s" % (one["path"], one["kind"], _layers(one["layers"]), " (noswap)" if one["noswap"] is True else "")


def _layers(found: Any) -> str:
    if found is None:
        return "what is not told"
    return " on ".join(str(layer) for layer in found) if found else "a disk as it is"


def _some(parts: Any) -> str:
    listed: List[str] = list(parts)
    return ", ".join(listed[:_MOST]) + (", ..." if len(listed) > _MOST else "")
