# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a clean copy of the repository in the folder that Ansible's tools expect.

    python tree.py DESTINATION        # ends in ansible_collections/attested/ai

The files that git knows or would add, nothing ignored: no virtual environment, no link back to the repository. ansible-test wants the
checkout in a folder of that name and resolves links, ansible-lint and the artifact must not meet the caches. Only what differs is copied.
The copy is a git repository of its own, because the same tools ask git for the list of files.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def repository_files() -> list[str]:
    """Paths relative to the repository; deleted files that git still lists are left out."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPO).split("\0")
    return sorted({name for name in listed if name and os.path.lexists(REPO / name)})


def mirror(destination: Path) -> None:
    wanted = set(repository_files())
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(destination.rglob("*"), reverse=True):
        name = path.relative_to(destination)
        if name.parts[0] in (".git", ".ansible") or name.parts[:2] == ("tests", "output") or name.as_posix() in wanted:
            continue
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink()
    for name in wanted:
        source, target = REPO / name, destination / name
        if target.is_file() and filecmp.cmp(source, target, shallow=True):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    if not (destination / ".git").is_dir():
        git("init", "--quiet", cwd=destination)
    git("add", "--all", "--force", *sorted(wanted), cwd=destination)


if __name__ == "__main__":
    mirror(Path(sys.argv[1]).resolve())
