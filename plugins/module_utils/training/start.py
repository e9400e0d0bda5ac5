# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program of an image without a login: one job from a disk of the host, its results onto another one, and that is all.

Nobody is there to be told anything. So each end is a code: in one line for the console, and in the status on the disk with the results.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors
from ansible_collections.attested.ai.plugins.module_utils.training import agreement as agreements
from ansible_collections.attested.ai.plugins.module_utils.training import code as programs
from ansible_collections.attested.ai.plugins.module_utils.training import options, runner, settings
from ansible_collections.attested.ai.plugins.module_utils.training.delivery import Disk, Status
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError
from ansible_collections.attested.ai.plugins.module_utils.training.slots import Slots
from ansible_collections.attested.ai.plugins.module_utils.training.volume import Archive, Folder

# Seconds for the disk of checkpoints to be found by the kernel, after the others were.
_TRIES = 20
# No job has such a name.
_UNPACKED = ".start"


@dataclass(frozen=True)
class Start:
    """Paths of the settings, which belong to the image, and of the disks. The one for checkpoints is there where they were agreed on."""

    settings: str
    job: str
    results: str
    checkpoints: str = ""


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="training", description="Runs the job on a disk, and leaves its results on another one.")
    for name, what in (("settings", "settings of the image"), ("job", "disk with the job"), ("results", "disk for the results")):
        parser.add_argument("--" + name, required=True, help=what)
    parser.add_argument("--checkpoints", default="", help="disk for checkpoints")
    try:
        with signals_as_errors():
            status = run(Start(**vars(parser.parse_args(argv))), execute)
    except AttestedError as error:
        # Not even the disk for the results can be used: the line is all that is left.
        sys.stderr.write("%s\n" % error)
        status = Status(error=error.code)
    done = "done but for " + status.warning if status.warning else "done"
    sys.stdout.write("attested.ai: job %s: %s\n" % (status.job or "unknown", status.error or done))
    return 1 if status.error else 0


def run(start: Start, execute_with: runner.Runner) -> Status:
    """How it ended, after that was written down. Raises AttestedError where it could not be."""
    chosen = settings.parse_settings(_settings(start.settings), start.settings)
    with contextlib.closing(Disk(start.results)) as disk:
        place = os.path.join(os.path.realpath(chosen["directory"]), _UNPACKED)
        results = os.path.join(place, "results")
        ending = _Ending()
        try:
            with ending.caught():
                _work(start, chosen, place, results, execute_with, ending)
            # After a failure that is the log alone, if one was agreed on.
            written = False
            with ending.caught():
                if os.path.isdir(results):
                    disk.write_results(results)
                    written = True
            disk.write_status(ending.status, written)
            return ending.status
        finally:
            memory.wipe_tree(place, overwrite=False)


class _Ending:
    """The status so far. Of several failures the first counts."""

    def __init__(self) -> None:
        self.status = Status()

    def of(self, agreement: agreements.Agreement) -> None:
        self.status = Status(agreement.job, agreement.digest)

    def but_for(self, what: str, code: str) -> None:
        sys.stderr.write("%s\n" % what)
        self.status = replace(self.status, warning=code)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        try:
            yield
        except AttestedError as error:
            self._failed(str(error), code=error.code)
        except OSError as error:
            self._failed("%s: it cannot be read or written (%s)" % (error.filename, error.strerror), code="training-file")
        except Exception as error:  # pylint: disable=broad-except
            # A mistake of ours: nobody could read more of it, and its words may hold data.
            self._failed("this should not happen (%s)" % type(error).__name__, code="training-internal")

    def _failed(self, what: str, code: str) -> None:
        sys.stderr.write("%s\n" % what)
        if not self.status.error:
            self.status = replace(self.status, error=code)


def _work(start: Start, chosen: Dict[str, Any], place: str, results: str, execute_with: runner.Runner, ending: _Ending) -> None:
    os.makedirs(os.path.dirname(place), mode=0o711, exist_ok=True)
    memory.require_memory(os.path.dirname(place))
    memory.wipe_tree(place, overwrite=False)
    os.mkdir(place, 0o700)
    with contextlib.ExitStack() as opened:
        archive = opened.enter_context(contextlib.closing(Archive(start.job)))
        _only_known(archive)
        raw = archive.read("agreement.json", agreements.SIZE_MAX)
        agreement = agreements.Agreement.parse(raw, "agreement.json")
        ending.of(agreement)
        sources = settings.parse_job(archive.read("job.json", settings.SIZE_MAX), "job.json", agreement)
        path = os.path.join(place, "agreement.json")
        with open(path, "xb") as stream:
            stream.write(raw)
        archive.unpack("code", os.path.join(place, "code"), programs.SIZE_MAX)
        given = dict(chosen, state="present", agreement=path, code=os.path.join(place, "code"), results=results, sources=sources)
        store = None
        if agreement.checkpoints:
            _wait_for(start.checkpoints)
            staging = runner.Place(os.path.join(os.path.dirname(place), agreement.job)).staging
            store = opened.enter_context(contextlib.closing(Slots(start.checkpoints, agreement.checkpoints.keep, staging)))
        told = options.apply(given, False, execute_with, lambda src: Folder(archive, src), store)
        if "checkpoint_failure" in told:
            ending.but_for(told["checkpoint_failure"], code="training-checkpoint")


def _wait_for(disk: str) -> None:
    """No unit waits for it, since few jobs have it. Whether it came is seen when it is opened."""
    for _try in range(_TRIES):
        if os.path.exists(disk):
            return
        time.sleep(1)


def _only_known(archive: Archive) -> None:
    for name in archive.members:
        if name not in ("agreement.json", "job.json") and name.split("/")[0] not in ("code", "data"):
            raise TrainingError("%s does not belong there" % ascii(name)[:80], where=archive.where,
                                fix="A job is agreement.json, job.json, code and data", code="training-volume")  # fmt: skip


def _settings(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(settings.SIZE_MAX)
    except OSError as error:
        raise TrainingError("it cannot be read (%s)" % error.strerror, where=path, fix="Put it into the image", code="training-settings") from None


def execute(argv: Sequence[str]) -> Tuple[int, str, str]:
    """For systemd's own programs."""
    # There is no module here whose run_command could be asked.
    done = subprocess.run(  # pylint: disable=ansible-bad-function
        list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    return done.returncode, done.stdout, done.stderr
