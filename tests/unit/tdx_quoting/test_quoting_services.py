# SPDX-License-Identifier: GPL-3.0-or-later
"""Intel's registration service and a PCCS with bad manners and strange certificates; and modules that are run for real."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import https, pckid, services
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.machine import blinded
from quoting_lab import ADMIN, USER
from softpccs import faults, server, tls
from softpccs.platform import Platform


@pytest.fixture
def opener(pccs, tmp_path):
    (tmp_path / "ca.pem").write_bytes(pccs.authority)
    return https.make_opener(str(tmp_path / "ca.pem"), timeout=5)


@pytest.fixture
def platform(tmp_path):
    return Platform.make(tmp_path / "platform")


def entry(platform):
    return pckid.parse(platform.csv(platform.manifest).encode()).platform(None)


def test_a_busy_service_is_asked_again(pccs, opener, platform, pauses):
    pccs.faults.add("429", "POST", "registration", times=2, value="7")
    pccs.faults.add("drop", "POST", "registration", nth=3)
    assert services.register_manifest(opener, pccs.url, platform.manifest) in pccs.manifests
    assert pauses == [7, 7, 8.0] and len(pccs.requests) == 4


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("401", "pccs-refused", "SHA-512"),
        ("404", "pccs-refused", "address of a PCCS"),
        ("429", "pccs-refused", "status 429"),
        ("500", "pccs-refused", "See its log"),
        ("502", "pccs-refused", "ApiKey"),
        ("redirect", "pccs-refused", "status 302"),
        ("drop", "service-unreachable", "no answer"),
        ("cut", "service-unreachable", "breaks off"),
    ],
)
def test_each_fault_of_a_pccs_has_its_word(pccs, opener, platform, pauses, fault, code, said):
    pccs.faults.add(fault, "POST", "platforms", times=9, value="0" if fault != "redirect" else "https://elsewhere.example.com/")
    with pytest.raises(HostError, match=said) as caught:
        services.deliver_platform(opener, pccs.url, entry(platform), USER)
    assert caught.value.code == code and USER not in str(caught.value) and len(pauses) <= 3


def test_wrong_tokens_and_wrong_data_are_refused(pccs, opener, platform):
    for token in ("", "wrong", ADMIN):
        with pytest.raises(HostError, match="does not accept the token"):
            services.deliver_platform(opener, pccs.url, entry(platform), token)
    with pytest.raises(HostError, match="takes the data for invalid"):
        services.deliver_platform(opener, pccs.url, {**entry(platform), "pce_id": "x"}, USER)
    with pytest.raises(HostError) as caught:
        services.deliver_platform(opener, pccs.url, entry(platform), "a\nb-secret")
    assert "secret" not in str(caught.value) and not pccs.platforms
    assert "secret" not in repr(services.Request("GET", "https://x", token={"user-token": "secret"}))


@pytest.mark.parametrize(
    "url",
    ["", "http://pccs.example.com", "https://", "https://u:p@pccs.example.com", "https://pccs.example.com/?x", "ftp://x", "pccs", "https://[", "https://[x]/"],
)
def test_what_is_no_address_of_a_pccs(url):
    with pytest.raises(HostError, match="no https address"):
        services.pccs_base(url)


def test_addresses_of_a_pccs():
    for url in ("https://p:8081", "https://p:8081/", "https://p:8081/sgx/certification/v4/", "https://p:8081/sgx/certification/v3"):
        assert services.pccs_base(url) == "https://p:8081/sgx/certification/v4/"
    assert services.pccs_base("https://proxy.example.com/pccs/sgx/certification/v4/") == "https://proxy.example.com/pccs/sgx/certification/v4/"


@pytest.mark.parametrize(("name", "said"), [("PackageNotFound", "PackageNotFound.*0xce"), ("InvalidOrRevokedPackage", "revoked"), ("Strange", "Strange")])
def test_what_intel_refuses_is_told(pccs, opener, platform, name, said):
    pccs.refuses = name
    with pytest.raises(HostError, match=said) as caught:
        services.register_manifest(opener, pccs.url, platform.manifest)
    assert caught.value.code == "registration-refused" and not pccs.manifests


def test_an_answer_in_intels_place_is_not_believed(pccs, opener, platform):
    for fault in ("garbage", "empty", "404"):
        pccs.faults.clear()
        pccs.faults.add(fault, "POST", "registration")
        with pytest.raises(HostError, match="not 201 with a PPID"):
            services.register_manifest(opener, pccs.url, platform.manifest)


@pytest.mark.parametrize("kind", [kind for kind in tls.KINDS if kind != "good"])
def test_a_strange_certificate_gets_neither_token_nor_manifest(tmp_path, platform, pauses, kind):
    with server.Service(USER, ADMIN, kind).running() as service:
        (tmp_path / "ca.pem").write_bytes(service.authority)
        opener = https.make_opener(str(tmp_path / "ca.pem"), timeout=5)
        for act in (
            lambda: services.deliver_platform(opener, service.url, entry(platform), USER),
            lambda: services.register_manifest(opener, service.url, platform.manifest),
        ):
            with pytest.raises(HostError, match="its certificate is not accepted") as caught:
                act()
            assert caught.value.code == "service-unreachable" and "authority" in caught.value.fix
        # No second try: it would not become better. And nothing was heard.
        assert service.requests == [] and pauses == []
        # On this machine, and on request, it may be left unchecked.
        services.deliver_platform(https.make_opener(verify=False), service.url, entry(platform), USER)
        assert len(service.platforms) == 1


def test_unchecked_is_for_this_machine_only():
    with pytest.raises(HostError, match="must be checked everywhere"):
        https.make_opener(verify=False)(services.Request("GET", "https://pccs.example.com/"))
    for url in ("https://[", "https://localhost:x@pccs.example.com/"):
        with pytest.raises(HostError, match="must be checked everywhere"):
            https.make_opener(verify=False)(services.Request("GET", url))
    with pytest.raises(OSError, match="it is no HTTP"):
        https.make_opener()(services.Request("GET", "https://["))
    with pytest.raises(HostError, match="certificates"):
        https.make_opener("/nonexistent")


def test_this_machine_is_not_asked_through_a_proxy(pccs, opener, platform, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    services.deliver_platform(opener, pccs.url, entry(platform), USER)
    assert pccs.platforms


def test_the_soft_pccs_is_as_strict_as_the_real_one(pccs, platform):
    def ask(method, path, raw=b"", **headers):
        return pccs.answer(method, path, raw, headers)

    base = "/sgx/certification/v4/"
    assert ask("GET", base + "platforms").status == 401 and ask("GET", base + "platforms", **{"admin-token": USER}).status == 401
    assert (
        ask("GET", base + "pckcert?qeid=zz").status == 400
        and ask("GET", base + "pckcert?qeid=%s&cpusvn=%s&pcesvn=0d00&pceid=0000" % ("0" * 32, "0" * 32)).status == 404
    )
    assert (
        ask("GET", base + "rootcacrl").data.startswith(b"3082") and ask("GET", "/elsewhere").status == 404 and ask("DELETE", base + "rootcacrl").status == 404
    )
    collateral = {
        "platforms": [],
        "collaterals": {
            "pck_certs": [{"qe_id": "aa" * 16}],
            "tcbinfos": [{"fmspc": "00AA", "tdx_tcbinfo": {"x": 1}}],
            "tdqeidentity": "{}",
            "pckcacrl": {"platformCrl": "3082"},
        },
    }
    assert ask("PUT", base + "platformcollateral", json.dumps(collateral).encode(), **{"admin-token": ADMIN}).status == 200
    assert json.loads(ask("GET", "/tdx/certification/v4/tcb?fmspc=00aa").data) == {"x": 1} and ask("GET", base + "tcb?fmspc=00aa").status == 404
    assert ask("GET", "/tdx/certification/v4/qe/identity").data == b"{}" and ask("GET", base + "pckcrl?ca=platform").data == b"3082"
    assert ask("GET", base + "pckcert?qeid=%s&cpusvn=%s&pcesvn=0d00&pceid=0000" % ("aa" * 16, "0" * 32)).status == 200
    for text in ("nonsense", "429:POST:x:y"):
        with pytest.raises(ValueError):
            faults.parse(text)


def module(name, options, check=False):
    arguments = {"ANSIBLE_MODULE_ARGS": {**options, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp"}}
    command = [
        sys.executable,
        "-c",
        "import sys, ansible_collections.attested.ai.plugins.modules.%s as m\n"
        "from ansible.module_utils import basic\nbasic._ANSIBLE_ARGS = sys.stdin.buffer.read()\nbasic._ANSIBLE_PROFILE = 'legacy'\nm.main()" % name,
    ]
    done = subprocess.run(command, input=json.dumps(arguments).encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.stdout, done.stderr.decode()
    return json.loads(done.stdout)


def test_the_module_for_settings(tmp_path):
    path, options = tmp_path / "qgs.conf", {"path": str(tmp_path / "qgs.conf"), "style": "qgs", "settings": {"port": None}, "state_dir": str(tmp_path / "s")}
    assert module("dcap_config", options)["code"] == "config-missing" and not module("dcap_config", {**options, "state": "absent"})["changed"]
    path.write_text("port = 4050\n")
    path.chmod(0o640)
    looked = module("dcap_config", options, check=True)
    assert looked["changed"] and looked["diff"]["before"] == "port = 4050\n" and path.read_text() == "port = 4050\n" and not (tmp_path / "s").exists()
    assert module("dcap_config", options)["changed"] and path.read_text() == "" and path.stat().st_mode & 0o777 == 0o640
    record = next((tmp_path / "s").iterdir())
    assert record.stat().st_mode & 0o777 == 0o600 and not module("dcap_config", options)["changed"]
    assert module("dcap_config", {**options, "state": "absent"})["changed"] and path.read_text() == "port = 4050\n" and not record.exists()
    path.write_bytes(b"\xff")
    assert "no UTF-8" in module("dcap_config", options)["msg"]


def test_a_killed_edit_is_finished_and_still_comes_back(tmp_path):
    """The record was written, the file was not."""
    path = tmp_path / "qcnl.conf"
    options = {"path": str(path), "style": "qcnl", "settings": {"pccs_url": "https://pccs.example.com/"}, "state_dir": str(tmp_path / "s")}
    path.write_text('{"pccs_url": "https://localhost/"}')
    module("dcap_config", options)
    path.write_text('{"pccs_url": "https://localhost/"}')
    assert module("dcap_config", options)["changed"] and "pccs.example.com" in path.read_text()
    module("dcap_config", {**options, "state": "absent"})
    assert json.loads(path.read_text()) == {"pccs_url": "https://localhost/"}


def test_a_secret_setting_is_in_no_answer(tmp_path):
    path = tmp_path / "default.json"
    path.write_text('{"ApiKey": "",}')
    answer = module("dcap_config", {"path": str(path), "style": "pccs", "secrets": {"ApiKey": "very-secret-4711"}, "state_dir": str(tmp_path / "s")})
    assert answer["changed"] and "very-secret" not in json.dumps(answer) and "very-secret" in path.read_text()


def test_a_secret_that_somebody_else_has_set_is_in_no_answer(tmp_path):
    path = tmp_path / "default.json"
    path.write_text('{"ApiKey": "very-secret-4711", "mysql": {"password": "very-secret-4712"}, "LogLevel": "info"}')
    options = {"path": str(path), "style": "pccs", "settings": {"LogLevel": "warn"}, "state_dir": str(tmp_path / "s")}
    absent, changed = {**options, "state": "absent"}, {**options, "settings": {"mysql": {"password": "very-secret-4713"}}}
    for given in (absent, options, changed, absent):
        answer = module("dcap_config", given)
        assert "very-secret" not in json.dumps(answer) and answer["diff"]["before"].count("***") == 2, answer
    assert json.loads(path.read_text())["mysql"] == {"password": "very-secret-4712"}


def test_the_steps_module(tmp_path, platform):
    options = {
        "efivars": str(platform.efivars),
        "state_dir": str(tmp_path / "s"),
        "agent_log": str(tmp_path / "log"),
        "qgs": "none",
        "retrieval_tool": str(platform.folder / "PCKIDRetrievalTool"),
    }
    looked = module("tdx_registration_step", options)
    digest = looked["found"]["manifest"]
    assert looked["verdict"] == "unregistered" and digest == pckid.digest(platform.manifest) and not (tmp_path / "s").exists()
    key = os.urandom(32)
    keep = {**options, "step": "keep", "digest": digest, "key": key.hex()}
    assert module("tdx_registration_step", keep, check=True)["code"] == "check-mode"
    # Nothing is collected before the manifest is kept.
    assert module("tdx_registration_step", {**options, "step": "collect", "key": key.hex()})["code"] == "manifest-unsaved" and platform.pending
    kept = module("tdx_registration_step", keep)
    assert kept["changed"] and platform.manifest.hex() not in json.dumps(kept) and base64.b64encode(platform.manifest).decode()[:40] not in json.dumps(kept)
    assert blinded(base64.b64decode(kept["blinded"]), key) == platform.manifest and not module("tdx_registration_step", keep)["changed"]
    assert module("tdx_registration_step", {**keep, "key": "zz"})["code"] == "step-options"
    assert module("tdx_registration_step", {**keep, "given": "!"})["code"] == "manifest-missing"
    assert module("tdx_registration_step", {**options, "step": "record", "content": "{}"})["code"] == "record-invalid"
    assert module("tdx_registration_step", {**keep, "digest": "0" * 64})["code"] == "manifest-missing"


def test_no_test_waits_long(pccs, opener, platform):
    """A service that is slow is an answer, one that says nothing is none."""
    pccs.faults.add("slow", "POST", "platforms", value="0.2")
    begin = time.monotonic()
    services.deliver_platform(opener, pccs.url, entry(platform), USER)
    assert time.monotonic() > begin and pccs.platforms
    pccs.faults.add("slow", "POST", "registration", times=9, value="0.4")
    with pytest.raises(HostError, match="timed out"):
        services.register_manifest(https.make_opener(str(next(iter(platform.folder.parent.glob("ca.pem")))), timeout=0.1), pccs.url, platform.manifest)
