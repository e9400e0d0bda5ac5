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

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "troubleshooting.md"
BEGIN, END = "<!-- begin of the table of codes -->", "<!-- end of the table of codes -->"
_CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
# What the source does not say in words: where a message is made up at run time, or its next step is the same for a whole family.
ADDED = pathlib.Path(__file__).with_name("error_codes.yml")
LONGEST = 150


def words(node: ast.AST) -> t.Iterator[tuple[str, dict[str, bool]]]:
    """Literal words of an expression, itself or what a condition may become, each with what the conditions are then."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CODE.match(node.value):
        yield node.value, {}
    if isinstance(node, ast.IfExp):
        for branch, holds in ((node.body, True), (node.orelse, False)):
            yield from ((word, {**chosen, ast.dump(node.test): holds}) for word, chosen in words(branch))


def text(node: ast.AST | None, named: t.Mapping[str, ast.AST] | None = None, chosen: t.Mapping[str, bool] | None = None) -> str:
    """A message, with an ellipsis for what is filled in. ``named``: what names stand for, ``chosen``: which conditions hold, which do not."""
    if isinstance(node, ast.Name) and named and node.id in named:
        return text(named[node.id], None, chosen)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:\([a-z_]+\))?[-#0-9.]*[a-z]", "...", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) if isinstance(part, ast.Constant) else "..." for part in node.values)
    if isinstance(node, ast.BinOp):
        return text(node.left) + (text(node.right) if isinstance(node.op, ast.Add) else "")
    if isinstance(node, ast.IfExp):
        holds = (chosen or {}).get(ast.dump(node.test))
        return text(node.body) or text(node.orelse) if holds is None else text(node.body if holds else node.orelse)
    return "..." if node is not None else ""


def collect(root: pathlib.Path = ROOT) -> dict[str, tuple[str, str]]:
    """Code to (what, fix): the first message in the order of files that says something."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((root / "plugins").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        # Most files have none, and parsing takes its time.
        tree = ast.parse(source) if "code=" in source or "default_code" in source else ast.Module([], [])
        names = _names(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                arguments = {entry.arg: entry.value for entry in node.keywords}
                for code, chosen in words(arguments["code"]) if "code" in arguments else ():
                    for named in names.get(node, names[None]):
                        first = node.args[0] if node.args else None
                        # A class or a function that is called later, by partial, is no message.
                        first = None if isinstance(first, ast.Name) and first.id not in named else first
                        _keep(found, code, (text(first, named, chosen), text(arguments.get("fix"), named, chosen)))
            elif isinstance(node, ast.Assign) and any(isinstance(name, ast.Name) and name.id == "default_code" for name in node.targets):
                for code, _chosen in words(node.value):
                    _keep(found, code, ("", ""))
            elif isinstance(node, ast.ClassDef):
                for code in (word for entry in node.body if isinstance(entry, ast.Assign) and _is_default(entry) for word, _chosen in words(entry.value)):
                    _keep(found, code, ((ast.get_docstring(node) or "").split("\n")[0].rstrip("."), ""))
    return found


def _names(tree: ast.Module) -> dict[ast.AST | None, list[dict[str, ast.AST]]]:
    """For each call, what names stand for there: constants of the file, what was assigned before it in the same function, and, for a helper that makes the
    error, what each of its callers gives. More than one where there are several callers."""
    constants = _assigned(tree.body, sys.maxsize)
    made: dict[ast.AST | None, list[dict[str, ast.AST]]] = {None: [constants]}
    callers: dict[str, list[ast.Call]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            callers.setdefault(node.func.id if isinstance(node.func, ast.Name) else node.func.attr, []).append(node)
    for node in ast.walk(tree):
        for function in [node] if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else ():
            parameters = [entry.arg for entry in function.args.args if entry.arg not in ("self", "cls")]
            given = [
                {**dict(zip(parameters, call.args, strict=False)), **{entry.arg: entry.value for entry in call.keywords if entry.arg in parameters}}
                for call in callers.get(function.name, ())
            ]
            for call in (entry for entry in ast.walk(function) if isinstance(entry, ast.Call) and any(one.arg == "code" for one in entry.keywords)):
                here = {**constants, **_assigned(list(ast.walk(function)), call.lineno)}
                made[call] = [{**here, **one} for one in given if "code" not in one] or [here]
    return made


def _assigned(nodes: t.Iterable[ast.AST], before: int) -> dict[str, ast.AST]:
    entries = [entry for entry in nodes if isinstance(entry, (ast.Assign, ast.AnnAssign)) and entry.lineno < before and entry.value is not None]
    targets = [(target, entry) for entry in entries for target in (entry.targets if isinstance(entry, ast.Assign) else [entry.target])]
    return {target.id: entry.value for target, entry in sorted(targets, key=lambda one: one[1].lineno) if isinstance(target, ast.Name) and entry.value}


def _is_default(entry: ast.Assign) -> bool:
    return any(isinstance(name, ast.Name) and name.id == "default_code" for name in entry.targets)


def _keep(found: dict[str, tuple[str, str]], code: str, said: tuple[str, str]) -> None:
    what, fix = found.get(code, ("", ""))
    if not what.strip(". ") and said[0].strip(". ") or not fix and said[1].strip(". ") and said[0].strip(". "):
        found[code] = (said[0], said[1] if said[1].strip(". ") else fix)
    else:
        # A next step is one for every message of this code, where the source does not spell that out.
        found[code] = (what, fix or (said[1] if said[1].strip(". ") and not said[0].strip(". ") else ""))


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


def added() -> dict[str, dict[str, str]]:
    """By code, what to show for what the source does not say: ``says`` and ``next``."""
    return yaml.safe_load(ADDED.read_text(encoding="utf-8"))["codes"]


def whole() -> dict[str, tuple[str, str]]:
    """What the source says, completed."""
    found, more = collect(), added()
    return {code: (more.get(code, {}).get("says", what), more.get(code, {}).get("next", fix)) for code, (what, fix) in found.items()}


def main() -> int:
    new = table(whole())
    if "--write" not in sys.argv[1:]:
        print(new)
        return 0
    old = GUIDE.read_text(encoding="utf-8")
    before, after = old.partition(BEGIN)[0], old.partition(END)[2]
    GUIDE.write_text(f"{before}{BEGIN}\n{new}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
