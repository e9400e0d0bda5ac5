# SPDX-License-Identifier: GPL-3.0-or-later
"""All guides in pieces: blocks, what a person types in them, and prose."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import textwrap
import typing as t

import yaml

REPO = pathlib.Path(__file__).resolve().parents[3]
_BLOCK = re.compile(r"^( *)```([a-z]+)[^\n]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)


class Tagged(yaml.SafeLoader):
    """Ansible's tags are values like any other here."""


Tagged.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None)


@dataclasses.dataclass(frozen=True)
class Block:
    file: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclasses.dataclass(frozen=True)
class Guide:
    path: pathlib.Path
    text: str

    def blocks(self, *kinds: str) -> t.Iterator[Block]:
        for match in _BLOCK.finditer(self.text):
            if match.group(2) in kinds:
                yield Block(self.name, self.line(match.start()), match.group(2), textwrap.dedent(match.group(3)))

    def commands(self) -> t.Iterator[tuple[Block, str]]:
        """Lines that a person types in a console block, with those that a backslash continues."""
        for block in self.blocks("console"):
            for match in re.finditer(r"^[$#] ((?:[^\n]*\\\n)*[^\n]*)", block.text, re.MULTILINE):
                yield block, match.group(1).replace("\\\n", " ")

    @property
    def name(self) -> str:
        return str(self.path.relative_to(REPO))

    def prose(self) -> str:
        return re.sub(r"^( *)```.*?^\1```", "", self.text, flags=re.MULTILINE | re.DOTALL)

    def line(self, place: int) -> int:
        return self.text[:place].count("\n") + 1


def guides() -> list[Guide]:
    paths = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), *sorted((REPO / "roles").glob("*/README.md"))]
    return [Guide(path, path.read_text(encoding="utf-8")) for path in paths]
