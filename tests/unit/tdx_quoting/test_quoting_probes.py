# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor about quoting: the firmware's word on registration, and what services say when it may ask them."""

from __future__ import annotations

import copy
import json
import socket
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.probes import quoting_online
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Answer, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost, Recorder
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import efivars, online
from quoting_lab import ADMIN, USER
from softpccs import qgs, server
from softpccs.platform import Platform

RECORDED = Path(__file__).resolve().parents[1] / "tee_info" / "recorded" / "tdx-good.json"
QCNL, BASE = "/etc/sgx_default_qcnl.conf", "https://pccs.example.com:8081/sgx/certification/v4/"


@pytest.fixture(scope="module")
def crl():
    return server.Service("u", "a").root_crl.hex().encode()


@pytest.fixture
def document(tmp_path, crl):
    """A host on which all is well, asked online."""
    platform = Platform.make(tmp_path / "p")
    found = json.loads(RECORDED.read_text())
    found["exchanges"] = {"vsock:1:4050": qgs.answer(platform, bytes.fromhex("0000001001000100040000001000000000000000")).hex()}
    query = "pckcert?qeid=%s&cpusvn=%s&pcesvn=0d00&pceid=0000" % (platform.qe_id.hex(), platform.cpu_svn.hex())
    found["https"] = {BASE + "rootcacrl": {"status": 200, "body": crl.hex()}, BASE + query: {"status": 200, "body": b"-----BEGIN CERTIFICATE-----".hex()}}
    found["query"] = BASE + query
    return found


def outcomes(document, **options):
    found = survey(RecordedHost(document), "host", "tdx", ["quoting"], online=True, **options)
    return {probe.id: probe for probe in found.probes}


def test_all_is_well(document):
    found = outcomes(document)
    assert {name: probe.outcome for name, probe in found.items()} == dict.fromkeys(
        [
            "tdx.qgs-service",
            "tdx.qgs-transport",
            "tdx.pccs-certificate",
            "tdx.registration",
            "tdx.qgs-answers",
            "tdx.pccs-reachable",
            "tdx.pccs-crl",
            "tdx.pck-certificate",
        ],
        "pass",
    )
    # Nothing of it unless asked for.
    assert len(survey(RecordedHost(document), "host", "tdx", ["quoting"]).probes) == 4
    assert not [probe for probe in survey(RecordedHost(document), "host", "tdx", ["bios"], online=True).probes if probe.area == "quoting"]


def test_a_recording_of_it_gives_the_same(document):
    recorder = Recorder(RecordedHost(document))
    first = survey(recorder, "host", "tdx", ["quoting"], online=True)
    again = survey(RecordedHost(recorder.document()), "host", "tdx", ["quoting"], online=True)
    assert again.probes == first.probes


GONE = {"unreadable": "it does not answer", "kind": "error"}
SSL = {"unreadable": "its certificate is not accepted: self-signed certificate", "kind": "denied"}


