# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what a platform says and what was recorded to what is to be done, and what is refused. Pure; nothing is done here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import mpa_log
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.record import ACTS, AGENT, COLLECT, DELIVER, DIRECT, INDIRECT, LIST, Record

NONE = "none"
# States of the firmware's variables.
UNSUPPORTED, FAILED, PENDING, ADD_PACKAGE, MISSING, COMPLETE = "unsupported", "failed", "pending", "add-package", "missing", "complete"
# Verdicts.
UNREGISTERED, IN_PROGRESS, REGISTERED, CONSUMED, CHANGED, TCB_CHANGED = "unregistered", "in-progress", "registered", "consumed", "changed", "tcb-changed"

RESET = "Run SGX Factory Reset in the BIOS once and reboot: it makes new platform keys, and a new manifest"


@dataclass(frozen=True)
class Found:
    """``agent``: whether SGX Auto MP Registration Agent is enabled in the BIOS, None where that is not told. ``manifest`` is the digest of the one that
    waits. ``identity`` is what QGS tells of the platform, ``saved`` the digests of the manifests that are kept on the machine, whole."""

    state: str
    problem: str = ""
    agent: Optional[bool] = None
    manifest: str = ""
    log: mpa_log.Run = mpa_log.Run(mpa_log.SILENT, "")
    identity: Mapping[str, str] = field(default_factory=dict)
    saved: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """``host`` is the name that confirmations must have. ``given`` is the digest of a manifest that a person saved by hand."""

    variant: str
    host: str
    manifest_confirm: str = ""
    variant_confirm: str = ""
    reregister_ok: bool = False
    given: str = ""


@dataclass(frozen=True)
class Plan:
    """``save``: the manifest that waits is to be copied first, whatever else. ``record`` is what shall be written before the first act. ``refusal`` is why
    the acts do not begin."""

    verdict: str
    why: str
    save: bool = False
    record: Optional[Record] = None
    acts: Tuple[str, ...] = ()
    refusal: Optional[HostError] = None

    def to_dict(self) -> Dict[str, Any]:
        return {"verdict": self.verdict, "why": self.why, "acts": list(self.acts)}


def verdict_of(found: Found, record: Optional[Record]) -> Tuple[str, str]:
    """What can be said of the registration without a quote. Only a quote proves it."""
    if found.state in (UNSUPPORTED, FAILED):
        return found.state, found.problem
    if found.state == ADD_PACKAGE:
        return UNREGISTERED, "the firmware waits for a processor package to be added"
    if found.state == MISSING:
        return IN_PROGRESS, "the firmware says that registration is not complete, and offers no manifest"
    if record is not None and record.manifest and found.manifest not in ("", record.manifest):
        return CHANGED, "the firmware offers a new manifest: the platform has new keys, another processor, or a TCB recovery behind it"
    if _differs(found, record, ("qe_id",)):
        return CHANGED, "the platform's QE-ID is another than the registered one: its keys were made anew, or it is another machine"
    if record is not None and not record.missing:
        if _differs(found, record, ("cpu_svn", "pce_svn")):
            return TCB_CHANGED, "the platform's TCB level is another than the registered one"
        return REGISTERED, "%s, recorded%s" % (record.variant, ", PPID %s" % record.ppid if record.ppid else "")
    if record is not None:
        return IN_PROGRESS, "%s was chosen; to be done: %s" % (record.variant, ", ".join(record.missing))
    if found.state == PENDING:
        return UNREGISTERED, "the firmware's manifest waits to be registered" + ("; the last try: " + found.problem if found.problem else "")
    if found.log.outcome in (mpa_log.REGISTERED, mpa_log.COMPLETE):
        return REGISTERED, "by Intel's agent: %s" % found.log.line
    return CONSUMED, "the firmware's manifest was taken, by whom is not known here"


def decide(found: Found, record: Optional[Record], wish: Wish) -> Plan:
    verdict, why = verdict_of(found, record)
    save = found.state == PENDING and found.manifest not in found.saved
    if wish.variant == NONE:
        return Plan(verdict, why)
    wanted, refusal = _wanted(found, record, wish)
    if wanted is None or refusal is not None:
        return Plan(verdict, why, save, None, (), refusal)
    acts = wanted.missing
    if acts and found.state == PENDING:
        refusal = _agent_refusal(found, wish.variant) or _confirm_refusal(wish, found.manifest)
    elif acts and record is None and AGENT not in acts:
        refusal = _confirm_refusal(wish, wish.given)
    return Plan(verdict, why, save, wanted, acts, refusal)


