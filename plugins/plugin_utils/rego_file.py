# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A policy that is kept on the controller for people to read."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError

_MAX = 1 << 20


def written(path: str, text: str, check_mode: bool) -> tuple[bool, dict[str, t.Any] | None]:
    """(whether it changes, diff). Written whole or not at all."""
    try:
        with open(path, "rb") as stream:
            before = stream.read(_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        before = ""
    except OSError as error:
        raise KbsError("it cannot be read (%s)" % error.strerror, where=path, code="kbs-dest") from None
    if before == text:
        return False, None
    if not check_mode:
        partial = f"{path}.{os.getpid()}.partial"
        try:
            with open(partial, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.replace(partial, path)
        except OSError as error:
            raise KbsError("it cannot be written (%s)" % error.strerror, where=path, code="kbs-dest") from None
    return True, {"before_header": path, "after_header": path, "before": before, "after": text}
