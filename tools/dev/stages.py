# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the stages of `make test`, fast ones first and as many at once as there are cores for, and end with one line: N passed, N failed.

    python stages.py [STAGE or GROUP ...]      # none: all; V=1 in the environment shows all output, one stage after the other
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
import threading
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
# How many cores stages share. An emulated machine has two processors, and seldom has work for more than one of them.
CORES = len(os.sched_getaffinity(0))
# Set where the whole run is interrupted.
STOP = threading.Event()

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
    cores: int = 1
    # Only run when asked for with --all.
    long: bool = False


class Interrupted(KeyboardInterrupt):
    """The run is to end."""


def pytest_stage(name: str, group: str, *arguments: str, venv: str = "test", cores: int = 1) -> Stage:
    command = ["python", "-m", "pytest", "-q", "--no-header", "-o", f"cache_dir=.cache/pytest-{venv}", f"--junitxml={LOGS / name}.xml", *arguments]
    if cores > 1:
        command += ["-n", str(cores), "--dist", "loadfile" if group == "functional" else "load"]
    return Stage(name, group, (tuple(command),), venv, pytest=True, cores=cores)


# They play a whole role again and again, for minutes each; unit tests hold its parts for every commit.
LONGEST_PLAYS = (
    "tests/functional/test_trustee_role.py",
    "tests/functional/test_kata_node_role.py",
    "tests/functional/test_tdx_quoting_role.py",
    "tests/functional/test_training.py",
    "tests/unit/guests/test_gpu_guest_role.py",
)
BROWSER = "tests/functional/test_report_browser.py"
WITHOUT_LONGEST = (f"--ignore={BROWSER}",) + tuple(f"--ignore={name}" for name in LONGEST_PLAYS)
# The next longest, which every run plays on the newest ansible-core alone.
LONG_PLAYS = tuple(f"tests/functional/test_{name}.py" for name in ("gpu_role", "commands", "decommission", "site"))
WITHOUT_LONG = tuple(f"--ignore={name}" for name in LONG_PLAYS)
# Collections of the ansible package, where a scenario needs some.
WITH_PEERS = (
    f"{DEV}/make_venv.sh .venv-peers requirements/peers.txt && "
    "peers=$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))') && "
    'ANSIBLE_COLLECTIONS_PATH="$ANSIBLE_COLLECTIONS_PATH:$peers" %smolecule test --scenario-name %s'
)
# Whether the container can run in which guests are built, and started under libvirt.
NSPAWN = ("python", "molecule/guest_image/files/nspawn.py", "check")

