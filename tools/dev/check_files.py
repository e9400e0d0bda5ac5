# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks on every file of the repository: its licence, no secret and no trace of the machine it was written on, no line that is too long.

    python check_files.py licences|leaks|widths

Licences follow the REUSE convention: an SPDX line in the file's first lines, or an annotation in REUSE.toml; the text of each licence lies
in LICENSES. Findings go to standard output, one a line; the exit status is 1 when there is one.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tree import REPO, repository_files

# Written in two parts, so that this file does not find itself.
SPDX = re.compile(r"SPDX-License-" + r"Identifier: ([A-Za-z0-9.+-]+)")
HEAD_LINES = 12
# As ansible-test has it, which says so only minutes later.
WIDTH = 160
BINARY = {".png", ".gz", ".ico"}
LEAKS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE " + r"KEY-----(?:\\n|\s)+[A-Za-z0-9+/=]{40}"),
    "a private JWK": re.compile(r'"d"\s*:\s*"' + r'[A-Za-z0-9_-]{42,}"'),
    "a path of the machine it was written on": re.compile(r"(?<![\w.-])/(?:work/(?:main|shared)|tmp/c" + r"/|root/\.pyenv)"),
}


def annotated(name: str, patterns: list[str]) -> bool:
    path = PurePosixPath(name)
    for pattern in patterns:
        expression = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        if re.fullmatch(expression, path.as_posix()):
            return True
    return False


def licence_findings(names: list[str]) -> Iterator[str]:
    annotations = tomllib.loads((REPO / "REUSE.toml").read_text(encoding="utf-8"))["annotations"]
    patterns = [pattern for entry in annotations for pattern in entry["path"]]
    used = {entry["SPDX-License-Identifier"] for entry in annotations}
    for name in names:
        if name.startswith("LICENSES/") or (REPO / name).stat().st_size == 0:
            continue
        head = "" if Path(name).suffix in BINARY else "\n".join((REPO / name).read_text(encoding="utf-8").splitlines()[:HEAD_LINES])
        found = SPDX.findall(head)
        used.update(found)
        if not found and not annotated(name, patterns):
            yield f"{name}: states no licence; add '# SPDX-License-{'Identifier'}: GPL-3.0-or-later' as its first line"
    for licence in sorted(used):
        if not (REPO / "LICENSES" / f"{licence}.txt").is_file():
            yield f"LICENSES/{licence}.txt: missing, though files are under {licence}"


def leak_findings(names: list[str]) -> Iterator[str]:
    for name in names:
        if Path(name).suffix in BINARY:
            continue
        text = (REPO / name).read_text(encoding="utf-8")
        for what, pattern in LEAKS.items():
            for match in pattern.finditer(text):
                yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {what}"


def width_findings(names: list[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(".py"):
            for number, line in enumerate((REPO / name).read_text(encoding="utf-8").splitlines(), 1):
                if len(line) > WIDTH:
                    yield f"{name}:{number}: {len(line)} characters, at most {WIDTH}"


def main() -> int:
    check = {"licences": licence_findings, "leaks": leak_findings, "widths": width_findings}[sys.argv[1]]
    names = [name for name in repository_files() if (REPO / name).is_file()]
    findings = list(check(names))
    print("\n".join(findings) or f"{len(names)} files, no finding")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
