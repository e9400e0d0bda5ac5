# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Paths on the controller that a task names."""

from __future__ import annotations

import os
import typing as t


def local_path(action: t.Any, path: str) -> str:
    """Relative paths are relative to the playbook's directory: from another working directory it must not be another ledger."""
    return os.path.realpath(os.path.join(action._loader.get_basedir(), os.path.expanduser(path)))
