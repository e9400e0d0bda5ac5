# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Becoming somebody else for good."""

from __future__ import annotations

import os
import pwd
from typing import Tuple

from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError


def numbers(user: str) -> Tuple[int, int]:
    """uid and gid of a user. Raises ServingError."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise ServingError("there is no user %s" % ascii(user), fix="Run the role model_server again", code="user") from None
    return found.pw_uid, found.pw_gid


def become(user: str) -> None:
    """Give every right of root away. Raises ServingError if one is left."""
    uid, gid = numbers(user)
    # With the groups that the user was given, such as those of GPUs.
    os.initgroups(user, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or uid == 0:
        raise ServingError("the rights of root are still there", code="user")
