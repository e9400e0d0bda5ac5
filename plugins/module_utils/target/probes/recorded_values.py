# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values in a recording: how they are written, and how they are read with the place that is wrong."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Unreadable


def as_octal(value: Any) -> int:
    try:
        return int(str(value), 8)
    except ValueError:
        raise FormatError("%s is no octal number" % ascii(value), where="recording.owners", code="recording-invalid") from None


def kvm_key(extension: Optional[int]) -> str:
    return "version" if extension is None else str(extension)


def as_kept(answer: Unreadable) -> Dict[str, str]:
    return {"unreadable": answer.reason, "kind": answer.kind}


def as_readable(data: bytes) -> Union[str, Dict[str, str]]:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"hex": data.hex()}


def as_number(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(str(value), 16)
    except ValueError:
        raise FormatError("%s is no hexadecimal number" % ascii(value), where=where, code="recording-invalid") from None


def as_bytes(value: Any, where: str) -> bytes:
    try:
        return bytes.fromhex(str(value))
    except ValueError:
        raise FormatError("%s is no hexadecimal text" % ascii(value), where=where, code="recording-invalid") from None


def as_items(value: Any, where: str) -> List[Any]:
    if not isinstance(value, list):
        raise FormatError("a list is expected", where=where, code="recording-invalid")
    return value