def body(text: str, status: int = 200):
    return {"status": status, "body": text.encode().hex()}


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("exchanges", "vsock:1:4050", GONE, {"qgs-answers": "fail", "pck-certificate": "skipped"}),
        ("exchanges", "vsock:1:4050", {"unreadable": "no vsock", "kind": "absent"}, {"qgs-answers": "unknown", "pck-certificate": "skipped"}),
        ("exchanges", "vsock:1:4050", "00000004", {"qgs-answers": "fail", "pck-certificate": "skipped"}),
        ("exchanges", "vsock:1:4050", "0000001001000100050000001000000001200100", {"qgs-answers": "fail", "pck-certificate": "skipped"}),
        ("https", BASE + "rootcacrl", SSL, {"pccs-reachable": "fail", "pccs-crl": "skipped", "pck-certificate": "skipped"}),
        ("https", BASE + "rootcacrl", body("", 502), {"pccs-crl": "fail"}),
        ("https", BASE + "rootcacrl", body(""), {"pccs-crl": "fail"}),
        ("https", BASE + "rootcacrl", body("<html>"), {"pccs-crl": "fail"}),
        ("https", BASE + "rootcacrl", body("3082"), {"pccs-crl": "fail"}),
        ("https", BASE + "rootcacrl", body("30820100zz"), {"pccs-crl": "fail"}),
        ("https", "query", body("", 404), {"pck-certificate": "fail"}),
        ("https", "query", body("", 461), {"pck-certificate": "fail"}),
        ("https", "query", body("", 500), {"pck-certificate": "unknown"}),
        ("https", "query", GONE, {"pck-certificate": "unknown"}),
        ("files", "/etc/qgs.conf", "port = 70000", {"qgs-transport": "fail", "qgs-answers": "fail", "pck-certificate": "skipped"}),
        ("files", QCNL, "{", {"pccs-certificate": "fail", "pccs-reachable": "skipped", "pccs-crl": "skipped", "pck-certificate": "skipped"}),
        (
            "files",
            QCNL,
            '{"pccs_url": "http://x"}',
            {"pccs-certificate": "fail", "pccs-reachable": "skipped", "pccs-crl": "skipped", "pck-certificate": "skipped"},
        ),
        (
            "files",
            QCNL,
            '{"pccs_url": "https://[:8081/", "use_secure_cert": false}',
            {"pccs-certificate": "fail", "pccs-reachable": "skipped", "pccs-crl": "skipped", "pck-certificate": "skipped"},
        ),
        (
            "files",
            QCNL,
            '{"pccs_url": "https://localhost:x@pccs.example.com/", "use_secure_cert": false}',
            {"pccs-certificate": "fail", "pccs-reachable": "skipped", "pccs-crl": "skipped", "pck-certificate": "skipped"},
        ),
        (
            "files",
            QCNL,
            '{"pccs_url": "https://localhost:8081/", "use_secure_cert": false, "collateral_service": "https://api.trustedservices.intel.com/"}',
            {"pccs-certificate": "fail", "pccs-reachable": "fail", "pccs-crl": "skipped", "pck-certificate": "skipped"},
        ),
        ("files", QCNL, '{"local_cache_only": true}', {"pccs-reachable": "skipped", "pccs-crl": "skipped", "pck-certificate": "fail"}),
        ("files", QCNL, '{"pccs_url": "%s", "local_pck_url": "http://169.254.169.254/"}' % BASE, {"pck-certificate": "skipped"}),
        ("files", efivars.STATUS, {"hex": "0700000001000300000000"}, {"registration": "fail"}),
        ("files", efivars.STATUS, {"hex": "07000000010003000100a3"}, {"registration": "fail"}),
        ("files", efivars.STATUS, {"hex": "0700000001000300010000"}, {}),
        ("files", efivars.STATUS, {"hex": "00"}, {"registration": "fail"}),
    ],
)
def test_each_fault_is_found_by_its_own_check(document, section, key, value, expected):
    broken = copy.deepcopy(document)
    broken[section][document["query"] if key == "query" else key] = value
    found = outcomes(broken)
    assert {name[4:]: probe.outcome for name, probe in found.items() if probe.outcome != "pass"} == expected
    assert all(probe.fix for probe in found.values() if probe.outcome in ("fail", "unknown"))


def test_what_waits_in_the_firmware_is_looked_for_and_never_read(document):
    waiting = {
        **document,
        "files": {**document["files"], efivars.STATUS: {"hex": "0700000001000300000000"}},
        "exists": {**document["exists"], efivars.REQUEST: True},
    }
    recorder = Recorder(RecordedHost(waiting))
    found = {probe.id: probe for probe in survey(recorder, "host", "tdx", ["quoting"]).probes}
    assert "waits" in found["tdx.registration"].observed and efivars.REQUEST not in recorder.document()["files"]


