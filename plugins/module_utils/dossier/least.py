# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Of the endorsements that a verdict was reached with, those that it needs: a fleet's collateral does not belong into the dossier of one guest."""

from __future__ import annotations

from typing import Callable, List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements

Piece = Tuple[str, bytes]


def least(given: Endorsements, same: Callable[[Endorsements], bool]) -> Endorsements:
    """A part of ``given`` with which the verdict is the same and from which nothing more can be taken in one piece.

    ``same`` appraises with what it gets and compares the whole result. It is asked about k * log2(n) times for k of n pieces that are needed.
    """
    kept: List[Piece] = []

    def take(pieces: List[Piece], after: List[Piece]) -> None:
        if not pieces or same(_made(kept + after)):
            return
        if len(pieces) == 1:
            kept.extend(pieces)
            return
        middle = len(pieces) // 2
        take(pieces[:middle], pieces[middle:] + after)
        take(pieces[middle:], after)

    take([(kind, piece) for kind, found in given.pieces().items() for piece in found], [])
    return _made(kept)


def _made(pieces: List[Piece]) -> Endorsements:
    found = {name: tuple(piece for kind, piece in pieces if kind == name) for name in dict(pieces)}
    return Endorsements(**found)
