# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A job from one end to the other, in the guest: look at everything, fetch every key, open every data set, run, encrypt, wipe.

Two phases. While one owner's broker still refuses, nothing is opened; when the last key is there, all is opened, and only then does the program start.
A key lies in its session until its broker has answered, and from then on in this process only, however long it takes to open all data.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import session as sessions
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull import Order, pull
from ansible_collections.attested.ai.plugins.module_utils.modelserver import accounts
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training import checkpoints, code, done, result, runner
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import CHECKPOINTS, LOG, Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError
from ansible_collections.attested.ai.plugins.module_utils.training.look import Job, Source, look, manifest_of, read_agreement

__all__ = ("Job", "Pull", "Source", "absent", "noswap_known", "read_agreement", "run")

Pull = Callable[[Order, OwnEvidence, bool], Dict[str, Any]]


def run(job: Job, check_mode: bool, execute: runner.Runner, fetch: Pull = pull) -> Dict[str, Any]:
    """The return values of the module. Raises AttestedError; then nothing was released, and no plaintext and no key is left."""
    agreement = read_agreement(job.agreement)
    told: Dict[str, Any] = {"agreement": agreement.digest, "job": agreement.job, "outputs": [name for name, _who in agreement.outputs]}
    # The folder belongs to the host. What this boot does not know of is believed when all owners' tags have been checked.
    found = result.finished(job.results, agreement)
    if found and done.known(os.path.dirname(job.dest), agreement, found):
        return dict(told, changed=False)
    look(job, agreement, there=bool(found))
    if check_mode:
        return dict(told, changed=not found)
    this = _Run(job, agreement, execute, fetch)
    told.update(changed=not found, released=this.run(found))
    if agreement.checkpoints and not found:
        told["checkpoints"] = this.kept
        if this.lost is not None:
            told["checkpoint_failure"] = str(this.lost)
    return told


@dataclass(frozen=True)
class _Released:
    """What a broker gave out for a data set, in locked memory."""

    source: Source
    sealed: opener.Sealed
    key: bytearray = field(repr=False)


