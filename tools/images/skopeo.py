# SPDX-License-Identifier: GPL-3.0-or-later
"""A skopeo that encrypts for key providers: that of this machine where it is new enough, else Debian 13's, unpacked beside and run with its own libraries.

    python tools/images/skopeo.py FOLDER        # prints the path of a program

Nothing is installed. apt verifies the packages by the keyring of this machine's Debian. ATTESTED_SKOPEO names another one, ATTESTED_DEBIAN_MIRROR a mirror.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from debian_mirror import mirror  # noqa: E402

MINIMUM = (1, 18)
RELEASE = "trixie"
# What the program is linked with, and does not share with every Debian.
PACKAGES = ("skopeo", "libgpgme11t64", "libassuan9", "libgpg-error0", "libsqlite3-0", "libc6")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def version(path: str) -> tuple[int, int]:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"version (\d+)\.(\d+)", told)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def found(folder: Path) -> str:
    """The path of a skopeo that is new enough. Raises RuntimeError where there is none and none can be had."""
    named = os.environ.get("ATTESTED_SKOPEO", "")
    if named:
        if version(named) < MINIMUM:
            raise RuntimeError(f"ATTESTED_SKOPEO={named} is no skopeo {MINIMUM[0]}.{MINIMUM[1]} or newer")
        return named
    here = shutil.which("skopeo")
    if here and version(here) >= MINIMUM:
        return here
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = folder / "skopeo"
        if version(str(program)) < MINIMUM:
            unpack(folder, program)
    return str(program)


def unpack(folder: Path, program: Path) -> None:
    if not shutil.which("apt-get") or not Path(KEYRING).exists():
        raise RuntimeError(f"no skopeo {MINIMUM[0]}.{MINIMUM[1]} here, and no apt-get of a Debian to fetch one: install it, or set ATTESTED_SKOPEO")
    apt, packages, root = folder / "apt", folder / "packages", folder / "root"
    source = mirror()
    if not source:
        raise RuntimeError("this machine knows no mirror of Debian: set ATTESTED_DEBIAN_MIRROR")
    for place in (packages, root):
        shutil.rmtree(place, ignore_errors=True)
    for place in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial", packages, root):
        place.mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {source} {RELEASE} main\n")
    options = {
        "Dir::Etc::SourceList": apt / "sources.list", "Dir::Etc::SourceParts": "/dev/null", "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt / "cache", "Dir::State::status": apt / "status", "APT::Sandbox::User": "root", "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }  # fmt: skip
    command = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    run([*command, "update"], packages)
    run([*command, "download", *PACKAGES], packages)
    for package in sorted(packages.glob("*.deb")):
        run(["dpkg-deb", "--extract", str(package), str(root)], packages)
    loaders = sorted((root / "usr" / "lib").glob("*/ld-linux*.so.*"))
    if not loaders:
        raise RuntimeError("Debian's libc6 brought no loader")
    # The loader is named, and not the environment: the key provider that skopeo starts runs with the libraries of this machine.
    lines = ["#!/bin/sh", f'exec "{loaders[0]}" --library-path "{loaders[0].parent}" "{root}/usr/bin/skopeo" "$@"', ""]
    new = program.with_suffix(".new")
    new.write_text("\n".join(lines))
    new.chmod(0o755)
    if version(str(new)) < MINIMUM:
        raise RuntimeError(f"the skopeo of Debian {RELEASE} does not start here")
    new.replace(program)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout.strip()[-400:]}")


if __name__ == "__main__":
    try:
        print(found(Path(sys.argv[1]).absolute()))
    except RuntimeError as error:
        sys.exit(str(error))
