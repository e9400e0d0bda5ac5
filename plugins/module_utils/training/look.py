# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A job, and whatever can be found out about it before a key leaves its owner."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull import Order
from ansible_collections.attested.ai.plugins.module_utils.modelserver import accounts
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import FILES
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training import code, launch, runner
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import LOG, SIZE_MAX, Agreement, Party
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError


@dataclass(frozen=True)
class Source:
    """Where a party's ciphertext lies on the guest, and where its key is fetched.

    ``prepared`` makes the order for a session, ``opened`` a reader of ``src``.
    """

    party: str
    src: str
    prepared: Callable[[str], Tuple[Order, OwnEvidence]] = field(repr=False)
    opened: Callable[[str], Any] = field(default=Directory, repr=False)


@dataclass(frozen=True)
class Job:
    """``store`` takes checkpoints, as ``kept.Folder`` does."""

    agreement: str
    code: str
    dest: str
    results: str
    sources: Tuple[Source, ...]
    own: OwnEvidence
    session_directory: str
    isolation: str = runner.UNIT
    limits: runner.Limits = runner.Limits()
    store: Any = None


def read_agreement(path: str) -> Agreement:
    try:
        with open(path, "rb") as stream:
            return Agreement.parse(stream.read(SIZE_MAX + 1), path)
    except OSError as error:
        raise TrainingError("it cannot be read (%s)" % error.strerror, where=path, fix="Make it with attested.ai.training_agreement",
                            code="agreement-file") from None


def look(job: Job, agreement: Agreement, there: bool) -> None:
    """Raises AttestedError where the job cannot start. ``there``: results are, and only have to be verified."""
    given, agreed = [source.party for source in job.sources], [party.id for party in agreement.parties]
    if sorted(given) != agreed:
        raise TrainingError("sources are given for %s, the parties are %s" % (", ".join(map(strict.quoted, sorted(given))) or "nobody", ", ".join(agreed)),
                            where="sources", fix="Give one for each party", code="training-sources")  # fmt: skip
    if job.isolation == runner.PROCESS:
        runner.refuse_process(job.own.request.method, job.own.request.tsm_path)
    else:
        accounts.numbers(job.limits.user)
    launch.require_launched_for(agreement, job.own)
    code.check(code.digest_of(job.code), agreement.code, job.code)
    if agreement.checkpoints:
        if job.store is None:
            raise TrainingError("the agreement has checkpoints, and there is no place for them", where="checkpoints", fix="Give a folder for them",
                                code="training-options")  # fmt: skip
        if not there:
            job.store.look()
    memory.require_memory(_nearest(os.path.dirname(job.dest)))
    if os.path.lexists(job.dest):
        raise TrainingError("it is there already", where=job.dest, fix="Another run of this job is under way, or was cut off: run it with state: absent",
                            code="training-dest")  # fmt: skip
    # The log of a run that failed is replaced; what else lies there is somebody's.
    if not there and os.path.lexists(job.results) and (os.path.islink(job.results) or not os.path.isdir(job.results) or set(os.listdir(job.results)) - {LOG}):
        what = "it holds something else than all results of this agreement, of a program that succeeded"
        raise TrainingError(what, where=job.results, fix="Move it away", code="training-results")
    for source in job.sources:
        manifest_of(source, agreement.party(source.party))


def _nearest(path: str) -> str:
    """What is there of it: in check mode the folder may still have to be made."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def manifest_of(source: Source, party: Party) -> opener.Sealed:
    with contextlib.closing(source.opened(source.src)) as reader:
        sealed = opener.read_sealed(reader)
    if (sealed.manifest.model_id, sealed.digest) != (party.model_id, party.manifest_sha256):
        raise TrainingError(
            "it is %s release %d with the manifest %s, agreed on is %s with %s"
            % (sealed.manifest.model_id, sealed.manifest.release, sealed.digest, party.model_id, party.manifest_sha256),
            where="data of %s (%s)" % (party.id, source.src), fix="Put the data set there that was agreed on. A newer release is another agreement",
            code="training-data",
        )  # fmt: skip
    if sealed.manifest.profile != FILES:
        raise TrainingError("it is of profile %s" % sealed.manifest.profile, where="data of %s (%s)" % (party.id, source.src),
                            fix="Encrypt it with profile files", code="training-data")  # fmt: skip
    return sealed