def _wanted(found: Found, record: Optional[Record], wish: Wish) -> Tuple[Optional[Record], Optional[HostError]]:
    """The record as it shall be before the acts, or why there can be none."""
    refusal = _state_refusal(found)
    if refusal is not None:
        return None, refusal
    if record is not None and record.variant != wish.variant:
        refusal = _variant_refusal(found, record, wish)
        if refusal is not None:
            return None, refusal
        # The tool's answer serves every variant but the agent's.
        kept = tuple(act for act in record.done if act == COLLECT and act in ACTS[wish.variant])
        record = replace(record, variant=wish.variant, done=kept, ppid="", collateral="")
    if record is None:
        return _first(found, wish)
    if found.state == PENDING and record.manifest and found.manifest != record.manifest:
        if not wish.reregister_ok:
            return None, _refused(
                "the firmware offers a new manifest, so the platform must be registered again (new keys, another processor, or a TCB recovery)",
                "Allow it with tdx_quoting_reregister_ok: true", "reregistration-needed",
            )  # fmt: skip
        return Record(record.variant, found.manifest, previous=record.previous + (record.manifest,)), None
    if found.state == COMPLETE and _differs(found, record, ("qe_id",)):
        return None, _refused("the platform's QE-ID is another than the registered one, but the firmware offers no manifest", RESET, "platform-changed")
    if not record.missing and record.variant in INDIRECT and _differs(found, record, ("cpu_svn", "pce_svn")):
        # Certificates are issued for a TCB level. The tool tells the new one; the manifest was taken long ago and is not touched.
        record = replace(record, done=tuple(act for act in record.done if act not in (COLLECT, DELIVER, LIST)), collateral="")
    if not record.manifest:
        record = replace(record, manifest=found.manifest or wish.given)
    return record, None


def _first(found: Found, wish: Wish) -> Tuple[Optional[Record], Optional[HostError]]:
    """Nothing is recorded. What somebody else began is only taken over where it is the same."""
    if found.state == PENDING:
        return Record(wish.variant, found.manifest), None
    by_agent = found.log.outcome in (mpa_log.REGISTERED, mpa_log.COMPLETE)
    if wish.variant == "direct_automatic":
        if by_agent or found.agent:
            return Record(wish.variant, done=(AGENT,)), None
        return None, _refused("registration is complete, but not by Intel's agent, which is disabled in the BIOS or left no log", RESET, "manifest-consumed")
    if by_agent:
        return None, _refused(
            "Intel's agent has registered the platform directly: %s" % found.log.line,
            "Choose direct_automatic, or: " + RESET, "variant-conflict",
        )  # fmt: skip
    if not wish.given:
        return None, _refused(
            "the manifest was taken from the firmware already, and no copy is known here",
            "If PCKIDRetrievalTool's CSV was kept, give it with tdx_quoting_manifest_file. Otherwise: " + RESET, "manifest-consumed",
        )  # fmt: skip
    return Record(wish.variant, wish.given), None


def _state_refusal(found: Found) -> Optional[HostError]:
    if found.state == UNSUPPORTED:
        return _refused(found.problem, "Boot by UEFI with SGX enabled (attested.ai.preflight tells what is missing)", "registration-unsupported")
    if found.state == FAILED:
        return _refused(
            "the firmware reports %s" % found.problem, "See tdx.bios-mcheck and tdx.production of attested.ai.preflight. " + RESET, "registration-failed"
        )
    if found.state == ADD_PACKAGE:
        return _refused(
            "the firmware asks to add a processor package to a registered platform, which needs a subscription key of Intel's",
            "Use mpa_manage -get_add_package and -set_membership_certificates, or: " + RESET, "add-package",
        )  # fmt: skip
    if found.state == MISSING:
        return _refused("registration is not complete, and the firmware offers no manifest", "Reboot. If it stays so: " + RESET, "manifest-missing")
    return None


def _variant_refusal(found: Found, record: Record, wish: Wish) -> Optional[HostError]:
    there = "%s was chosen for this platform before, %s is wanted now" % (record.variant, wish.variant)
    fresh = bool(found.manifest) and found.manifest != record.manifest
    if wish.variant in DIRECT and record.variant in INDIRECT and not fresh:
        return _refused(there + ": after indirect registration there is no direct one", RESET + ". Then run this again", "variant-conflict")
    if wish.variant_confirm != wish.host:
        return _refused(there, "Keep it, or change it with tdx_quoting_registration_confirm: %s" % wish.host, "variant-conflict")
    if record.variant == "direct_automatic" and not (fresh or wish.given):
        return _refused(there + ": Intel's agent took the manifest, and no copy is known", RESET + ". Then run this again", "variant-conflict")
    return None


def _agent_refusal(found: Found, variant: str) -> Optional[HostError]:
    if variant == "direct_automatic" and found.agent is False:
        return _refused(
            "SGX Auto MP Registration Agent is disabled in the BIOS", "Enable it (attested.ai.bios) and reboot, or choose direct_manual", "agent-disabled"
        )
    if variant != "direct_automatic" and found.agent:
        return _refused(
            "SGX Auto MP Registration Agent is enabled in the BIOS: Intel's agent would take the manifest first",
            "Disable it (attested.ai.bios) and reboot, or choose direct_automatic", "agent-enabled",
        )  # fmt: skip
    return None


def _confirm_refusal(wish: Wish, manifest: str) -> Optional[HostError]:
    if wish.manifest_confirm == wish.host:
        return None
    return _refused(
        "the manifest %s... can be used once only, and %s is a choice that only SGX Factory Reset takes back" % (manifest[:16], wish.variant),
        "Confirm both with tdx_quoting_manifest_confirm: %s" % wish.host, "confirm-needed",
    )  # fmt: skip


def _differs(found: Found, record: Optional[Record], names: Tuple[str, ...]) -> bool:
    """Only what both know can differ."""
    known = record.identity if record is not None else {}
    return any(name in known and name in found.identity and known[name] != found.identity[name] for name in names)


def _refused(what: str, fix: str, code: str) -> HostError:
    return HostError(what, where="registration", fix=fix, code=code)
