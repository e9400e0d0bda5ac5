# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ready state of GPUs: nothing runs on them before it is set, and it is set only for GPUs that were attested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.conf_compute import QUERY, READY, parse_query, parse_ready
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.diagnosis import diagnose

Runner = Callable[[Sequence[str]], Tuple[int, str]]


@dataclass(frozen=True)
class Change:
    """``before`` and ``after`` are ready or not-ready."""

    before: str
    after: str

    @property
    def needed(self) -> bool:
        return self.before != self.after


def require_attested(result: Optional[Mapping[str, Any]], gpus: int) -> None:
    """Raises HostError unless ``result`` is an accepted appraisal, for a nonce of its own, of as many GPUs as the guest has."""
    if not isinstance(result, Mapping):
        raise HostError(
            "GPUs are set ready only after they were attested", where="attestation", code="gpu-not-attested", fix="Give the result of attested.ai.attest"
        )
    if result.get("accepted") is not True or result.get("authentic") is not True:
        raise HostError("the attestation was refused", where="attestation", code="gpu-not-attested", fix="See its reasons, and attest again")
    if not result.get("nonce"):
        raise HostError("the attestation answers no nonce of its verifier", where="attestation", code="gpu-not-attested", fix="Take that of attested.ai.attest")
    modules = result.get("submods")
    items = list(modules.values()) if isinstance(modules, Mapping) else []
    good = [one for one in items if isinstance(one, Mapping) and one.get("tee") == "nvidia-gpu" and one.get("accepted") is True]
    if gpus < 1 or len(good) != gpus:
        raise HostError(
            "the attestation is of %d GPUs, and the guest has %d" % (len(good), gpus), where="attestation", code="gpu-not-attested",
            fix="Attest all of them (gpus: required)",
        )  # fmt: skip


def ready_state(run: Runner, smi: str) -> bool:
    """Raises HostError if it cannot be told: an unknown state is no state."""
    texts = []
    for argv, parse in ((READY, parse_ready), (QUERY, lambda text: parse_query(text).ready)):
        rc, out = _run(run, (smi,) + argv)
        found = parse(out)
        if rc == 0 and found is not None:
            return found
        texts.append(out)
    named = diagnose(smi="\n".join(texts))
    said = named[0].failure.what if named else " ".join(texts[0].split())[:200] or "it says nothing"
    raise HostError("the ready state cannot be told: %s" % said, where=smi, code="gpu-state", fix=named[0].failure.fix if named else "See the kernel log")


def plan(run: Runner, smi: str, wanted: bool) -> Change:
    names = {True: "ready", False: "not-ready"}
    return Change(names[ready_state(run, smi)], names[wanted])


def apply(run: Runner, smi: str, change: Change) -> None:
    """Set it and read it again."""
    rc, out = _run(run, (smi, "conf-compute", "-srs", "1" if change.after == "ready" else "0"))
    if rc != 0 or plan(run, smi, change.after == "ready").needed:
        said = " ".join(out.split())[:200] or "it said nothing"
        raise HostError(
            "the GPUs did not become %s: %s" % (change.after, said), where=smi, code="gpu-state", fix="See the kernel log (attested.ai.gpu_guest_info)"
        )


def _run(run: Runner, argv: Sequence[str]) -> Tuple[int, str]:
    try:
        return run(argv)
    except OSError as error:
        raise HostError(
            "it cannot be run: %s" % error.strerror, where=argv[0], code="gpu-no-driver", fix="Install the driver's tools (role gpu_cc_guest)"
        ) from None
