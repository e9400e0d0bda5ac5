# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the options of the module training_run, or of an image that starts the job by itself, to a job."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull import Order
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull_options import BROKER, COLLECTION, GUEST_PULL, prepared
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Request
from ansible_collections.attested.ai.plugins.module_utils.training import job as jobs
from ansible_collections.attested.ai.plugins.module_utils.training import kept, look, runner
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

USER = "attested-training"
# How a job is run. An image has these as measured settings: whoever brings the job chooses none of them.
SETTINGS: Dict[str, Dict[str, Any]] = {
    "directory": {"type": "path", "default": "/run/attested-training"},
    "session_directory": {"type": "path", "default": "/run/attested-ai"},
    "session_lifetime": {"type": "int", "default": 900},
    "isolation": {"type": "str", "choices": ["unit", "process"], "default": "unit"},
    "seconds": {"type": "int", "default": 86400},
    "memory_max": {"type": "str", "default": "90%"},
    "scratch_size": {"type": "str", "default": "25%"},
    "gpu": {"type": "bool", "default": False},
    **GUEST_PULL,
}
# As systemd writes sizes. Nothing else may come into the properties of a unit.
_SIZE = re.compile(r"[0-9]+[KMGT%]?\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}\Z")


def apply(options: Mapping[str, Any], check_mode: bool, execute: runner.Runner, opened: Callable[[str], Any] = Directory, store: Any = None) -> Dict[str, Any]:
    """``opened`` makes a reader of a party's ``src``, ``store`` takes checkpoints in the place of a folder. Raises AttestedError."""
    # Other users pass through the folders of a job. Whatever is secret is made with a mode of its own.
    before = os.umask(0o022)
    try:
        return _apply(options, check_mode, execute, opened, store)
    finally:
        os.umask(before)


def _apply(options: Mapping[str, Any], check_mode: bool, execute: runner.Runner, opened: Callable[[str], Any], store: Any) -> Dict[str, Any]:
    agreement = look.read_agreement(options["agreement"])
    directory = os.path.realpath(options["directory"])
    dest = os.path.join(directory, agreement.job)
    if options["state"] == "absent":
        return {"agreement": agreement.digest, "job": agreement.job, "changed": jobs.absent(agreement, dest, check_mode, execute)}
    limits = limits_of(options)
    if not check_mode:
        _make(directory)
    sources = tuple(look.Source(source["party"], source["src"], _preparing(options, source), opened) for source in options["sources"])
    request = Request(nonce="", **{name: options[name] for name in COLLECTION})
    job = look.Job(
        options["agreement"], os.path.realpath(options["code"]), dest, os.path.realpath(options["results"]), sources, OwnEvidence(request),
        options["session_directory"], options["isolation"], limits, store or _store(options, agreement),
    )  # fmt: skip
    return jobs.run(job, check_mode, execute)


def _store(options: Mapping[str, Any], agreement: Agreement) -> Optional[kept.Folder]:
    path = options.get("checkpoints")
    return kept.Folder(os.path.realpath(path), agreement.checkpoints.keep) if path and agreement.checkpoints else None


def _preparing(options: Mapping[str, Any], source: Mapping[str, Any]) -> Callable[[str], Tuple[Order, OwnEvidence]]:
    def order(session: str) -> Tuple[Order, OwnEvidence]:
        given = dict(options, session=session, directory=options["session_directory"], lifetime=options["session_lifetime"], minimum_release=1, signer=None,
                     allow_http=False)  # fmt: skip
        given.update((name, source[name]) for name in BROKER)
        return prepared(given)

    return order


def limits_of(options: Mapping[str, Any]) -> runner.Limits:
    """Raises TrainingError."""
    for name, form in (("memory_max", _SIZE), ("scratch_size", _SIZE), ("user", _USER)):
        if not form.match(options[name]):
            raise TrainingError("%s is no %s" % (ascii(options[name])[:60], "user" if name == "user" else "size such as 4G or 25%"), where=name,
                                code="training-options")  # fmt: skip
    if options["user"] == "root" or not 1 <= options["seconds"] <= 31536000:
        raise TrainingError("the program runs as another user than root, for 1 to 31536000 seconds", where="user, seconds", code="training-options")
    return runner.Limits(options["user"], options["seconds"], options["memory_max"], options["scratch_size"], options["gpu"])


def _make(directory: str) -> None:
    try:
        os.makedirs(directory, mode=0o711, exist_ok=True)
    except OSError as error:
        raise TrainingError("it cannot be made (%s)" % error.strerror, where=directory, fix="Run as root (become: true)", code="training-dest") from None
