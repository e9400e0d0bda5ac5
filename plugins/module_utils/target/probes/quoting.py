# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Quoting on a TDX host: QGS, its transport, PCCS and registration. Read from files and systemd; no service is talked to."""

from __future__ import annotations

import json
import re
from typing import Any, List, Optional

from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import cannot_read
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, Host, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import Probe, Question

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
    "the log of the registration ends with success",
    MPA_LOG,
    "Read the log, correct what it names (most often the proxy), and reboot. Without registration quotes have no certificate "
    "(0xe011)",
)

_PORT = re.compile(r"^\s*port\s*=\s*(\S+)", re.MULTILINE)
_LOCAL = re.compile(r"https://(localhost|127\.0\.0\.1|\[::1\])[:/]")


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
    ports = _PORT.findall(text)
    if not ports:
        return TRANSPORT.passed("the Unix socket %s" % SOCKET)
    good = len(ports) == 1 and ports[0].isascii() and ports[0].isdigit() and 0 < int(ports[0][:10]) < 2**32
    return TRANSPORT.judged(good, "vsock port %s" % ", ".join(port[:32] for port in ports))


def _pccs(host: Host) -> Probe:
    text = host.text(QCNL_CONF)
    if isinstance(text, Unreadable):
        return PCCS.skipped("QCNL is not installed") if text.kind == ABSENT else cannot_read(PCCS, text)
    settings = _json_with_comments(text)
    if settings is None:
        return PCCS.failed("it is no JSON with // comments")
    url, secure = str(settings.get("pccs_url", "")), settings.get("use_secure_cert", True)
    if settings.get("local_cache_only") is True:
        return PCCS.passed("the local cache only, no PCCS")
    if not url.startswith("https://"):
        return PCCS.failed("pccs_url is %s" % ascii(url[:100]))
    observed = "%s, certificate %s" % (url, "checked" if secure else "not checked")
    if _LOCAL.match(url) and secure:
        # Intel's package makes a self-signed certificate: QCNL then fails with CURL error 60.
        return PCCS.unknown(
            observed + ": with PCCS's own self-signed certificate this fails (CURL error 60, 0xb033)",
            "Give PCCS a certificate that this machine trusts, or set use_secure_cert to false for localhost",
        )
    return PCCS.judged(bool(secure) or bool(_LOCAL.match(url)), observed)


def _json_with_comments(text: str) -> Optional[Any]:
    lines = [re.sub(r"(^|[\s,{])//.*$", r"\1", line) for line in text.splitlines()]
    try:
        found = json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _registration(host: Host) -> Probe:
    text = host.text(MPA_LOG)
    if isinstance(text, Unreadable):
        if text.kind == ABSENT:
            return REGISTRATION.skipped("Intel's registration agent has not run here; registration by hand or by PCCS leaves no trace that can be read")
        return cannot_read(REGISTRATION, text)
    lines = [line.strip() for line in text.splitlines() if re.search(r"\b(INFO|ERROR|WARNING)\b", line)]
    for line in reversed(lines):
        if "passed successfully" in line:
            return REGISTRATION.passed(line[:200])
        if "ERROR" in line:
            return REGISTRATION.failed(line[:200])
    return REGISTRATION.unknown("the log names neither success nor error", "Look at it by hand")