STAGES = (
    Stage("licences", "lint", (("python", f"{DEV}/check_files.py", "licences"),)),
    Stage("leaks", "lint", (("python", f"{DEV}/check_files.py", "leaks"),)),
    Stage("widths", "lint", (("python", f"{DEV}/check_files.py", "widths"),)),
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
    Stage("demo", "demo", (("make", "demo"),), cores=2),
    pytest_stage("unit", "unit", "tests/unit", "tests/conformance", *WITHOUT_LONGEST, cores=2),
    # Every parser and verifier, some thousand mutated inputs each; `make fuzz` runs a million.
    Stage("fuzz", "fuzz", (("python", "tests/fuzz/harness.py", "--count", "10000", "--jobs", "2"),), cores=2),
    pytest_stage("functional", "functional", "tests/functional", *WITHOUT_LONGEST, cores=2),
    pytest_stage("browser", "functional", BROWSER),
    Stage("sanity", "sanity", (("sh", f"{DEV}/sanity.sh", str(TREE)),)),
    # Modules of community.general before our Redfish service, and ours after them.
    pytest_stage("peers", "peers", "tests/peers", venv="peers"),
    Stage("artifact", "artifact", (("sh", f"{DEV}/artifact.sh", str(TREE), str(CACHE / "artifact")),)),
    Stage("environment", "artifact", (("sh", f"{DEV}/environment.sh", str(TREE), str(CACHE / "environment")),)),
    Stage("docs", "docs", (("sh", "-c", f"cd '{TREE}' && antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self ."),)),
    # Targets go down to Python 3.8, which the newest ansible-test no longer knows.
    Stage("sanity-floor", "sanity", (("sh", f"{DEV}/sanity.sh", str(TREE), "--python", "3.8", "--test", "compile", "--test", "import"),), "floor"),
    # It gives ansible-lint three minutes, so nothing runs beside it.
    Stage("importer", "importer", (("sh", f"{DEV}/importer.sh", str(TREE), str(CACHE / "importer")),), "importer", cores=2),
    # A real machine, emulated: it has a core for itself, and what follows the other.
    Stage("vm-snp-host", "vm", (("molecule", "test", "--scenario-name", "snp_host"),)),
    Stage("molecule", "molecule", (("molecule", "test", "--scenario-name", "demo"),)),
    Stage("containers", "containers", (("python", "tools/vm/containers.py", "check"), ("molecule", "test", "--scenario-name", "hosts_container"))),
    pytest_stage("floor-functional", "floor", "tests/functional", *WITHOUT_LONGEST, *WITHOUT_LONG, venv="floor"),
    pytest_stage("floor-unit", "floor", "tests/unit", "tests/conformance", "-m", "not costly", venv="floor", cores=2),
    dataclasses.replace(pytest_stage("floor-long", "vm", "tests/functional/test_tdx_quoting_role.py", *LONG_PLAYS, venv="floor", cores=2), long=True),
    dataclasses.replace(pytest_stage("floor-costly", "vm", "tests/unit", "-m", "costly", venv="floor", cores=2), long=True),
    dataclasses.replace(pytest_stage("functional-longest", "vm", *LONGEST_PLAYS, cores=2), long=True),
    Stage("vm-tdx-host", "vm", (("molecule", "test", "--scenario-name", "tdx_host"),), long=True, cores=2),
    Stage("vm-hosts", "vm", (("molecule", "test", "--scenario-name", "hosts"),), long=True, cores=2),
    Stage("vm-snp-host-12", "vm", (("env", "ATTESTED_RELEASE=bookworm", "molecule", "test", "--scenario-name", "snp_host"),), long=True, cores=2),
    Stage("vm-guest-image", "vm", (NSPAWN, ("molecule", "test", "--scenario-name", "guest_image"),), long=True, cores=2),
    Stage("vm-training-image", "vm", (NSPAWN, ("molecule", "test", "--scenario-name", "training_image")), long=True, cores=2),
    Stage("vm-confidential-vm", "vm", (NSPAWN, ("sh", "-c", WITH_PEERS % ("", "confidential_vm"))), long=True, cores=2),
    Stage(
        "kubernetes",
        "vm",
        (("python", "molecule/kubernetes/files/api.py", "check"), ("sh", "-c", WITH_PEERS % ('PYTHONPATH="$PYTHONPATH:$peers" ', "kubernetes"))),
        long=True,
        cores=2,
    ),
    Stage("vm-guests", "vm", (("python", "tools/vm/containers.py", "check"), ("molecule", "test", "--scenario-name", "guests")), long=True, cores=2),
    Stage("vm-guest", "vm", (("molecule", "test", "--scenario-name", "guest_vm"),), long=True, cores=2),
    Stage("vm-gpu-host", "vm", (("molecule", "test", "--scenario-name", "gpu_host"),), long=True, cores=2),
    Stage("vm-model-server", "vm", (("molecule", "test", "--scenario-name", "model_server"),), long=True, cores=2),
    Stage("vm-model-image", "vm", (("python", "tools/vm/model_image.py"),), long=True, cores=2),
    Stage("vm-interrupted", "vm", (("python", "tools/vm/interruptions.py", "machines"),), long=True, cores=2),
    Stage("containers-interrupted", "vm", (("python", "tools/vm/interruptions.py", "containers"),), long=True, cores=2),
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
                code = call(command, stage, output, STOP)
            except Interrupted:
                # Machines and containers outlive the programs that started them.
                if "molecule test" in " ".join(command):
                    print(f"taking down what {stage.name} started", flush=True)
                    call([{"test": "destroy"}.get(word, word.replace("molecule test", "molecule destroy")) for word in command], stage, output)
                raise
            if code:
                return code
    return 0


def call(command: Sequence[str], stage: Stage, output: IO[str] | None, stop: threading.Event | None = None) -> int:
    """The command in a session of its own, all of which ends when ``stop`` is set. Raises Interrupted then."""
    process = subprocess.Popen(
        command, cwd=REPO, env=environment(stage.venv), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    while stop is None or not stop.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_SECONDS)
    raise Interrupted


def interrupted(_number: int, _frame: object) -> None:
    STOP.set()


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


class Run:
    """Stages side by side: each starts in its turn, as soon as there are cores for it."""

    def __init__(self, cores: int) -> None:
        self.total = Count()
        self._cores = self._free = cores
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self, stage: Stage, reason: str) -> None:
        """Wait for cores, and go on without waiting for its end. ``reason``: why it cannot run at all."""
        need = min(stage.cores, self._cores)
        with self._changed:
            while self._free < need and not STOP.is_set():
                self._changed.wait(0.2)
            if STOP.is_set():
                raise Interrupted
            self._free -= need
        thread = threading.Thread(target=self._judge, args=(stage, reason, need))
        self._threads.append(thread)
        thread.start()

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()

    def _judge(self, stage: Stage, reason: str, cores: int) -> None:
        started = time.monotonic()
        (LOGS / f"{stage.name}.xml").unlink(missing_ok=True)
        try:
            code = 1 if reason else run(stage)
        except Interrupted:
            return
        except Exception as error:
            # Out of a thread it would end nothing, and the stage would be neither passed nor failed.
            code, reason = 1, f"{type(error).__name__}: {error}"
        finally:
            with self._changed:
                self._free += cores
                self._changed.notify()
        with self._changed:
            self._record(stage, reason, code, time.monotonic() - started)

    def _record(self, stage: Stage, reason: str, code: int, seconds: float) -> None:
        # On a user's machine something may be missing; continuous integration must not pass for lack of it.
        if (code == CANNOT_RUN or reason.startswith("no Python")) and not CI:
            self.total.skipped += 1
            print(f"skipped  {stage.name}: {reason or last_line(stage)}", flush=True)
            return
        good = code == 0
        tests = tests_of(stage) if stage.pytest else Count()
        good = good and not (stage.pytest and tests.passed == 0)
        self.total.passed += tests.passed + good
        self.total.failed += tests.failed + (not good)
        self.total.skipped += tests.skipped
        print(f"{'ok      ' if good else 'FAILED  '} {stage.name:<17} {seconds:6.1f} s  {reason or last_line(stage)}", flush=True)
        if not good and not reason and not os.environ.get("V"):
            lines = (LOGS / f"{stage.name}.log").read_text(errors="replace").splitlines()
            print("\n".join(f"    {line}" for line in lines[-SHOWN_LINES:]), flush=True)


def main() -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    subprocess.run([f"{DEV}/link_collection.sh"], cwd=REPO, check=True)
    # Before anything runs: later it would change under those that read it.
    subprocess.run([sys.executable, f"{DEV}/tree.py", str(TREE)], cwd=REPO, check=True)
    begin, unavailable = time.monotonic(), {}
    together = Run(1 if os.environ.get("V") else CORES)
    try:
        for stage in selected(sys.argv[1:]):
            if stage.venv not in unavailable:
                unavailable[stage.venv] = prepare(stage.venv)
            together.start(stage, unavailable[stage.venv])
    finally:
        together.finish()
    if STOP.is_set():
        raise Interrupted
    total = together.total
    print(f"{time.monotonic() - begin:.0f} s in all; logs in .cache/log")
    print(f"{total.passed} passed, {total.failed} failed" + (f", {total.skipped} skipped" if total.skipped else ""))
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