@pytest.mark.parametrize(("answer", "outcome"), [(body("00"), "pass"), (SSL, "fail")])
def test_a_local_pccs_is_judged_once_it_was_asked(document, answer, outcome):
    local = "https://localhost:8081/sgx/certification/v4/"
    document["files"][QCNL] = '{"pccs_url": "%s", "use_secure_cert": true}' % local
    assert {probe.id: probe for probe in survey(RecordedHost(document), "host", "tdx", ["quoting"]).probes}["tdx.pccs-certificate"].outcome == "unknown"
    document["https"][local + "rootcacrl"] = answer
    assert outcomes(document)["tdx.pccs-certificate"].outcome == outcome


def test_a_cached_certificate_is_as_good(document):
    document["files"][QCNL] = '{"local_cache_only": true}'
    qe_id = document["query"].partition("qeid=")[2][:32]
    document["exists"]["%s/%s_0000" % (quoting_online.CACHE, qe_id)] = True
    assert outcomes(document)["tdx.pck-certificate"].outcome == "pass"
    del document["exchanges"]["vsock:1:4050"]
    assert outcomes(document)["tdx.qgs-answers"].outcome == "fail"


def test_recordings_are_read_strictly(document):
    for section, key, value in (("https", BASE + "rootcacrl", []), ("https", BASE + "rootcacrl", {"status": "200"}), ("exchanges", "vsock:1:4050", "zz")):
        broken = copy.deepcopy(document)
        broken[section][key] = value
        with pytest.raises(FormatError, match="recording"):
            outcomes(broken)


def test_real_sockets(tmp_path):
    platform, path = Platform.make(tmp_path / "p"), str(tmp_path / "qgs.socket")
    request = bytes.fromhex("0000001001000100040000001000000000000000")
    host = LocalHost()
    assert isinstance(host.exchange("unix:" + path, request), Unreadable)
    for fault in qgs.FAULTS:
        if fault == "silent":
            continue
        with qgs.running(platform, path, fault):
            answer = host.exchange("unix:" + path, request)
        assert isinstance(answer, Unreadable) == (fault in ("close", "garbage", "cut")), fault
        Path(path).unlink()
    for address in ("unix:", "tcp:1", "vsock:x:1", "vsock:1"):
        assert "no address" in host.exchange(address, request).reason


def test_a_silent_qgs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(online, "TIMEOUT", 0.2)
    platform, path = Platform.make(tmp_path / "p"), str(tmp_path / "qgs.socket")
    with qgs.running(platform, path, "silent"):
        assert "answer" in online.exchange("unix:" + path, b"x" * 20).reason


def test_vsock_if_this_machine_has_it(tmp_path):
    platform = Platform.make(tmp_path / "p")
    request = bytes.fromhex("0000001001000100040000001000000000000000")
    try:
        with qgs.running(platform, "vsock:14050"):
            answer = online.exchange("vsock:1:14050", request)
    except OSError:
        answer = online.exchange("vsock:1:14050", request)
        assert isinstance(answer, Unreadable)
        return
    assert isinstance(answer, (bytes, Unreadable)) and (not isinstance(answer, Unreadable) or "vsock" in answer.reason)


@pytest.mark.parametrize("kind", ["good", "self-signed", "wrong-name", "expired"])
def test_a_real_pccs_with_each_certificate(tmp_path, monkeypatch, kind):
    with server.Service(USER, ADMIN, kind).running() as service:
        (tmp_path / "ca.pem").write_bytes(service.authority)
        # What the system trusts, for a test.
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        answer = LocalHost().https(service.url + "/sgx/certification/v4/rootcacrl")
        if kind == "good":
            assert isinstance(answer, Answer) and answer.status == 200 and answer.body.startswith(b"3082")
        else:
            assert isinstance(answer, Unreadable) and "certificate is not accepted" in answer.reason and service.requests == []
        assert LocalHost().https(service.url + "/x", verify=False).status == 404
    assert "no answer" in LocalHost().https(service.url + "/x").reason
    assert "checked everywhere" in LocalHost().https("https://pccs.example.com/", verify=False).reason


def test_a_port_without_a_service():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "no answer" in LocalHost().https("https://localhost:%d/" % port).reason
