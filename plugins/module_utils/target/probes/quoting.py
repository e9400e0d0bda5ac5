# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Quoting on a TDX host: QGS, its transport, PCCS and registration. Read from files and systemd; no service is talked to."""

from __future__ import annotations

from typing import List, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import commented_json, efivars, mpa_log, qgs_conf
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.services import is_loopback

QGS_CONF = "/etc/qgs.conf"
QCNL_CONF = "/etc/sgx_default_qcnl.conf"
MPA_LOG = "/var/log/mpa_registration.log"
SOCKET = "/var/run/tdx-qgs/qgs.socket"
SYSTEMCTL = ("systemctl", "show", "--property=LoadState,ActiveState", "qgsd.service")

SERVICE = Question(
    "tdx.qgs-service",
    "quoting",
    "qgsd.service is active",
    "systemctl show qgsd.service",
    "Install tdx-qgs with libsgx-dcap-default-qpl, and start qgsd: guests get no quotes without it",
)
TRANSPORT = Question(
    "tdx.qgs-transport",
    "quoting",
    "a vsock port, or none for the Unix socket",
    QGS_CONF,
    "Write 'port = 4050' for vsock, or leave port out for the Unix socket (%s); QEMU must be given the same" % SOCKET,
)
PCCS = Question(
    "tdx.pccs-certificate",
    "quoting",
    "QCNL knows a PCCS, and checks its certificate unless it is on this machine",
    QCNL_CONF,
    "Correct pccs_url and use_secure_cert in it, and restart qgsd",
)
REGISTRATION = Question(
    "tdx.registration",
    "quoting",
    "the firmware or the log of Intel's agent says that it is complete",
    MPA_LOG,
    "Read the log, correct what it names (most often the proxy), and reboot. Without registration quotes have no certificate "
    "(0xe011)",
)


def probe_quoting(host: Host) -> List[Probe]:
    return [_service(host), _transport(host), _pccs(host), _registration(host)]


def _service(host: Host) -> Probe:
    answer = host.command(SYSTEMCTL)
    if isinstance(answer, Unreadable):
        return SERVICE.unknown(answer.reason, "Look at it by hand")
    state = dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)
    if answer.rc != 0 or "ActiveState" not in state:
        return SERVICE.unknown("systemctl answered with status %d" % answer.rc, "Look at it by hand")
    if state.get("LoadState") == "not-found":
        return SERVICE.failed("it is not installed")
    return SERVICE.judged(state["ActiveState"] == "active", state["ActiveState"])


def _transport(host: Host) -> Probe:
    text = host.text(QGS_CONF)
    if isinstance(text, Unreadable):
        return TRANSPORT.skipped("QGS is not installed") if text.kind == ABSENT else cannot_read(TRANSPORT, text)
    try:
        port = qgs_conf.parse(text, QGS_CONF).port
    except FormatError as error:
        return TRANSPORT.failed(error.what)
    return TRANSPORT.passed("the Unix socket %s" % SOCKET if port is None else "vsock port %d" % port)


def _pccs(host: Host) -> Probe:
    text = host.text(QCNL_CONF)
    if isinstance(text, Unreadable):
        return PCCS.skipped("QCNL is not installed") if text.kind == ABSENT else cannot_read(PCCS, text)
    try:
        settings = commented_json.parse(text)
    except FormatError as error:
        return PCCS.failed("it is no JSON with // comments: %s" % error.what)
    url, secure = str(settings.get("pccs_url", "")), settings.get("use_secure_cert", True)
    if settings.get("local_cache_only") is True:
        return PCCS.passed("the local cache only, no PCCS")
    if not url.startswith("https://"):
        return PCCS.failed("pccs_url is %s" % ascii(url[:100]))
    observed = "%s, certificate %s" % (url, "checked" if secure else "not checked")
    local = is_loopback(url)
    if local and secure:
        # Intel's package makes a self-signed certificate: QCNL then fails with CURL error 60.
        return PCCS.unknown(
            observed + ": with PCCS's own self-signed certificate this fails (CURL error 60, 0xb033)",
            "Give PCCS a certificate that this machine trusts, or set use_secure_cert to false for localhost",
        )
    # QCNL leaves the certificates of all services unchecked, or of none.
    collateral = str(settings.get("collateral_service") or url)
    if not secure and local and not is_loopback(collateral):
        return PCCS.failed("%s, and that of %s neither" % (observed, ascii(collateral[:100])))
    return PCCS.judged(bool(secure) or local, observed)


def _registration(host: Host) -> Probe:
    """Firmware first, then the agent's log. The request itself is only looked for, and never read: it is the manifest."""
    said = _by_firmware(host)
    if said is not None:
        return said
    text = host.text(MPA_LOG)
    if isinstance(text, Unreadable):
        if text.kind == ABSENT:
            return REGISTRATION.skipped("Intel's registration agent has not run here; registration by hand or by PCCS leaves no trace that can be read")
        return cannot_read(REGISTRATION, text)
    run = mpa_log.last_run(text)
    if run.outcome in (mpa_log.REGISTERED, mpa_log.COMPLETE):
        return REGISTRATION.passed(run.line)
    if run.outcome in (mpa_log.FAILED, mpa_log.DISABLED):
        return REGISTRATION.failed(run.line)
    return REGISTRATION.unknown("the log names neither success nor error", "Look at it by hand")


def _by_firmware(host: Host) -> Optional[Probe]:
    data = host.read(efivars.STATUS)
    if isinstance(data, Unreadable):
        return None
    try:
        status = efivars.parse_status(data)
    except FormatError as error:
        return REGISTRATION.failed("SgxRegistrationStatus: %s" % error.what, error.fix, efivars.STATUS)
    if status.error:
        return REGISTRATION.failed("the firmware reports %s" % status.problem, None, efivars.STATUS)
    if not status.complete:
        waits = host.exists(efivars.REQUEST) is True
        observed = "the firmware's manifest waits to be registered" if waits else "it is not complete, and the firmware offers no manifest"
        return REGISTRATION.failed(observed, "Register the platform (attested.ai.tdx_quoting)" if waits else "Reboot", efivars.STATUS)
    # Complete only means that the manifest was taken: whether Intel has it, the certificate tells.
    return REGISTRATION.passed("the firmware says that it is complete", efivars.STATUS)
