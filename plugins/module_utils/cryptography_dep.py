# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one place that knows the optional library cryptography and its minimum version."""

from __future__ import annotations

import sys

from ansible_collections.attested.ai.plugins.module_utils.errors import DependencyError

# Debian 12 ships 38: the first version with Cipher(...).encryptor().update_into on every AEAD path we use.
MINIMUM = 38


def require_cryptography(minimum: int = MINIMUM) -> str:
    """Return the version of cryptography, or raise DependencyError if it is missing or older than ``minimum`` (major)."""
    try:
        import cryptography
    except ImportError:
        raise DependencyError(
            "the Python library cryptography (>= %d) is missing for %s" % (minimum, sys.executable),
            fix="Install it there: python3-cryptography from the distribution, or 'pip install cryptography'.",
            code="cryptography-missing",
        ) from None
    version = cryptography.__version__
    if int(version.split(".", 1)[0]) < minimum:
        raise DependencyError(
            "cryptography %s at %s is too old, >= %d is needed" % (version, cryptography.__file__, minimum),
            fix="Upgrade it for %s." % sys.executable,
            code="cryptography-too-old",
        )
    return version
