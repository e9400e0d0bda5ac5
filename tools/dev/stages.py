# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the stages of `make test`, fast ones first, and end with one line: N passed, N failed.

    python stages.py [STAGE or GROUP ...]      # none: all; V=1 in the environment shows all output
    python stages.py --all vm                  # with the stages that take too long for every run

A stage that fails shows the end of its output and does not stop the others. Each stage counts as one, and the tests inside of a pytest stage
one each. Logs are kept in .cache/log. Standard library only: it runs before any virtual environment exists.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

REPO = Path(__file__).resolve().parents[2]
CACHE = REPO / ".cache"
LOGS = CACHE / "log"
TREE = CACHE / "tree" / "ansible_collections" / "attested" / "ai"
DEV = "tools/dev"
SHOWN_LINES = 80
# What a stage ends with where it cannot run, the reason being its last line.
CANNOT_RUN = 77
# How long a stage that is interrupted has to take down what it started.
ENDING_SECONDS = 60
CI = os.environ.get("CI", "").lower() in ("1", "true")

# name: (list of requirements, Python version or None for the newest)
VENVS = {
    "test": ("requirements/test.txt", None),
    # The floor that the collection promises: the oldest supported ansible-core on the oldest supported Python.
    "floor": ("requirements/floor.txt", "3.11"),
    # galaxy-importer pins versions that the other tools cannot live with.
    "importer": ("requirements/importer.txt", None),
    # The ansible package, with the collections that others work with.
    "peers": ("requirements/peers.txt", None),
}


@dataclasses.dataclass(frozen=True)
class Stage:
    name: str
    group: str
    commands: tuple[tuple[str, ...], ...]
    venv: str = "test"
    pytest: bool = False
    # Only run when asked for with --all.
    long: bool = False


def pytest_stage(name: str, group: str, *arguments: str, venv: str = "test") -> Stage:
    junit = f"--junitxml={LOGS / name}.xml"
    return Stage(name, group, (("python", "-m", "pytest", "-q", "--no-header", "-o", f"cache_dir=.cache/pytest-{venv}", junit, *arguments),), venv, pytest=True)


# Whether the container can run in which guests are built, and started under libvirt.
NSPAWN = ("python", "molecule/guest_image/files/nspawn.py", "check")

