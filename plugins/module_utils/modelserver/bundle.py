# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A program for guests as one file: the module that it starts with and what that needs of the collection, in a zip archive that Python runs.

The same source gives the same bytes, so that the file changes only when it has to, and can be measured with the image.
"""

from __future__ import annotations

import ast
import io
import os
import zipfile
from typing import Dict, Iterator, Tuple

from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError

PACKAGE = "ansible_collections.attested.ai.plugins.module_utils"
START = PACKAGE + ".modelserver.program"
_MAIN = "import sys\nfrom %s import main\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(root: str, start: str = START) -> bytes:
    """The archive that runs ``main`` of the module ``start``. ``root`` is the folder plugins/module_utils of the collection. Raises ServingError."""
    files = collect(root, start)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return target.getvalue()


def collect(root: str, start: str = START) -> Dict[str, bytes]:
    """Names and contents of the files that the program needs, found by following its imports."""
    found: Dict[str, bytes] = {"__main__.py": (_MAIN % start).encode("ascii")}
    waiting, known = [start], {start}
    while waiting:
        module = waiting.pop()
        path, source = _read(root, module)
        found[path] = source
        for name in _imports(ast.parse(source, path), root):
            if name not in known:
                known.add(name)
                waiting.append(name)
    for path in list(found):
        folder = os.path.dirname(path)
        while folder:
            found.setdefault(folder + "/__init__.py", b"")
            folder = os.path.dirname(folder)
    return found


def _imports(tree: ast.AST, root: str) -> Iterator[str]:
    """Modules of the collection that are imported, wherever it is done."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith(PACKAGE):
            module = str(node.module)
            for alias in node.names:
                inner = "%s.%s" % (module, alias.name)
                yield inner if _exists(root, inner) else module
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(PACKAGE + "."):
                    yield alias.name


def _exists(root: str, module: str) -> bool:
    return os.path.isfile(_source(root, module))


def _source(root: str, module: str) -> str:
    return os.path.join(root, *module[len(PACKAGE) + 1:].split(".")) + ".py"


def _read(root: str, module: str) -> Tuple[str, bytes]:
    place = _source(root, module)
    try:
        with open(place, "rb") as stream:
            return module.replace(".", "/") + ".py", stream.read()
    except OSError as error:
        raise ServingError("it cannot be read (%s)" % error.strerror, where=place, fix="Install the collection again", code="bundle") from None
