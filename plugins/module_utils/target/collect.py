# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One evidence document of this guest, from whatever interface its kernel has.

What only some guests have is imported where it is asked for: on a guest nothing is kept compiled, so that each import costs every run. For the same reason
records are named tuples here and in tsm: a frozen dataclass writes and compiles its methods anew each time, which takes five times as long.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import (
    NONCE_MAX,
    NONCE_MIN,
    PROFILE_ATTESTED,
    Binding,
    EvidenceDocument,
    EvidenceItem,
    additional_evidence,
    device_nonce,
    report_data,
)
from ansible_collections.attested.ai.plugins.module_utils.target import tsm

if TYPE_CHECKING:
    from ansible_collections.attested.ai.plugins.module_utils.target.gpu_evidence import DeviceEvidence
    from ansible_collections.attested.ai.plugins.module_utils.target.sev_guest import SevGuestReport

METHODS = ("auto", "configfs", "ioctl", "azure")
# What tells that this kernel has no configfs-tsm at all; every other failure is one of the TEE, which another way would only hide.
_NO_CONFIGFS = ("no-configfs", "not-a-tee")
TDX = "tdx"


class Request(NamedTuple):
    """What to collect. ``nonce`` is base64 of 16 to 64 bytes; ``tee_pubkey`` a public JWK. See the module tee_evidence for the rest."""

    nonce: str
    profile: str = PROFILE_ATTESTED
    method: str = "auto"
    tsm_path: str = tsm.DEFAULT_PATH
    device: str = "/dev/sev-guest"
    tpm_device: str = "/dev/tpmrm0"
    privlevel: Optional[int] = None
    tee_pubkey: Optional[Mapping[str, Any]] = None
    bind_ssh_host_keys: bool = False
    ssh_dir: str = "/etc/ssh"
    tls_certificate: Optional[str] = None
    gpus: str = "none"
    switches: str = "auto"
    nvml_library: str = "libnvidia-ml.so.1"
    nscq_library: str = "libnvidia-nscq.so.2"
    event_log: str = "auto"
    event_log_path: str = "/sys/firmware/acpi/tables/data/CCEL"


def _ioctl(data: bytes, **where: Any) -> SevGuestReport:
    from ansible_collections.attested.ai.plugins.module_utils.target import sev_guest

    return sev_guest.collect(data, **where)


def _azure(data: bytes, **where: Any) -> EvidenceItem:
    from ansible_collections.attested.ai.plugins.module_utils.target import azure_vtpm

    return azure_vtpm.collect(data, **where)


def _devices(nonce: bytes, *which: Any) -> DeviceEvidence:
    from ansible_collections.attested.ai.plugins.module_utils.target import gpu_evidence

    return gpu_evidence.collect(nonce, *which)


class Interfaces(NamedTuple):
    """Where evidence comes from. Tests put their own in."""

    configfs: Callable[..., tsm.TsmReport] = tsm.collect
    ioctl: Callable[..., SevGuestReport] = _ioctl
    azure: Callable[..., EvidenceItem] = _azure
    devices: Callable[..., DeviceEvidence] = _devices


class Collected(NamedTuple):
    """The document, and what the guest's own libraries say of the devices in it, which is for people."""

    document: EvidenceDocument
    devices: Tuple[Dict[str, Any], ...] = ()


def collect(
    request: Request,
    configfs: Callable[..., tsm.TsmReport] = tsm.collect,
    ioctl: Callable[..., SevGuestReport] = _ioctl,
) -> EvidenceDocument:
    """The document of ``collect_all``."""
    return collect_all(request, Interfaces(configfs, ioctl)).document


def collect_all(request: Request, interfaces: Optional[Interfaces] = None) -> Collected:
    """Bind what ``request`` names, obtain the reports over it and return the document. Raises CollectError or FormatError.

    Devices come first: their reports answer a nonce, and the CPU's report then covers them.
    """
    interfaces = interfaces or Interfaces()
    nonce = strict.decode_base64(request.nonce, "nonce", NONCE_MIN, NONCE_MAX)
    binding, observations = _bind(request)
    # Refuses what the profile cannot bind before any device is asked.
    asked = device_nonce(request.profile, nonce, binding)
    items, told = _of_devices(request, asked, interfaces)
    data = report_data(request.profile, nonce, binding, additional_evidence(request.profile, items))
    item, how = _report(request, data, interfaces)
    observations.update(how)
    # The CPU's item stands first, in whatever order they were collected.
    document = EvidenceDocument(request.profile, nonce, binding, (item,) + items, observations)
    # The verifier parses what we print: a document that it would refuse has to fail here, where the cause is known.
    return Collected(EvidenceDocument.parse(document.to_dict()), told)


