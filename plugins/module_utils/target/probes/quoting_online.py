# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Quoting on a TDX host, asked of the services themselves: QGS and the PCCS. Only on request, because the doctor otherwise talks to nobody."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, List, Mapping, Optional, Sequence, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, DENIED, Answer, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, PASS, UNKNOWN, Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.probes.quoting import QCNL_CONF, QGS_CONF
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import commented_json, qgs_client, qgs_conf, qgs_protocol
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.services import is_loopback, pccs_base

# The home of the account that runs QGS (its unit and packages), where QCNL looks for its cache.
CACHE = "/var/opt/qgsd/.dcap-qcnl"
_PCE_ID = "0000"

ANSWERS = Question(
    "tdx.qgs-answers",
    "quoting",
    "QGS tells who the platform is, for which its enclaves must work",
    "QGS (GET_PLATFORM_INFO)",
    "See `journalctl -u qgsd`: the devices /dev/sgx_enclave and /dev/sgx_provision, and the groups sgx and sgx_prv of the user qgsd",
)
REACHABLE = Question(
    "tdx.pccs-reachable",
    "quoting",
    "the PCCS answers, with a certificate that this machine accepts",
    QCNL_CONF,
    "Let PCCS have a certificate that an authority of this machine has signed (CURL error 60, 0xb033, otherwise); see pccs_url, proxy and firewall",
)
CRL = Question(
    "tdx.pccs-crl",
    "quoting",
    "the PCCS has Intel's root revocation list",
    "the PCCS (rootcacrl)",
    "See the log of PCCS: in LAZY and REQ mode it must reach Intel's service, in OFFLINE mode collateral must be put in first",
)
CERTIFICATE = Question(
    "tdx.pck-certificate",
    "quoting",
    "a certificate is at hand for this platform at its TCB level",
    "the PCCS (pckcert), or QCNL's cache",
    "Register the platform (attested.ai.tdx_quoting). Without a certificate quotes fail with 0xe011, No certificate data for this platform",
)


def probe_online(host: Host) -> List[Probe]:
    platform = _platform(host)
    settings = _settings(host)
    base = _base(settings)
    crl = host.https(base + "rootcacrl", _verified(settings)) if base else None
    return [_answers(host, platform), _reachable(settings, base, crl), _crl(settings, base, crl), _certificate(host, platform, settings, base, crl)]


def settled(probes: Sequence[Probe]) -> List[Probe]:
    """Whether a local PCCS's certificate is accepted cannot be told from files; once it was asked, it can."""
    asked = next((probe for probe in probes if probe.id == REACHABLE.id), None)
    if asked is None or asked.outcome not in (PASS, FAIL):
        return list(probes)
    fix = "" if asked.outcome == PASS else REACHABLE.fix

    def judged(probe: Probe) -> Probe:
        unsure = probe.id == "tdx.pccs-certificate" and probe.outcome == UNKNOWN
        return replace(probe, outcome=asked.outcome, observed=asked.observed, fix=fix) if unsure else probe

    return [judged(probe) for probe in probes]


Platform = Union[qgs_protocol.PlatformInfo, Unreadable, FormatError, None]


def _platform(host: Host) -> Platform:
    """None where QGS is not set up, so that others tell why."""
    text = host.text(QGS_CONF)
    if isinstance(text, Unreadable):
        return None
    try:
        address = qgs_client.address_of(qgs_conf.parse(text, QGS_CONF))
    except FormatError as error:
        return error
    data = host.exchange(address, qgs_protocol.platform_info_request())
    try:
        return data if isinstance(data, Unreadable) else qgs_protocol.parse_platform_info(data)
    except FormatError as error:
        return error


def _answers(host: Host, platform: Platform) -> Probe:
    if platform is None:
        return ANSWERS.skipped("QGS is not installed, or its configuration cannot be read")
    if isinstance(platform, FormatError):
        return ANSWERS.failed(platform.what, platform.fix or None)
    if isinstance(platform, Unreadable):
        if platform.kind == ABSENT:
            return ANSWERS.unknown(platform.reason, "modprobe vsock_loopback, and run again")
        return ANSWERS.unknown(platform.reason, "Run as root") if platform.kind == DENIED else ANSWERS.failed(platform.reason)
    return ANSWERS.passed("QE-ID %s, CPUSVN %s, PCESVN %s" % (platform.qe_id, platform.cpu_svn, platform.pce_svn))


