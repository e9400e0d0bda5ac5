# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection has: names, options of modules and roles, words of playbooks."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import typing as t

import yaml

from .guides_lab import REPO

KINDS = ("action", "callback", "filter", "inventory", "lookup", "modules")
# Names in prose and code that are none: an example of a name, Python's package, and the file of a clone.
NO_NAMES = {"x", "plugins", "git"}


@dataclasses.dataclass(frozen=True)
class Known:
    names: t.AbstractSet[str]
    roles: t.AbstractSet[str]
    playbooks: t.AbstractSet[str]
    modules: t.Mapping[str, tuple[set[str], set[str]]]
    """By module its options, and those that are required. Sub-options are left to the modules themselves."""
    options: t.AbstractSet[str]
    words: t.AbstractSet[str]


def known() -> Known:
    plugins = {path.stem for kind in KINDS for path in (REPO / "plugins" / kind).glob("*") if path.suffix in (".py", ".yml")}
    plugins |= {path.stem for path in (REPO / "extensions" / "eda" / "rulebooks").glob("*.yml")}
    groups = set(yaml.safe_load((REPO / "meta" / "runtime.yml").read_text(encoding="utf-8"))["action_groups"])
    roles = {path.name for path in (REPO / "roles").iterdir() if path.is_dir()}
    books = {path.stem for path in (REPO / "playbooks").glob("*.yml")}
    specifications = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (REPO / "roles").glob("*/meta/argument_specs.yml"))
    options = {option for one in specifications for entry in one["argument_specs"].values() for option in entry.get("options") or {}}
    words = {word for path in (REPO / "playbooks").rglob("*.yml") for word in re.findall(r"\b[a-z][a-z0-9_]*\b", path.read_text(encoding="utf-8"))}
    return Known(plugins | groups | roles | books, roles, books, _modules(), options, words)


def _modules() -> dict[str, tuple[set[str], set[str]]]:
    fragments = {}
    for path in (REPO / "plugins" / "doc_fragments").glob("*.py"):
        texts = re.findall(r'^    [A-Z_]+ = r?"""(.*?)"""', path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        fragments[path.stem] = {option for text in texts for option in yaml.safe_load(text).get("options") or {}}
    made = {}
    for path in (REPO / "plugins" / "modules").glob("*.py"):
        if path.stem != "__init__":
            text = _documentation(path)
            options = text.get("options") or {}
            names = {alias for key, one in options.items() for alias in [key, *(one.get("aliases") or [])]}
            for fragment in text.get("extends_documentation_fragment") or []:
                names |= fragments.get(fragment.split(".")[2], set())
            made[path.stem] = (names, {key for key, one in options.items() if one.get("required")})
    return made


def _documentation(path: pathlib.Path) -> t.Any:
    match = re.search(r'^DOCUMENTATION = r?"""\n?(.*?)^"""', path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert match, path
    return yaml.safe_load(match.group(1))
