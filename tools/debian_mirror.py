# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packages of Debian come from on this machine. ATTESTED_DEBIAN_MIRROR names another mirror."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

_URIS = re.compile(r"(?m)^(?:URIs:|deb\b.*?)\s(https?://\S+/debian/?)(?=\s|$)")


def mirror(etc: Path = Path("/etc/apt")) -> str:
    """The mirror that is named, or that this machine has its own Debian from; empty where it knows none."""
    named = os.environ.get("ATTESTED_DEBIAN_MIRROR", "")
    if named or not shutil.which("apt-get"):
        return named
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian", "Component: main"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    # apt knows its targets only after an update. Before, its configuration names the mirror.
    for path in (etc / "sources.list", *sorted(etc.glob("sources.list.d/*"))):
        if path.is_file():
            found += _URIS.findall(path.read_text(errors="replace"))
    return found[0] if found else ""