class _Run:
    def __init__(self, job: Job, agreement: Agreement, execute: runner.Runner, fetch: Pull) -> None:
        self._job, self._agreement, self._execute, self._fetch = job, agreement, execute, fetch
        self._place = runner.Place(job.dest)
        self._released: List[_Released] = []
        self._tags: Dict[str, bytes] = {}
        self._made = False
        # Of this start of the program. Who starts it twice has checkpoints of two runs.
        self._name = secrets.token_hex(16)
        self.kept: List[int] = []
        # Of a program that came to its end all the same.
        self.lost: Optional[TrainingError] = None
        self._uid, self._gid = (os.getuid(), os.getgid()) if job.isolation == runner.PROCESS else accounts.numbers(job.limits.user)

    def run(self, found: Sequence[result.Statement]) -> List[Dict[str, Any]]:
        memory.harden_process()
        try:
            told = [self._key(source) for source in self._job.sources]
            if found:
                self._verify(found)
            else:
                self._open()
                found = self._work()
            done.remember(os.path.dirname(self._job.dest), self._agreement, found)
            return told
        except OSError as error:
            raise TrainingError("it cannot be read or written (%s)" % error.strerror, where=str(error.filename or self._job.dest),
                                code="training-file") from None
        finally:
            for released in self._released:
                memory.wipe(released.key)
            self._tags.clear()
            # Never that of another run.
            if self._made:
                memory.wipe_tree(self._job.dest, overwrite=False)

    def _key(self, source: Source) -> Dict[str, Any]:
        """Phase one. What the broker gave out has to be for what was agreed on."""
        party, session = self._agreement.party(source.party), secrets.token_hex(10)
        order, own = source.prepared(session)
        try:
            told = self._fetch(replace(order, agreement=self._agreement.digest, keep_tag_key=partial(self._tags.__setitem__, party.id)), own, False)
            release = sessions.load_session(self._job.session_directory, session).release()
        except AttestedError as error:
            raise TrainingError("%s does not release its key: %s" % (party.id, str(error).rstrip(".")), where="party %s" % party.id,
                                fix="Nothing was opened", code=error.code) from None  # fmt: skip
        finally:
            sessions.sweep_session(self._job.session_directory, session)
        if release.model_id != party.model_id or jwk_thumbprint(release.manifest_signer) != party.manifest_signer:
            raise TrainingError("its key is for %s of the signer %s, which was not agreed on" % (release.model_id, jwk_thumbprint(release.manifest_signer)),
                                where="party %s" % party.id, fix="Nothing was opened", code="training-key")  # fmt: skip
        # Before the first data set is opened, so that a manifest that was changed stops all.
        sealed = manifest_of(source, party)
        opener.check_release(sealed, release, source.src)
        key = bytearray(release.key)
        memory.lock_memory(key)
        self._released.append(_Released(source, sealed, key))
        return {"party": party.id, **{name: told[name] for name in ("model_id", "release", "key_id", "resource", "anchored")}}

    def _verify(self, found: Sequence[result.Statement]) -> None:
        """In the place of phase two, where results lie that this boot does not know of."""
        try:
            result.verify_all(found, self._agreement, self._tags, self._job.results)
        except TrainingError as error:
            raise TrainingError("what lies there says that it is of this agreement, but %s" % error.what, where=self._job.results,
                                fix="Find out who put it there, move it away, and run the job", code="training-results") from None  # fmt: skip

    def _open(self) -> None:
        """Phase two."""
        place = self._place
        os.mkdir(place.root, 0o711)
        self._made = True
        # Listed by the program, and by nobody else.
        os.mkdir(place.data, 0o750)
        os.chown(place.data, -1, self._gid)
        memory.require_memory(place.data)
        code.copy(self._job.code, place.code, self._agreement.code)
        for released in self._released:
            try:
                self._decrypt(released)
            except AttestedError as error:
                raise TrainingError("its data does not open: %s" % str(error).rstrip("."), where="party %s" % released.source.party,
                                    fix="The program was not started", code=error.code) from None  # fmt: skip
        os.mkdir(place.log, 0o700)
        os.mkdir(place.out, 0o700)
        os.chown(place.out, self._uid, self._gid)
        if self._agreement.checkpoints:
            self._job.store.prepare()
            os.mkdir(place.checkpoints, 0o700)
            os.chown(place.checkpoints, self._uid, self._gid)

    def _decrypt(self, released: _Released) -> None:
        source, sealed = released.source, released.sealed
        target = opener.Target(source.src, os.path.join(self._place.data, source.party), min(8, len(os.sched_getaffinity(0))), self._uid, self._gid)
        with contextlib.closing(source.opened(source.src)) as reader:
            reader.check(sealed.manifest)
            opener.check_space(target.dest, sealed.manifest)
            opener.decrypt(target, sealed, released.key, source=reader)
        memory.wipe(released.key)

    def _work(self) -> Tuple[result.Statement, ...]:
        agreement, place = self._agreement, self._place
        failed = self._program()
        if failed is not None:
            if runner.agreement_has_log(agreement) and os.path.exists(place.log_file):
                self._seal((LOG,), succeeded=False)
            raise failed
        memory.wipe_tree(place.data, overwrite=False)
        names = tuple(name for name, _who in agreement.outputs)
        missing = [name for name in names if not os.path.isdir(place.output(name)) or os.path.islink(place.output(name))]
        if missing:
            raise TrainingError("the program made no folder %s" % ", ".join(missing), where="job %s" % agreement.job, fix="Nothing was released",
                                code="training-output")  # fmt: skip
        return self._seal(names)

    def _program(self) -> Optional[TrainingError]:
        """Run it. What is returned are failures of which the log is released."""
        job, agreement, halt = self._job, self._agreement, threading.Event()
        try:
            with self._watched(halt) as watch:
                if job.isolation == runner.PROCESS:
                    status = runner.run_process(agreement, self._place, job.limits, halt if agreement.checkpoints else None)
                else:
                    status = runner.run_unit(agreement, self._place, job.limits, self._execute, noswap_known(os.uname().release))
        except TrainingError as error:
            if error.code == "training-checkpoint":
                return error
            raise
        lost = watch.failure if watch else None
        self.kept = watch.sealed[-watch.keep:] if watch else []
        if not status:
            # Its results are whole, and worth more than the checkpoint that is missing.
            self.lost = lost
            return None
        ended = "the program ended with status %d" % status
        fix = "Nothing was released but its log, where one was agreed on, and checkpoints"
        return lost or TrainingError(ended, where="job %s" % agreement.job, fix=fix, code="training-failed")

    def _watched(self, halt: threading.Event) -> Any:
        job, agreement, place = self._job, self._agreement, self._place
        if agreement.checkpoints is None:
            return contextlib.nullcontext()

        def seal(number: int, source: str, dest: str) -> None:
            result.seal(agreement, CHECKPOINTS, source, dest, self._tags, checkpoint=result.Checkpoint(self._name, number))

        def end() -> None:
            halt.set()
            if job.isolation != runner.PROCESS:
                runner.stop_unit(agreement, self._execute)

        return checkpoints.Watch(place.checkpoints, place.taken, job.store, agreement.checkpoints.keep, seal, end)

    def _seal(self, names: Tuple[str, ...], succeeded: bool = True) -> Tuple[result.Statement, ...]:
        """All or nothing: the folder gets its name when the last output is in it."""
        unnamed = "%s.partial-%s" % (self._job.results, secrets.token_hex(8))
        os.makedirs(unnamed, mode=0o755)
        try:
            made = tuple(
                result.seal(self._agreement, name, self._place.output(name), os.path.join(unnamed, name), self._tags, succeeded) for name in names
            )  # fmt: skip
            memory.wipe_tree(self._job.results, overwrite=False)
            os.rename(unnamed, self._job.results)
            return made
        finally:
            # Ciphertext only.
            memory.wipe_tree(unnamed, overwrite=False)


def absent(agreement: Agreement, dest: str, check_mode: bool, execute: runner.Runner) -> bool:
    """End what a run that was cut off left: its unit, and what lies in memory. Results are forgotten. Returns whether there was anything."""
    note = done.note(os.path.dirname(dest), agreement)
    there = os.path.lexists(dest)
    if there and (os.path.islink(dest) or not os.path.isdir(dest) or set(os.listdir(dest)) - {"code", "data", "out", LOG, "taken", "staging"}):
        raise TrainingError("something is there that is of no job", where=dest, fix="Remove it by hand", code="training-dest")
    if there and not check_mode:
        runner.stop_unit(agreement, execute)
        memory.wipe_tree(dest, overwrite=False)
    noted = os.path.lexists(note)
    if noted and not check_mode:
        os.unlink(note)
    return there or noted


def noswap_known(release: str) -> bool:
    """tmpfs can be told not to use swap from Linux 6.4 on."""
    parts = release.split(".")
    try:
        return (int(parts[0]), int(parts[1].split("-")[0])) >= (6, 4)
    except (ValueError, IndexError):
        return False
