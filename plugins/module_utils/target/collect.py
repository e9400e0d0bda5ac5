# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One evidence document of this guest, from whatever interface its kernel has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import (
    NONCE_MAX,
    NONCE_MIN,
    PROFILE_ATTESTED,
    Binding,
    EvidenceDocument,
    EvidenceItem,
    report_data,
)
from ansible_collections.attested.ai.plugins.module_utils.target import sev_guest, ssh_host_keys, tls, tsm

METHODS = ("auto", "configfs", "ioctl")
# What tells that this kernel has no configfs-tsm at all; every other failure is one of the TEE, which another way would only hide.
_NO_CONFIGFS = ("no-configfs", "not-a-tee")


@dataclass(frozen=True)
class Request:
    """What to collect. ``nonce`` is base64 of 16 to 64 bytes; ``tee_pubkey`` a public JWK."""

    nonce: str
    profile: str = PROFILE_ATTESTED
    method: str = "auto"
    tsm_path: str = tsm.DEFAULT_PATH
    device: str = sev_guest.DEFAULT_DEVICE
    privlevel: Optional[int] = None
    tee_pubkey: Optional[Mapping[str, Any]] = None
    bind_ssh_host_keys: bool = False
    ssh_dir: str = ssh_host_keys.DEFAULT_DIRECTORY
    tls_certificate: Optional[str] = None


def collect(
    request: Request,
    configfs: Callable[..., tsm.TsmReport] = tsm.collect,
    ioctl: Callable[..., sev_guest.SevGuestReport] = sev_guest.collect,
) -> EvidenceDocument:
    """Bind what ``request`` names, obtain the report over it and return the document. Raises CollectError or FormatError."""
    nonce = strict.decode_base64(request.nonce, "nonce", NONCE_MIN, NONCE_MAX)
    binding, observations = _bind(request)
    data = report_data(request.profile, nonce, binding)
    item, how = _report(request, data, configfs, ioctl)
    observations.update(how)
    document = EvidenceDocument(request.profile, nonce, binding, (item,), observations)
    # The verifier parses what we print: a document that it would refuse has to fail here, where the cause is known.
    return EvidenceDocument.parse(document.to_dict())


def _bind(request: Request) -> Tuple[Binding, Dict[str, Any]]:
    members: Dict[str, Any] = {}
    observations: Dict[str, Any] = {}
    if request.tee_pubkey is not None:
        members["tee-pubkey"] = request.tee_pubkey
    if request.bind_ssh_host_keys:
        keys = ssh_host_keys.collect(request.ssh_dir)
        members["ssh-host-keys"] = list(keys.fingerprints)
        observations["ssh_host_key_storage"] = keys.storage
    if request.tls_certificate is not None:
        members["tls-spki"] = tls.spki_digest(request.tls_certificate)
    return Binding.parse(members, request.profile, "binding"), observations


def _report(
    request: Request, data: bytes, configfs: Callable[..., tsm.TsmReport], ioctl: Callable[..., sev_guest.SevGuestReport]
) -> Tuple[EvidenceItem, Dict[str, Any]]:
    if request.method == "ioctl":
        return _by_ioctl(request, data, ioctl)
    try:
        return _by_configfs(request, data, configfs)
    except CollectError as error:
        if request.method == "configfs" or error.code not in _NO_CONFIGFS or not os.path.exists(request.device):
            raise
    return _by_ioctl(request, data, ioctl)


def _by_configfs(request: Request, data: bytes, configfs: Callable[..., tsm.TsmReport]) -> Tuple[EvidenceItem, Dict[str, Any]]:
    report = configfs(data, path=request.tsm_path, privlevel=request.privlevel)
    observations: Dict[str, Any] = {"collected_with": "configfs-tsm", "generation": report.generation}
    if report.privlevel is not None:
        observations["privlevel"] = report.privlevel
    if report.privlevel_floor is not None:
        observations["privlevel_floor"] = report.privlevel_floor
    return EvidenceItem(report.type, report.provider, report.outblob, _auxiliary(report.auxblob)), observations


def _by_ioctl(request: Request, data: bytes, ioctl: Callable[..., sev_guest.SevGuestReport]) -> Tuple[EvidenceItem, Dict[str, Any]]:
    report = ioctl(data, device=request.device, privlevel=request.privlevel)
    observations: Dict[str, Any] = {"collected_with": "sev-guest-ioctl", "privlevel": request.privlevel or 0}
    return EvidenceItem("sev-snp", "sev_guest", report.report, _auxiliary(report.certificates)), observations


def _auxiliary(certificates: Optional[bytes]) -> Dict[str, bytes]:
    return {} if certificates is None else {"certificates": certificates}