STAGES = (
    Stage("licences", "lint", (("python", f"{DEV}/check_files.py", "licences"),)),
    Stage("leaks", "lint", (("python", f"{DEV}/check_files.py", "leaks"),)),
    Stage("yamllint", "lint", (("yamllint", "--strict", str(TREE)),)),
    Stage("shellcheck", "lint", (("sh", "-c", f"shellcheck {DEV}/*.sh .ci/run"),)),
    Stage("changelog", "lint", (("antsibull-changelog", "lint"),)),
    Stage("ansible-lint", "lint", (("sh", "-c", f"cd '{TREE}' && ansible-lint --offline --profile production --strict"),)),
    Stage(
        "types",
        "types",
        (("sh", "-c", f"cd .cache/collections && mypy --config-file '{REPO}/pyproject.toml' -p ansible_collections.attested.ai.plugins.module_utils"),),
    ),
    # The README's first command, whole. It also leaves the real model behind, for the tests that hold its figures.
    Stage("demo", "demo", (("make", "demo"),)),
    pytest_stage("unit", "unit", "-n", "2", "tests/unit", "tests/conformance"),
    # Every parser and verifier, some thousand mutated inputs each; `make fuzz` runs a million.
    Stage("fuzz", "fuzz", (("python", "tests/fuzz/harness.py", "--count", "10000", "--jobs", "2"),)),
    pytest_stage("functional", "functional", "-n", "2", "--dist", "loadfile", "tests/functional"),
    # Modules of community.general before our Redfish service, and ours after them.
    pytest_stage("peers", "peers", "tests/peers", venv="peers"),
    Stage("artifact", "artifact", (("sh", f"{DEV}/artifact.sh", str(TREE), str(CACHE / "artifact")),)),
    Stage("environment", "artifact", (("sh", f"{DEV}/environment.sh", str(TREE), str(CACHE / "environment")),)),
    Stage("docs", "docs", (("sh", "-c", f"cd '{TREE}' && antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self ."),)),
    Stage("sanity", "sanity", (("sh", f"{DEV}/sanity.sh", str(TREE)),)),
    # Targets go down to Python 3.8, which the newest ansible-test no longer knows.
    Stage("sanity-floor", "sanity", (("sh", f"{DEV}/sanity.sh", str(TREE), "--python", "3.8", "--test", "compile", "--test", "import"),), "floor"),
    Stage("importer", "importer", (("sh", f"{DEV}/importer.sh", str(TREE), str(CACHE / "importer")),), "importer"),
    pytest_stage("floor-unit", "floor", "-n", "2", "tests/unit", "tests/conformance", venv="floor"),
    pytest_stage("floor-functional", "floor", "-n", "2", "--dist", "loadfile", "tests/functional", venv="floor"),
    Stage("molecule", "molecule", (("molecule", "test", "--scenario-name", "demo"),)),
    Stage("containers", "containers", (("python", "tools/vm/containers.py", "check"), ("molecule", "test", "--scenario-name", "hosts_container"))),
    # Real machines, emulated: the slowest of all, so the last.
    Stage("vm-snp-host", "vm", (("molecule", "test", "--scenario-name", "snp_host"),)),
    Stage("vm-tdx-host", "vm", (("molecule", "test", "--scenario-name", "tdx_host"),), long=True),
    Stage("vm-hosts", "vm", (("molecule", "test", "--scenario-name", "hosts"),), long=True),
    Stage("vm-snp-host-12", "vm", (("env", "ATTESTED_RELEASE=bookworm", "molecule", "test", "--scenario-name", "snp_host"),), long=True),
    Stage("vm-guest-image", "vm", (NSPAWN, ("molecule", "test", "--scenario-name", "guest_image"),), long=True),
    Stage(
        "vm-confidential-vm",
        "vm",
        (
            NSPAWN,
            (
                "sh",
                "-c",
                f"{DEV}/make_venv.sh .venv-peers requirements/peers.txt && "
                "peers=$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))') && "
                'ANSIBLE_COLLECTIONS_PATH="$ANSIBLE_COLLECTIONS_PATH:$peers" molecule test --scenario-name confidential_vm',
            ),
        ),
        long=True,
    ),
    Stage("vm-guests", "vm", (("python", "tools/vm/containers.py", "check"), ("molecule", "test", "--scenario-name", "guests")), long=True),
    Stage("vm-interrupted", "vm", (("python", "tools/vm/interruptions.py", "machines"),), long=True),
    Stage("containers-interrupted", "vm", (("python", "tools/vm/interruptions.py", "containers"),), long=True),
)


@dataclasses.dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def prepare(venv: str) -> str:
    """Make the virtual environment if need be; returns why it cannot be had, or nothing."""
    requirements, version = VENVS[venv]
    if version and subprocess.run([f"{DEV}/find_python.sh", version], cwd=REPO, capture_output=True, check=False).returncode:
        return f"no Python {version} here"
    command = [f"{DEV}/make_venv.sh", f".venv-{venv}", requirements, *([version] if version else [])]
    return "" if subprocess.run(command, cwd=REPO, stdin=subprocess.DEVNULL, check=False).returncode == 0 else "its virtual environment could not be made"


def environment(venv: str) -> dict[str, str]:
    """What every stage sees: the venv first on PATH, the checkout as collection, no colour, no question asked."""
    collections = str(CACHE / "collections")
    return {
        **os.environ,
        "PATH": os.pathsep.join((str(REPO / f".venv-{venv}" / "bin"), os.environ["PATH"])),
        "PYTHONPATH": collections,
        "ANSIBLE_COLLECTIONS_PATH": collections,
        "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"),
        "ATTESTED_VECTORS": os.environ.get("ATTESTED_VECTORS", str(REPO.parent / "shared" / "vectors")),
        "PYENV_ROOT": os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")),
        "VIRTUAL_ENV": str(REPO / f".venv-{venv}"),
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def run(stage: Stage) -> int:
    """Run the stage's commands up to the first that fails, and return its code; its output goes to a log, and to the screen with V=1."""
    log = LOGS / f"{stage.name}.log"
    with log.open("w") as stream:
        for command in stage.commands:
            output = None if os.environ.get("V") else stream
            try:
                code = call(command, stage, output)
            except KeyboardInterrupt:
                # Machines and containers outlive the programs that started them.
                if "molecule test" in " ".join(command):
                    print(f"taking down what {stage.name} started", flush=True)
                    call([{"test": "destroy"}.get(word, word.replace("molecule test", "molecule destroy")) for word in command], stage, output)
                raise
            if code:
                return code
    return 0


