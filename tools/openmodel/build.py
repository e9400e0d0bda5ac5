# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make openmodel.pyz: the program and the parts of the collection that it imports, in one file that runs with Python 3.8 and python3-cryptography.

The same sources give the same bytes. Usage: python3 tools/openmodel/build.py DEST
"""

from __future__ import annotations

import ast
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN = Path(__file__).resolve().with_name("main.py")
PACKAGE = "ansible_collections.attested.ai."


def imports(path: Path) -> list[str]:
    """Modules of the collection that a file names, whether it imports them or something of them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
            found += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.startswith(PACKAGE)]
    return found


def needed() -> dict[str, Path]:
    """Name in the archive -> file, for everything that is reached from the program."""
    found: dict[str, Path] = {}
    queue = [MAIN]
    while queue:
        for module in imports(queue.pop()):
            relative = Path(*module[len(PACKAGE):].split(".")).with_suffix(".py")
            name = Path("ansible_collections/attested/ai", relative).as_posix()
            if (ROOT / relative).is_file() and name not in found:
                found[name] = ROOT / relative
                queue.append(ROOT / relative)
    return found


def build(dest: Path) -> None:
    files = {name: path.read_bytes() for name, path in needed().items()}
    files["__main__.py"] = MAIN.read_bytes()
    for name in list(files):
        files.update({(parent / "__init__.py").as_posix(): b"" for parent in Path(name).parents if parent != Path()})
    with dest.open("wb") as stream:
        stream.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    dest.chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build.py DEST")
    build(Path(sys.argv[1]))
