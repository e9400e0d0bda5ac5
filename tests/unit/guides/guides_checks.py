# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of one guide. Each yields what is wrong, and counts in ``seen`` what it looked at."""

from __future__ import annotations

import collections
import re
import shlex
import typing as t

import yaml
from ansible.cli.playbook import PlaybookCLI

from .guides_known import NO_NAMES, Known
from .guides_lab import Guide, Tagged

Seen = t.Counter[str]
NAMESPACE = "attested.ai."


def _mappings(value: t.Any) -> t.Iterator[dict]:
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _mappings(one)


def names(guide: Guide, known: Known, seen: Seen) -> t.Iterator[str]:
    """Whatever is called attested.ai.something is something."""
    for match in re.finditer(r"\battested\.ai\.([a-z0-9_]+)", guide.text):
        seen["names"] += 1
        if match.group(1) not in known.names | NO_NAMES:
            yield f"{guide.name}:{guide.line(match.start())}: there is no {match.group(0)}"


def tasks(guide: Guide, known: Known, seen: Seen) -> t.Iterator[str]:
    """YAML is YAML, its tasks have options that their modules know, and its variables are some that roles or playbooks know."""
    for block in guide.blocks("yaml", "yml"):
        try:
            documents = list(yaml.load_all(block.text, Tagged))
        except yaml.YAMLError as error:
            yield f"{block}: {str(error).splitlines()[0]}"
            continue
        yield from (f"{block}: no role and no playbook knows {name}" for name in _variables(documents, known, seen))
        for task in _mappings(documents):
            for key, options in task.items():
                name = str(key).removeprefix(NAMESPACE)
                if name == key or name not in known.modules or not isinstance(options, dict):
                    continue
                seen["tasks"] += 1
                options_known, required = known.modules[name]
                yield from (f"{block}: {key} has no option {option}" for option in options if option not in options_known)
                if "module_defaults" not in block.text:
                    yield from (f"{block}: {key} needs {option}" for option in required if option not in options)


def _variables(value: t.Any, known: Known, seen: Seen) -> t.Iterator[str]:
    """Keys that begin as the variables of a role do. What is inside of a role's option has names of its own."""
    if isinstance(value, list):
        for one in value:
            yield from _variables(one, known, seen)
    for key, one in value.items() if isinstance(value, dict) else ():
        if key in known.options:
            seen["variables"] += 1
            continue
        if isinstance(key, str) and key not in known.words and any(key.startswith(role + "_") for role in known.roles):
            yield key
        yield from _variables(one, known, seen)


def roles(guide: Guide, known: Known, _seen: Seen) -> t.Iterator[str]:
    """Where a role or a playbook is called, a name of something else does not do."""
    for block in guide.blocks("yaml", "yml"):
        for kind, name in re.findall(r"\b(role|import_playbook): (attested\.ai\.[a-z0-9_]+)", block.text):
            if name.removeprefix(NAMESPACE) not in (known.roles if kind == "role" else known.playbooks):
                yield f"{block}: there is no {kind} {name}"


def commands(guide: Guide, known: Known, seen: Seen) -> t.Iterator[str]:
    """Split by the shell's rules, and read by ansible-playbook's own parser; playbooks and variables are known."""
    for block, command in guide.commands():
        try:
            words = shlex.split(command, comments=True)
        except ValueError as error:
            yield f"{block}: {error}: {command}"
            continue
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words[:1] != ["ansible-playbook"]:
            continue
        seen["commands"] += 1
        said: list[str] = []
        cli = PlaybookCLI(words)
        cli.init_parser()
        cli.parser.error = said.append
        given = cli.parser.parse_args(words[1:])
        yield from (f"{block}: {message}: {command}" for message in said)
        for book in given.args or ():
            if book.startswith(NAMESPACE) and book.removeprefix(NAMESPACE) not in known.playbooks:
                yield f"{block}: there is no playbook {book}"
        for variable in (match.group(1) for one in given.extra_vars or () if (match := re.match(r"([a-z0-9_]+)=", one))):
            if variable not in known.options | known.words:
                yield f"{block}: no role and no playbook knows {variable}"


def _anchor(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def links(guide: Guide, _known: Known, seen: Seen) -> t.Iterator[str]:
    """Files that are there, and headings in them."""
    for target, anchor in re.findall(r"\]\((?!https?://|mailto:)([^)\s#]*)#?([^)\s]*)\)", guide.prose()):
        seen["links"] += 1
        path = guide.path.parent / target if target else guide.path
        if not path.exists():
            yield f"{guide.name}: {target}"
        elif anchor:
            text = Guide(path, path.read_text(encoding="utf-8")).prose() if target else guide.prose()
            if anchor not in map(_anchor, re.findall(r"^#+ (.*)$", text, re.MULTILINE)):
                yield f"{guide.name}: {target}#{anchor}"


CHECKS: t.Final = (names, tasks, roles, commands, links)


def problems(guide: Guide, known: Known, seen: Seen | None = None) -> list[str]:
    return [one for check in CHECKS for one in check(guide, known, collections.Counter() if seen is None else seen)]
