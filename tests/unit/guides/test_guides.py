# SPDX-License-Identifier: GPL-3.0-or-later
"""All guides against the collection: what they tell people to type and to write exists. Parsed, not run; what is run is named in each guide."""

from __future__ import annotations

import importlib.util
import re
import shlex

import pytest
import yaml

from .guides_lab import REPO, blocks, commands, guides

NAMESPACE = "attested.ai."


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ERROR_CODES = load(REPO / "docs" / "docsite" / "error_codes.py")


def documentation(path):
    match = re.search(r'^DOCUMENTATION = r?"""\n?(.*?)^"""', path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return yaml.safe_load(match.group(1))


class Tagged(yaml.SafeLoader):
    """Ansible's tags are values like any other here."""


Tagged.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None)


@pytest.fixture(scope="module")
def modules():
    """Options of all modules by their short name, sub-options left to the modules themselves."""
    found = {path.stem: documentation(path) for path in (REPO / "plugins" / "modules").glob("*.py") if path.stem != "__init__"}
    fragments = {}
    for path in (REPO / "plugins" / "doc_fragments").glob("*.py"):
        fragments[path.stem] = set(re.findall(r"^    ([a-z_]+):$|^  ([a-z_]+):$", path.read_text(encoding="utf-8"), re.MULTILINE))
    options = {}
    for name, text in found.items():
        known = {alias for key, one in (text.get("options") or {}).items() for alias in [key, *(one.get("aliases") or [])]}
        for fragment in text.get("extends_documentation_fragment") or []:
            known |= {word for pair in fragments.get(fragment.split(".")[2], ()) for word in pair if word}
        options[name] = (known, {key for key, one in (text.get("options") or {}).items() if one.get("required")})
    return options


def tasks(value):
    """Every dictionary that has a task's module of this collection, wherever it stands."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from tasks(one)
    elif isinstance(value, list):
        for one in value:
            yield from tasks(one)


def test_yaml_of_all_guides_is_yaml_and_its_tasks_are_possible(modules):
    problems, count = [], 0
    for block in blocks("yaml", "yml"):
        try:
            documents = list(yaml.load_all(block.text, Tagged))
        except yaml.YAMLError as error:
            problems.append(f"{block}: {str(error).splitlines()[0]}")
            continue
        for task in tasks(documents):
            for key, options in task.items():
                if not (isinstance(key, str) and key.startswith(NAMESPACE) and isinstance(options, dict)):
                    continue
                count += 1
                name = key[len(NAMESPACE) :]
                known, required = modules.get(name, (None, set()))
                if known is None:
                    problems.append(f"{block}: there is no module {key}")
                    continue
                problems += [f"{block}: {key} has no option {option}" for option in options if option not in known]
                if "module_defaults" not in block.text:
                    problems += [f"{block}: {key} needs {option}" for option in required if option not in options]
    assert not problems, "\n".join(problems)
    assert count > 50


def test_roles_and_playbooks_that_guides_name_are_there():
    roles = {path.name for path in (REPO / "roles").iterdir() if path.is_dir()}
    books = {path.stem for path in (REPO / "playbooks").glob("*.yml")}
    problems, count = [], 0
    for block in blocks("yaml", "yml"):
        for name in re.findall(r"(?:role|name): attested\.ai\.([a-z_]+)$", block.text, re.MULTILINE):
            if name not in roles:
                problems.append(f"{block}: there is no role {name}")
        for name in re.findall(r"import_playbook: attested\.ai\.([a-z_]+)", block.text):
            if name not in books:
                problems.append(f"{block}: there is no playbook {name}")
    for block, command in commands():
        for name in re.findall(r"ansible-playbook (?:.* )?attested\.ai\.([a-z_]+)", command):
            count += 1
            if name not in books:
                problems.append(f"{block}: there is no playbook {name}")
    assert not problems, "\n".join(problems)
    assert count > 20


def test_commands_of_all_guides_can_be_parsed():
    """By the shell's rules, and those of ansible-playbook by its own parser."""
    from ansible.cli.playbook import PlaybookCLI

    problems, count = [], 0
    for block, command in commands():
        try:
            words = shlex.split(command, comments=True)
        except ValueError as error:
            problems.append(f"{block}: {error}: {command}")
            continue
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words[:1] != ["ansible-playbook"]:
            continue
        count += 1
        cli = PlaybookCLI(words)
        cli.init_parser()
        cli.parser.error = lambda message, at=block, line=command: problems.append(f"{at}: {message}: {line}")
        cli.parser.parse_args(words[1:])
    assert not problems, "\n".join(problems)
    assert count > 20


def test_links_between_guides_lead_somewhere():
    problems = []
    for path in guides():
        text = re.sub(r"^( *)```.*?^\1```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)\s#]+)", text):
            if not (path.parent / target).exists():
                problems.append(f"{path.relative_to(REPO)}: {target}")
    assert not problems, "\n".join(problems)


def test_the_site_has_every_guide():
    index = (REPO / "docs" / "docsite" / "index.md").read_text(encoding="utf-8")
    listed = [line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.splitlines() if line and not line.startswith(":")]
    assert sorted(set(listed) - {"plugins/index"}) == sorted(path.stem for path in (REPO / "docs").glob("*.md"))
    assert len(listed) == len(set(listed))


def test_every_error_code_of_the_source_is_in_the_guide_and_no_other():
    found = set(ERROR_CODES.collect())
    listed = ERROR_CODES.codes_of_guide((REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    hint = "run python docs/docsite/error_codes.py --write"
    assert not found - set(listed), f"missing: {sorted(found - set(listed))}; {hint}"
    assert not set(listed) - found, f"gone from the source: {sorted(set(listed) - found)}; {hint}"
    assert len(listed) == len(set(listed)) and len(found) > 400


def test_codes_are_found_in_every_form_they_are_written_in(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "a.py").write_text(
        'class E(Exception):\n    """A class that says it."""\n    default_code = "one"\n'
        'raise E("it is %d of " % 3 + x, fix="Do that", code="two")\nraise E(f"no {x}", code="three" if y else "four")\nraise E("x", code=name)\n'
    )
    found = ERROR_CODES.collect(tmp_path)
    assert sorted(found) == ["four", "one", "three", "two"]
    assert found["two"] == ("it is ... of ...", "Do that") and found["four"][0] == "no ..." and found["one"][0] == "A class that says it"
