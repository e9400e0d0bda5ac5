# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which results this guest knows to be true since it booted: noted in memory, for the disk with the results belongs to the host."""

from __future__ import annotations

import hashlib
import os
from typing import Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import read_secret, replace_file
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.result import Statement


def note(directory: str, agreement: Agreement) -> str:
    """Its path. No job has such a name."""
    return os.path.join(directory, agreement.digest + ".done")


def remember(directory: str, agreement: Agreement, statements: Sequence[Statement]) -> None:
    """For statements that this run made, or whose tags it checked. Raises OSError, AttestedError."""
    memory.require_memory(directory)
    replace_file(note(directory, agreement), _name(statements))


def known(directory: str, agreement: Agreement, statements: Sequence[Statement]) -> bool:
    """Are they the ones that were remembered? What is not ours alone, or not in memory, is not believed."""
    try:
        memory.require_memory(directory)
        return read_secret(note(directory, agreement), "note", 64) == _name(statements)
    except AttestedError:
        return False


def _name(statements: Sequence[Statement]) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(statement.to_bytes()).digest() for statement in statements)).hexdigest().encode("ascii")
