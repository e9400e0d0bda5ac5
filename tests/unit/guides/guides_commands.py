# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command that a page tells people to type, and what the register beside this file says of it.

A command is a line after ``$`` or ``#`` in a console block, a line of a block without a language, of text or sh that begins with a known program, or such a
program with its arguments in single quotes of code in prose. Same words on the same page are one command.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import runpy
import sys
import typing as t
from unittest import mock

import yaml

from .guides_lab import REPO, Guide

REGISTER = pathlib.Path(__file__).with_name("commands.yml")
_BLOCK = re.compile(r"^( *)```([a-z]*)[^\n]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"^ *[$#] ((?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
_LINE = re.compile(r"^((?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_PROGRAM = re.compile(
    r"(?:(?:[A-Z][A-Z0-9_]*=\S+|sudo) )*"
    r"(?:ansible(?:-[a-z]+)?|antsibull-[a-z]+|make|molecule|pytest|python3?|pip|bash|sh|export|cd|cat|cp|chmod|printf|tar|truncate|mount|git|sha256sum|openssl"
    r"|ssh(?:-[a-z]+)?|model_signing|skopeo|podman|docker|helm|kubectl|genpolicy|promtool|systemctl|journalctl|virsh|curl"
    r"|(?:\.venv[a-z-]*/bin|\.?/?(?:tools|bench|docs))/[\w./-]+) \S"
)


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    page: str
    line: int


def pages() -> list[Guide]:
    """Every page of the site, what a visitor of the repository reads first, and the pages of the roles."""
    paths = [REPO / "README.md", REPO / "CONTRIBUTING.md", REPO / "docs" / "docsite" / "index.md"]
    paths += [*sorted((REPO / "docs").glob("*.md")), *sorted((REPO / "roles").glob("*/README.md"))]
    return [Guide(path, path.read_text(encoding="utf-8")) for path in paths]


def plain(command: str) -> str:
    """Continued lines joined, the remark at the end gone, blanks made one."""
    return re.sub(r"\s+#\s.*\Z", "", " ".join(command.replace("\\\n", " ").split()))


def commands(guide: Guide) -> dict[str, Place]:
    """In the order of the page: the command, and where it is first."""
    found: list[tuple[int, str]] = []
    for block in _BLOCK.finditer(guide.text):
        if block.group(2) in ("console", "", "sh", "bash", "shell", "text"):
            inside = _TYPED if block.group(2) == "console" else _LINE
            lines = ((match.start(1), match.group(1)) for match in inside.finditer(guide.text, block.start(3), block.end(3)))
            found += [(place, line) for place, line in lines if block.group(2) == "console" or _PROGRAM.match(line.strip())]
    # Blocks give way to as many characters, so that places stay what they are.
    prose = _BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block.group(0)), guide.text)
    found += [(match.start(1), match.group(1)) for match in _INLINE.finditer(prose) if _PROGRAM.match(" ".join(match.group(1).split()))]
    made: dict[str, Place] = {}
    for place, command in sorted(found):
        made.setdefault(plain(command), Place(guide.name, guide.line(place)))
    return made


def register() -> dict[str, list[dict[str, t.Any]]]:
    return yaml.safe_load(REGISTER.read_text(encoding="utf-8"))["pages"]


@functools.cache
def stages() -> dict[str, bool]:
    """By name, whether only ``make test-vm`` runs it."""
    # Its data classes look for their module.
    with mock.patch.dict(sys.modules):
        sys.modules["stages"] = module = type(sys)("stages")
        module.__dict__.update(runpy.run_path(str(REPO / "tools" / "dev" / "stages.py"), run_name="stages"))
    return {stage.name: stage.long for stage in module.STAGES}


KINDS: t.Final = ("run", "by", "reason")


def drift(found: t.Mapping[str, t.Mapping[str, Place]], told: t.Mapping[str, list[dict[str, t.Any]]]) -> t.Iterator[str]:
    """Where the pages and the register differ, and what the register says that is not so."""
    known = stages()
    for page in sorted({*found, *told}):
        entries = told.get(page, [])
        listed = [entry["command"] for entry in entries]
        here = found.get(page, {})
        yield from (f"{place.page}:{place.line}: not in the register: {command}" for command, place in here.items() if command not in listed)
        yield from (f"{page}: no longer there: {command}" for command in listed if command not in here)
        yield from (f"{page}: twice in the register: {command}" for command in {one for one in listed if listed.count(one) > 1})
        for entry in entries:
            yield from (f"{page}: {problem}: {entry['command']}" for problem in _problems(entry, known))
            for other in (other["page"] for other in entry.get("by", ()) if "page" in other):
                if not [one for one in told.get(other, []) if one["command"] == entry["command"] and "run" in one]:
                    yield f"{page}: {other} does not run it: {entry['command']}"


def _problems(entry: t.Mapping[str, t.Any], known: t.Mapping[str, bool]) -> t.Iterator[str]:
    if len([kind for kind in KINDS if kind in entry]) != 1 or set(entry) - {"command", *KINDS}:
        yield f"one of {', '.join(KINDS)} is needed, and nothing else"
    elif "reason" in entry and len(str(entry["reason"])) < 20:
        yield "that is no reason"
    elif "by" in entry and not entry["by"]:
        yield "by is empty"
    elif "run" in entry and set(entry["run"] or ()) - {"status", "says", "instead", "serves"}:
        yield "unknown keys in run"
    for other in entry.get("by", ()):
        if "stage" in other and other["stage"] not in known:
            yield f"there is no stage {other['stage']}"
        if "file" in other:
            path = REPO / other["file"]
            if not path.is_file() or path.suffix not in (".py", ".yml", ".sh"):
                yield f"there is no {other['file']}"
            elif not other.get("holds") or other["holds"] not in path.read_text(encoding="utf-8"):
                yield f"{other['file']} does not hold {other.get('holds')!r}"
        if len({"stage", "file", "page"} & set(other)) != 1 or set(other) - {"stage", "file", "page", "holds"}:
            yield "by names a stage, a page, or a file and what it holds"


def counted(told: t.Mapping[str, list[dict[str, t.Any]]]) -> dict[str, int]:
    entries = [entry for page in told.values() for entry in page]
    return {kind: len([entry for entry in entries if kind in entry]) for kind in KINDS}
