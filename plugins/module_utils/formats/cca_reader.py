# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take claims out of a decoded CBOR map: each with its type and size, none twice, and the rest by name."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

UEID = 256
HASH_SIZES = (32, 48, 64)
TEXT_MAX = 1024
BYTES_MAX = 16 * 1024


class ClaimReader:
    """Takes claims out of one map, and remembers which were taken. ``strange`` collects names of unknown claims further down."""

    def __init__(self, claims: Mapping[Any, Any], where: str) -> None:
        self.claims = claims
        self.where = where
        self.taken: List[Any] = []
        self.strange: List[str] = []

    def take(self, label: int, name: str, required: bool) -> Any:
        self.taken.append(label)
        if label not in self.claims and required:
            raise FormatError("the claim %s (%d) is missing" % (name, label), where=self.where, code="missing-claim")
        return self.claims.get(label)

    def refuse(self, label: int, name: str, wanted: str) -> FormatError:
        return FormatError("the claim %s (%d) is not %s" % (name, label, wanted), where=self.where)

    def absent(self, label: int, why: str) -> None:
        if label in self.claims:
            raise FormatError("the claim %d, which %s, must not be there" % (label, why), where=self.where)

    def octets(self, label: int, name: str, sizes: Sequence[int] = ()) -> bytes:
        value = self.take(label, name, True)
        if not isinstance(value, bytes) or (len(value) not in sizes if sizes else len(value) > BYTES_MAX):
            wanted = "of %s bytes" % " or ".join(str(size) for size in sizes) if sizes else "of at most %d bytes" % BYTES_MAX
            raise self.refuse(label, name, "a byte string " + wanted)
        return value

    def optional_octets(self, label: int, name: str, sizes: Sequence[int] = ()) -> Optional[bytes]:
        self.taken.append(label)
        return self.octets(label, name, sizes) if label in self.claims else None

    def text(self, label: int, name: str) -> str:
        value = self.take(label, name, True)
        if not isinstance(value, str) or len(value) > TEXT_MAX:
            raise self.refuse(label, name, "a text string of at most %d characters" % TEXT_MAX)
        return value

    def optional_text(self, label: int, name: str) -> Optional[str]:
        self.taken.append(label)
        return self.text(label, name) if label in self.claims else None

    def integer(self, label: int, name: str, maximum: int, required: bool) -> Optional[int]:
        value = self.take(label, name, required)
        if label not in self.claims:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
            raise self.refuse(label, name, "a whole number from 0 to %d" % maximum)
        return value

    def boolean(self, label: int, name: str) -> Optional[bool]:
        value = self.take(label, name, False)
        if label in self.claims and not isinstance(value, bool):
            raise self.refuse(label, name, "true or false")
        return value if isinstance(value, bool) else None

    def choice(self, label: int, name: str, choices: Mapping[Any, str], required: bool = False) -> Optional[str]:
        value = self.take(label, name, required)
        if label not in self.claims:
            return None
        if type(value) not in (int, str) or value not in choices:
            raise self.refuse(label, name, "one of %s" % ", ".join(repr(choice) for choice in choices))
        return choices[value]

    def items(self, label: int, name: str, required: bool = False) -> Tuple[Any, ...]:
        value = self.take(label, name, required)
        if label not in self.claims:
            return ()
        if not isinstance(value, tuple) or not value:
            raise self.refuse(label, name, "a list with at least one item")
        return value

    def maps(self, label: int, name: str) -> Tuple[Any, ...]:
        values = self.items(label, name)
        if not all(isinstance(value, dict) for value in values):
            raise self.refuse(label, name, "a list of maps")
        return values

    def digests(self, label: int, name: str) -> Tuple[bytes, ...]:
        values = self.items(label, name)
        if not all(isinstance(value, bytes) and len(value) in HASH_SIZES for value in values):
            raise self.refuse(label, name, "a list of digests")
        return values

    def ueid(self, name: str, required: bool = False) -> Optional[bytes]:
        """33 bytes of which the first is 1 (RAND): RMM specification A7.2."""
        value = self.octets(UEID, name, (33,)) if required else self.optional_octets(UEID, name, (33,))
        if value is not None and value[0] != 1:
            raise self.refuse(UEID, name, "33 bytes of which the first is 1")
        return value

    def unknown(self) -> Tuple[str, ...]:
        rest = [label for label in self.claims if label not in self.taken]
        return tuple(self.strange) + tuple("%s %s" % (self.where, ascii(label)[:40]) for label in rest)