def _settings(host: Host) -> Optional[Mapping[str, Any]]:
    text = host.text(QCNL_CONF)
    if isinstance(text, Unreadable):
        return None
    try:
        return commented_json.parse(text, QCNL_CONF)
    except FormatError:
        return None


def _base(settings: Optional[Mapping[str, Any]]) -> str:
    """Where certificates come from; "" where that is no PCCS, or none that can be asked."""
    if settings is None or settings.get("local_cache_only") is True:
        return ""
    try:
        return pccs_base(str(settings.get("pccs_url", "")))
    except AttestedError:
        return ""


def _verified(settings: Optional[Mapping[str, Any]]) -> bool:
    """As QCNL is told, but never unchecked anywhere else than on this machine."""
    url = str(settings.get("pccs_url", "")) if settings else ""
    return not (settings and settings.get("use_secure_cert") is False and is_loopback(url))


def _why_not(settings: Optional[Mapping[str, Any]]) -> str:
    if settings is None:
        return "QCNL is not installed, or its configuration cannot be read"
    return "QCNL uses its local cache only" if settings.get("local_cache_only") is True else "pccs_url is no https address"


def _reachable(settings: Optional[Mapping[str, Any]], base: str, crl: Union[Answer, Unreadable, None]) -> Probe:
    if crl is None:
        return REACHABLE.skipped(_why_not(settings))
    return REACHABLE.failed("%s: %s" % (base, crl.reason)) if isinstance(crl, Unreadable) else REACHABLE.passed("%s answers" % base)


def _crl(settings: Optional[Mapping[str, Any]], base: str, crl: Union[Answer, Unreadable, None]) -> Probe:
    if crl is None or isinstance(crl, Unreadable):
        return CRL.skipped("the PCCS is not reached" if base else _why_not(settings))
    if crl.status != 200:
        return CRL.failed("%srootcacrl: status %d" % (base, crl.status))
    text = crl.body.strip().strip(b'"').lower()
    good = re.match(rb"3082[0-9a-f]{4,}\Z", text) is not None and len(text) == 2 * (int(text[4:8], 16) + 4)
    return CRL.judged(good, "%d bytes" % (len(text) // 2) if good else "what it sends is no revocation list in hexadecimal DER: %s" % ascii(text[:40]))


def _certificate(host: Host, platform: Platform, settings: Optional[Mapping[str, Any]], base: str, crl: Union[Answer, Unreadable, None]) -> Probe:
    if not isinstance(platform, qgs_protocol.PlatformInfo):
        return CERTIFICATE.skipped("QGS does not tell who the platform is")
    if settings is not None and settings.get("local_cache_only") is True:
        path = "%s/%s_%s" % (CACHE, platform.qe_id, _PCE_ID)
        found = host.exists(path)
        if isinstance(found, Unreadable):
            return CERTIFICATE.unknown(found.reason, "Run as root")
        return CERTIFICATE.judged(found, "%s %s" % (path, "is there" if found else "is missing"))
    if settings is not None and settings.get("local_pck_url"):
        return CERTIFICATE.skipped("the cloud's own service has the certificates (local_pck_url)")
    if not base or isinstance(crl, Unreadable):
        return CERTIFICATE.skipped("the PCCS is not reached" if base else _why_not(settings))
    query = "pckcert?qeid=%s&cpusvn=%s&pcesvn=%s&pceid=%s" % (platform.qe_id, platform.cpu_svn, platform.pce_svn, _PCE_ID)
    answer = host.https(base + query, _verified(settings))
    if isinstance(answer, Unreadable):
        return CERTIFICATE.unknown(answer.reason, "Run again")
    if answer.status == 200 and answer.body.startswith(b"-----BEGIN CERTIFICATE-----"):
        return CERTIFICATE.passed("the PCCS hands it out")
    if answer.status in (404, 461, 462):
        return CERTIFICATE.failed("the PCCS has none (status %d)" % answer.status)
    return CERTIFICATE.unknown("the PCCS answers with status %d" % answer.status, "See its log")