def call(command: Sequence[str], stage: Stage, output: IO[str] | None) -> int:
    """The command in a session of its own, with all of which an interruption ends."""
    process = subprocess.Popen(
        command, cwd=REPO, env=environment(stage.venv), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDING_SECONDS)
        raise


def interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def tests_of(stage: Stage) -> Count:
    """Numbers from pytest's own report; a report that is missing or counts no test makes the stage a failure elsewhere."""
    try:
        root = ElementTree.parse(LOGS / f"{stage.name}.xml").getroot()
    except (OSError, ElementTree.ParseError):
        return Count()
    count = Count()
    for suite in root.iter("testsuite"):
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        count.failed += failed
        count.skipped += skipped
        count.passed += int(suite.get("tests", 0)) - failed - skipped
    return count


def last_line(stage: Stage) -> str:
    """The stage's own last word, for the overview."""
    lines = [line.strip(" =") for line in (LOGS / f"{stage.name}.log").read_text(errors="replace").splitlines() if line.strip(" =")]
    return lines[-1][:100] if lines else ""


def selected(words: list[str]) -> list[Stage]:
    everything = "--all" in words
    words = [word for word in words if word != "--all"]
    unknown = set(words) - {stage.name for stage in STAGES} - {stage.group for stage in STAGES}
    if unknown:
        names, groups = (", ".join(sorted({getattr(stage, kind) for stage in STAGES})) for kind in ("name", "group"))
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; stages are {names}; groups are {groups}")
    chosen = [stage for stage in STAGES if not words or stage.name in words or stage.group in words]
    return [stage for stage in chosen if everything or not stage.long or stage.name in words]


def main() -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    subprocess.run([f"{DEV}/link_collection.sh"], cwd=REPO, check=True)
    total, begin, unavailable = Count(), time.monotonic(), {}
    for stage in selected(sys.argv[1:]):
        if stage.venv not in unavailable:
            unavailable[stage.venv] = prepare(stage.venv)
            subprocess.run([sys.executable, f"{DEV}/tree.py", str(TREE)], cwd=REPO, check=True)
        reason = unavailable[stage.venv]
        # On a user's machine an interpreter may be missing; continuous integration must not pass for lack of one.
        if reason.startswith("no Python") and not CI:
            total.skipped += 1
            print(f"skipped  {stage.name}: {reason}", flush=True)
            continue
        (LOGS / f"{stage.name}.xml").unlink(missing_ok=True)
        started = time.monotonic()
        code = 1 if reason else run(stage)
        if code == CANNOT_RUN and not CI:
            total.skipped += 1
            print(f"skipped  {stage.name}: {last_line(stage)}", flush=True)
            continue
        good = code == 0
        tests = tests_of(stage) if stage.pytest else Count()
        good = good and not (stage.pytest and tests.passed == 0)
        total.passed += tests.passed + good
        total.failed += tests.failed + (not good)
        total.skipped += tests.skipped
        print(f"{'ok      ' if good else 'FAILED  '} {stage.name:<17} {time.monotonic() - started:6.1f} s  {reason or last_line(stage)}", flush=True)
        if not good and not reason and not os.environ.get("V"):
            lines = (LOGS / f"{stage.name}.log").read_text(errors="replace").splitlines()
            print("\n".join(f"    {line}" for line in lines[-SHOWN_LINES:]), flush=True)
    print(f"{time.monotonic() - begin:.0f} s in all; logs in .cache/log")
    print(f"{total.passed} passed, {total.failed} failed" + (f", {total.skipped} skipped" if total.skipped else ""))
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