def _of_devices(request: Request, nonce: bytes, interfaces: Interfaces) -> Tuple[Tuple[EvidenceItem, ...], Tuple[Dict[str, Any], ...]]:
    """The items of the devices, and what is told of them."""
    if request.gpus == "none" and request.switches != "required":
        return (), ()
    found = interfaces.devices(nonce, request.gpus, request.switches, request.nvml_library, request.nscq_library)
    return found.items, found.devices


def _bind(request: Request) -> Tuple[Binding, Dict[str, Any]]:
    members: Dict[str, Any] = {}
    observations: Dict[str, Any] = {}
    if request.tee_pubkey is not None:
        members["tee-pubkey"] = request.tee_pubkey
    if request.bind_ssh_host_keys:
        from ansible_collections.attested.ai.plugins.module_utils.target import ssh_host_keys

        keys = ssh_host_keys.collect(request.ssh_dir)
        members["ssh-host-keys"] = list(keys.fingerprints)
        observations["ssh_host_key_storage"] = keys.storage
    if request.tls_certificate is not None:
        from ansible_collections.attested.ai.plugins.module_utils.target import tls

        members["tls-spki"] = tls.spki_digest(request.tls_certificate)
    return Binding.parse(members, request.profile, "binding"), observations


def _report(request: Request, data: bytes, interfaces: Interfaces) -> Tuple[EvidenceItem, Dict[str, Any]]:
    if request.method == "ioctl":
        return _by_ioctl(request, data, interfaces)
    if request.method == "azure":
        return _by_azure(request, data, interfaces)
    try:
        return _by_configfs(request, data, interfaces)
    except CollectError as error:
        if request.method == "configfs" or error.code not in _NO_CONFIGFS:
            raise
        if os.path.exists(request.device):
            return _by_ioctl(request, data, interfaces)
        if not os.path.exists(request.tpm_device):
            raise
        try:
            return _by_azure(request, data, interfaces)
        except CollectError as of_tpm:
            if of_tpm.code != "not-a-tee":
                raise
        # An ordinary TPM: what is missing is the interface that was looked for first.
        raise


def _by_configfs(request: Request, data: bytes, interfaces: Interfaces) -> Tuple[EvidenceItem, Dict[str, Any]]:
    report = interfaces.configfs(data, path=request.tsm_path, privlevel=request.privlevel)
    observations: Dict[str, Any] = {"collected_with": "configfs-tsm", "generation": report.generation}
    if report.privlevel is not None:
        observations["privlevel"] = report.privlevel
    if report.privlevel_floor is not None:
        observations["privlevel_floor"] = report.privlevel_floor
    auxiliary = _auxiliary(report.auxblob)
    if report.type == TDX and request.event_log != "none":
        from ansible_collections.attested.ai.plugins.module_utils.target import firmware_log

        # Read after the quote, so that no event can be missing that the quote covers.
        log = firmware_log.read(request.event_log_path, request.event_log == "required")
        if log is not None:
            auxiliary["event-log"] = log
    return EvidenceItem(report.type, report.provider, report.outblob, auxiliary), observations


def _by_ioctl(request: Request, data: bytes, interfaces: Interfaces) -> Tuple[EvidenceItem, Dict[str, Any]]:
    report = interfaces.ioctl(data, device=request.device, privlevel=request.privlevel)
    observations: Dict[str, Any] = {"collected_with": "sev-guest-ioctl", "privlevel": request.privlevel or 0}
    return EvidenceItem("sev-snp", "sev_guest", report.report, _auxiliary(report.certificates)), observations


def _by_azure(request: Request, data: bytes, interfaces: Interfaces) -> Tuple[EvidenceItem, Dict[str, Any]]:
    if request.privlevel is not None:
        raise CollectError("the paravisor asks for the report, at its own level", where="privlevel", fix="Leave privlevel out", code="privlevel-refused")
    return interfaces.azure(data, device=request.tpm_device), {"collected_with": "azure-vtpm"}


def _auxiliary(certificates: Optional[bytes]) -> Dict[str, bytes]:
    return {} if certificates is None else {"certificates": certificates}
