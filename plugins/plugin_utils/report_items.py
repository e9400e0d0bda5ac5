# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The links of one item of evidence in a report's chain of proof: root, machine or device, firmware, and what runs on it."""

from __future__ import annotations

import typing as t

Data = t.Mapping[str, t.Any]
Link = t.Dict[str, t.Any]
_DEVICES = ("nvidia-gpu", "nvidia-switch", "nvidia-nras")


def item_links(name: str, item: Data) -> list[Link]:
    """Links for the submodule ``name``. What the claims do not hold is left out, never guessed."""
    claims = item["claims"]
    make = _OF.get(item["tee"], _other)
    machine, firmware = make(claims)
    links = [_root(item, claims), {"title": f"{_title(item['tee'])} ({name})", **machine}, {"title": "Firmware", **firmware}]
    if item["tee"] not in _DEVICES:
        links.append({"title": "Guest", "text": found(item["checks"], "measurement-mismatch"), "values": [("Measurement", claims.get("measurement"))]})
    return links


def found(checks: t.Sequence[Data], code: str) -> str:
    """What that check found, as a sentence; never more than it says."""
    detail = next((str(check["detail"]) for check in checks if check["id"] == code), "not checked")
    return detail[:1].upper() + detail[1:] + "."


def _title(tee: str) -> str:
    return "Device" if tee in _DEVICES else "Machine"


def _root(item: Data, claims: Data) -> Link:
    outside = "" if item.get("anchor") == "vendor" else " It is NOT the root of a vendor."
    if item["tee"] == "cca":
        text = f"The endorsement of the platform's key by {claims.get('endorser') or 'nobody'} ({claims.get('endorsement_source') or 'no source'}).{outside}"
        return {"title": "Endorsement", "text": text, "values": [("Document (SHA-256)", claims.get("endorsement_sha256"))]}
    text = f"{claims.get('root_name') or 'root'}, pinned by its public key.{outside}"
    return {"title": "Root", "text": text, "values": [("SPKI SHA-256", claims.get("root_spki_sha256"))]}


def _machine(claims: Data) -> tuple[str, t.Any]:
    return "Machine (SHA-256 of its identity)", claims.get("machine")


def _snp(claims: Data) -> tuple[Link, Link]:
    tcb = (claims.get("tcb") or {}).get("reported") or {}
    values = [("Provider", claims.get("csp_id")), _machine(claims), ("Key certificate (SHA-256)", claims.get("vek_sha256"))]
    chip = {"text": f"AMD SEV-SNP, {claims.get('product') or 'unknown'}, {str(claims.get('key_role') or '').upper()}.", "values": values}
    return chip, {"text": ", ".join(f"{part} {number}" for part, number in tcb.items()) or "no TCB known", "values": []}


def _tdx(claims: Data) -> tuple[Link, Link]:
    pck = claims.get("pck") or {}
    machine = {"text": f"Intel TDX, FMSPC {pck.get('fmspc') or 'unknown'}, {claims.get('ca') or 'unknown'} CA.", "values": [_machine(claims)]}
    advisories = ", ".join(claims.get("advisory_ids") or []) or "none"
    number = claims.get("tcb_evaluation_data_number")
    text = f"{claims.get('tcb_status') or 'no status'}, module {claims.get('module_identity') or 'unknown'}, advisories: {advisories}."
    return machine, {"text": text, "values": [("TCB date", claims.get("tcb_date")), ("Evaluation number", number)]}


def _cca(claims: Data) -> tuple[Link, Link]:
    platform = claims.get("platform") or {}
    machine = {"text": f"Arm CCA, profile {claims.get('profile') or 'unknown'}.", "values": [_machine(claims), ("CPAK", claims.get("cpak_thumbprint"))]}
    return machine, {"text": "%d software components." % len(platform.get("components") or []), "values": []}


def _nvidia(claims: Data) -> tuple[Link, Link]:
    mode = f", mode {claims['mode']}" if claims.get("mode") else ""
    model = claims.get("hwmodel") or claims.get("chip") or "NVIDIA device"
    device = {"text": f"{model}{mode}.", "values": [("Device (SHA-256 of its key)", claims.get("device"))]}
    manifests = ", ".join(f"{rim['source']} {rim['version']}" for rim in claims.get("rims") or [] if rim.get("usable")) or "none"
    text = f"Firmware {claims.get('firmware_version') or 'unknown'}, driver {claims.get('driver_version') or 'not stated'}; NVIDIA's manifests: {manifests}."
    return device, {"text": text, "values": []}


def _other(claims: Data) -> tuple[Link, Link]:
    return {"text": "See the checks below.", "values": [_machine(claims)]}, {"text": "See the checks below.", "values": []}


_OF: t.Final[t.Mapping[str, t.Callable[[Data], tuple[Link, Link]]]] = {
    "sev-snp": _snp, "az-snp-vtpm": _snp, "tdx": _tdx, "az-tdx-vtpm": _tdx, "cca": _cca, "nvidia-gpu": _nvidia, "nvidia-switch": _nvidia,
}  # fmt: skip
