# SPDX-License-Identifier: GPL-3.0-or-later
"""What firmware, Intel's tools, QGS and configuration files may hold."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import Target

from ansible_collections.attested.ai.plugins.module_utils.target.quoting import (
    commented_json,
    config_file,
    efivars,
    mpa_log,
    pckid,
    qgs_conf,
    qgs_protocol,
    record,
)

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "unit" / "tdx_quoting"))

from quoting_files import PCCS, QCNL, QGS  # noqa: E402  pylint: disable=wrong-import-position

MANIFEST = bytes.fromhex("178e874b49e44aa599bb3057170925b4") + bytes(range(64))
ANSWER = bytes.fromhex("00000040010001000500000040000000000000000500" + "0d00" + "1000000010000000" + "11" * 16 + "22" * 16 + "00000000")
LINE = ",".join("ab" * size for size in pckid.SIZES.values()) + "," + MANIFEST.hex()
LOG = "[x] INFO: SGX Registration Agent version: 1.27.101.1\n[x] INFO: Registration Flow - PLATFORM_ESTABLISHMENT or TCB_RECOVERY passed successfully.\n"


def request(version: int) -> bytes:
    return bytes(4) + version.to_bytes(2, "little") + len(MANIFEST).to_bytes(4 if version == 3 else 2, "little") + MANIFEST


def configured(data: bytes) -> object:
    """Whatever can be read can be edited, and given back."""
    text = data.decode("utf-8", "replace")
    style = "qgs" if text.lstrip().startswith(("#", "p", "n")) else "pccs"
    settings = {"port": 1} if style == "qgs" else {"pccs_url": "https://x", "new": [1]}
    change = config_file.plan(text, None, style, settings, {}, True)
    back = config_file.plan(change.text, change.record, style, {}, {}, False)
    read = qgs_conf.values if style == "qgs" else lambda text: commented_json.parse(text, trailing_comma=True)
    if not commented_json.same(read(back.text), read(text)):
        raise RuntimeError("what was set did not come back")
    return change


TARGETS = {
    "quoting-variable": Target(lambda: [request(2), request(3)], efivars.parse_request),
    "quoting-csv": Target(lambda: [LINE.encode()], pckid.parse),
    "quoting-qgs": Target(lambda: [ANSWER], qgs_protocol.parse_platform_info),
    "quoting-config": Target(lambda: [QCNL.encode(), PCCS.encode(), QGS.encode()], configured),
    "quoting-record": Target(
        lambda: [record.Record("direct_manual", "ab" * 32, ("register",), {"qe_id": "00" * 16}, "cd" * 16).text().encode()],
        lambda data: record.parse(data.decode("utf-8", "replace")),
    ),
    "quoting-log": Target(lambda: [LOG.encode()], lambda data: mpa_log.last_run(data.decode("utf-8", "replace"))),
}
