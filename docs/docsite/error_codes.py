# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error code of the source with what it says, as the table of docs/troubleshooting.md.

    python docs/docsite/error_codes.py            # shows the table
    python docs/docsite/error_codes.py --write    # puts it into the guide

Codes are read out of the syntax tree: literal words after code=, in default_code, and in either branch of a condition. A code that is put together at run
time is not found, so sources should not do that where they can help it.
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "troubleshooting.md"
BEGIN, END = "<!-- begin of the table of codes -->", "<!-- end of the table of codes -->"
_CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
LONGEST = 150


def words(node: ast.AST) -> t.Iterator[str]:
    """Literal words of an expression: itself, or what a condition may become."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CODE.match(node.value):
        yield node.value
    if isinstance(node, ast.IfExp):
        yield from words(node.body)
        yield from words(node.orelse)


def text(node: ast.AST | None) -> str:
    """A message, with an ellipsis for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:\([a-z_]+\))?[-#0-9.]*[a-z]", "...", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) if isinstance(part, ast.Constant) else "..." for part in node.values)
    if isinstance(node, ast.BinOp):
        return text(node.left) + (text(node.right) if isinstance(node.op, ast.Add) else "")
    if isinstance(node, ast.IfExp):
        return text(node.body) or text(node.orelse)
    return "..." if node is not None else ""


def collect(root: pathlib.Path = ROOT) -> dict[str, tuple[str, str]]:
    """Code to (what, fix): the first message in the order of files that says something."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((root / "plugins").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        # Most files have none, and parsing takes its time.
        for node in ast.walk(ast.parse(source)) if "code=" in source or "default_code" in source else ():
            if isinstance(node, ast.Call):
                arguments = {entry.arg: entry.value for entry in node.keywords}
                said = (text(node.args[0]) if node.args else "", text(arguments.get("fix")))
                for code in words(arguments["code"]) if "code" in arguments else ():
                    _keep(found, code, said)
            elif isinstance(node, ast.Assign) and any(isinstance(name, ast.Name) and name.id == "default_code" for name in node.targets):
                for code in words(node.value):
                    _keep(found, code, ("", ""))
            elif isinstance(node, ast.ClassDef):
                for code in (word for entry in node.body if isinstance(entry, ast.Assign) and _is_default(entry) for word in words(entry.value)):
                    _keep(found, code, ((ast.get_docstring(node) or "").split("\n")[0].rstrip("."), ""))
    return found


def _is_default(entry: ast.Assign) -> bool:
    return any(isinstance(name, ast.Name) and name.id == "default_code" for name in entry.targets)


def _keep(found: dict[str, tuple[str, str]], code: str, said: tuple[str, str]) -> None:
    what, fix = found.get(code, ("", ""))
    if not what.strip(". ") and said[0].strip(". ") or not fix and said[1] and said[0].strip(". "):
        found[code] = said
    else:
        found.setdefault(code, (what, fix))


def cell(value: str) -> str:
    value = " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")
    return value if len(value) <= LONGEST else value[: LONGEST - 4].rsplit(" ", 1)[0] + " ..."


def table(found: t.Mapping[str, tuple[str, str]]) -> str:
    lines = ["| Code | It says | Next step |", "|---|---|---|"]
    lines += [f"| `{code}` | {cell(what) or 'see the message'} | {cell(fix)} |" for code, (what, fix) in sorted(found.items())]
    return "\n".join(lines)


def codes_of_guide(guide: str) -> list[str]:
    inside = guide.partition(BEGIN)[2].partition(END)[0]
    return re.findall(r"^\| `([a-z0-9-]+)` \|", inside, re.MULTILINE)


def main() -> int:
    new = table(collect())
    if "--write" not in sys.argv[1:]:
        print(new)
        return 0
    old = GUIDE.read_text(encoding="utf-8")
    before, after = old.partition(BEGIN)[0], old.partition(END)[2]
    GUIDE.write_text(f"{before}{BEGIN}\n{new}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
