# SPDX-License-Identifier: GPL-3.0-or-later
"""The role played whole on machines in folders: check mode first, converge, again, and back; and what it refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import commented_json, pckid, qgs_conf

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tests" / "unit" / "tdx_quoting"), str(REPO / "tools" / "softpccs")]
from quoting_lab import ADMIN, USER  # noqa: E402  pylint: disable=wrong-import-position
from quoting_root import PCCS, QCNL, QGS, Root, killed, play  # noqa: E402  pylint: disable=wrong-import-position
from softpccs import server  # noqa: E402  pylint: disable=wrong-import-position

API_KEY = "0123456789abcdef0123456789abcdef"
SECRETS = (USER, ADMIN, API_KEY)
# QGS answers, its enclaves do not.
BROKEN = {"vsock:1:4050": "0000001001000100050000001000000001200100"}


@pytest.fixture
def pccs():
    with server.Service(USER, ADMIN).running() as service:
        yield service


@pytest.fixture
def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def there(pccs, tmp_path):
    """What the machines have in common: where Intel and the PCCS are, and whom to trust."""
    (tmp_path / "ca.pem").write_bytes(pccs.authority)
    return {
        "tdx_quoting_pccs_url": pccs.url,
        "tdx_quoting_service_url": pccs.url,
        "__tdx_quoting_service_ca": str(tmp_path / "ca.pem"),
        "tdx_quoting_pccs_ca_file": str(tmp_path / "ca.pem"),
        "tdx_quoting_pccs_user_token": USER,
        "tdx_quoting_pccs_admin_token": ADMIN,
        "tdx_quoting_send_from": "controller",
        "tdx_quoting_manifest_confirm": "{{ inventory_hostname }}",
    }


def healthy(root: Root, crl: bytes, **changed) -> dict:
    path = root.folder / "recording.json"
    path.write_text(json.dumps(root.recording(crl, **changed)))
    return {"tdx_quoting_recording": "{{ lookup('ansible.builtin.file', '%s') | ansible.builtin.from_json }}" % path}


def machines(tmp_path: Path, crl: bytes) -> dict[str, Root]:
    cache = tmp_path / "cache-file"
    cache.write_bytes(b"what pcs-client-tool made")
    wanted = {
        "direct": {"tdx_quoting_registration": "direct_manual", "tdx_quoting_transport": "unix", "tdx_quoting_qcnl": "intelpcs"},
        "cache": {
            "tdx_quoting_registration": "indirect_local_cache",
            "tdx_quoting_qcnl": "local_cache",
            "tdx_quoting_local_cache_file": str(cache),
            "tdx_quoting_threads": 8,
            "tdx_quoting_waivers": {"tdx.qgs-answers": "no SGX here"},
        },
        "agent": {"tdx_quoting_registration": "direct_automatic", "tdx_quoting_qcnl_settings": {"retry_times": 3}},
    }
    found = {name: Root(tmp_path / name, agent_enabled=name == "agent", **given) for name, given in wanted.items()}
    for name, root in found.items():
        root.given.update(healthy(root, crl, **({"exchanges": BROKEN} if name == "cache" else {})))
    # QGS was started in the second in which its settings will be written, as far as systemd tells.
    running = found["agent"].folder / "units" / "qgsd.service"
    running.write_text("active\n")
    os.utime(running, (time.time() + 3600,) * 2)
    return found


def test_there_again_and_back(pccs, tmp_path, there):
    roots = machines(tmp_path, pccs.root_crl.hex().encode())
    before = {name: root.tree() for name, root in roots.items()}
    done, counts = play(tmp_path, {"agent": roots["agent"]}, "--check", "--diff", **there)
    assert done.returncode == 0, done.stdout
    assert {name: root.tree() for name, root in roots.items()} == before and not (tmp_path / "controller").exists() and not pccs.requests
    assert {root.platform.pending for root in roots.values()} == {True} and min(count["changed"] for count in counts.values()) >= 3
    assert (
        "+# Managed by attested.ai (tdx_quoting)" in done.stdout
        and '+  ,"retry_times": 3' in done.stdout
        and not any(secret in done.stdout for secret in SECRETS)
    )

    done, counts = play(tmp_path, roots, "-vvv", **there)
    assert done.returncode == 0, done.stdout
    for root in roots.values():
        # Neither tokens nor manifests are shown, however much is told.
        assert not any(secret in done.stdout for secret in (*SECRETS, root.platform.manifest.hex())) and not root.platform.pending
        assert (tmp_path / "controller" / root.folder.name / ("manifest-%s.bin" % pckid.digest(root.platform.manifest))).read_bytes() == root.platform.manifest
        asked = "%s qgsd.service" % ("restart" if root is roots["agent"] else "start")
        assert asked in root.asked() and (root.folder / "units" / "qgsd.service.enabled").exists()
        assert "Restart=always" in root.text("etc/systemd/system/qgsd.service.d/attested-ai-tdx-quoting.conf")
    assert not pccs.platforms and list(pccs.manifests.values()) == [roots["direct"].platform.manifest]
    assert qgs_conf.parse(roots["cache"].text("etc/qgs.conf")) == qgs_conf.QgsConf(4050, 8)
    settings = commented_json.parse(roots["agent"].text("etc/sgx_default_qcnl.conf"))
    assert settings["pccs_url"] == pccs.url + "/sgx/certification/v4/" and settings["use_secure_cert"] is True and settings["retry_times"] == 3
    # Both ends of one transport.
    assert qgs_conf.parse(roots["direct"].text("etc/qgs.conf")).port is None and "RuntimeDirectory=tdx-qgs" in roots["direct"].text(
        "etc/systemd/system/qgsd.service.d/attested-ai-tdx-quoting.conf"
    )
    assert "<quoteGenerationService path='/var/run/tdx-qgs/qgs.socket'/>" in done.stdout and "'port': '4050'" in done.stdout
    assert (roots["agent"].root / "etc/modules-load.d/attested-ai-tdx-quoting.conf").exists()
    assert not (roots["direct"].root / "etc/modules-load.d/attested-ai-tdx-quoting.conf").exists()
    cached = roots["cache"].root / "var/opt/qgsd/.dcap-qcnl" / ("%s_0000" % roots["cache"].platform.qe_id.hex())
    assert (
        cached.read_bytes() == b"what pcs-client-tool made"
        and commented_json.parse(roots["cache"].text("etc/sgx_default_qcnl.conf"))["local_cache_only"] is True
    )
    assert "start mpa_registration_tool.service" in roots["agent"].asked() and "stop" not in " ".join(roots["agent"].asked())

    for root in roots.values():
        root.platform.boot()
    done, counts = play(tmp_path, roots, tdx_quoting_manifest_confirm="", **{name: value for name, value in there.items() if "confirm" not in name})
    assert done.returncode == 0 and {name: count["changed"] for name, count in counts.items()} == dict.fromkeys(roots, 0), done.stdout

    some = {"direct": roots["direct"]}
    # Another run of it has ended after the authority was removed, and before the machine knew.
    (roots["direct"].root / "usr/local/share/ca-certificates/attested-ai-pccs.crt").unlink()
    gathered = roots["direct"].asked().count("gathered")
    done, counts = play(tmp_path, some, tdx_quoting_state="absent", **there)
    assert done.returncode == 0, done.stdout
    for root in some.values():
        assert commented_json.parse(root.text("etc/sgx_default_qcnl.conf")) == commented_json.parse(QCNL) and qgs_conf.parse(
            root.text("etc/qgs.conf")
        ) == qgs_conf.parse(QGS)
        assert root.asked().count("gathered") == gathered + 1
        left = {name for name in set(root.tree()) - set(before[root.folder.name]) if name.startswith("root/etc") or name.startswith("root/usr")}
        assert left == set() and (root.root / "var/lib/attested-ai/tdx-registration/record.json").exists()


BAD = {
    "insecure": ({"tdx_quoting_insecure_localhost": True, "tdx_quoting_pccs_url": "https://pccs.example.com:8081"}, "is for a PCCS on the same machine"),
    "address": ({"tdx_quoting_pccs_url": "http://pccs.example.com"}, "must be an address such as"),
    "elsewhere": ({"tdx_quoting_insecure_localhost": True, "tdx_quoting_qcnl": "intelpcs"}, "certificates of other services would be unchecked"),
    "unchecked": ({"tdx_quoting_qcnl_settings": {"use_secure_cert": False}}, "Leave use_secure_cert"),
    "cache": ({"tdx_quoting_registration": "indirect_local_cache"}, "go together"),
    "token": ({"tdx_quoting_registration": "indirect_pccs", "tdx_quoting_pccs_user_token": ""}, "Give its user token"),
    "weak": ({"tdx_quoting_pccs": "local", "tdx_quoting_pccs_user_token": "short-4711", "tdx_quoting_pccs_admin_token": "short-4712"}, "12 characters or more"),
    "suite": ({"tdx_quoting_install": True, "tdx_quoting_repository": "intel"}, "not known to have a suite"),
    "key": ({"tdx_quoting_install": True, "tdx_quoting_repository": "intel", "tdx_quoting_apt_suite": "noble"}, "only installed if Intel's key is known"),
    "tarball": ({"tdx_quoting_install": True, "tdx_quoting_repository": "tarball", "tdx_quoting_key_sha256": "ab" * 32}, "in a file only"),
    "confirm": ({"tdx_quoting_registration": "direct_manual", "tdx_quoting_manifest_confirm": "another"}, "tdx_quoting_manifest_confirm: confirm"),
    "reset": ({"tdx_quoting_registration": "direct_manual"}, "there is no direct one"),
    "enclaves": ({}, "tdx.qgs-answers"),
}


def test_what_cannot_work_is_refused_with_cause_and_step(pccs, tmp_path, there):
    roots = {name: Root(tmp_path / name, **given) for name, (given, _said) in BAD.items()}
    roots["enclaves"].given.update(healthy(roots["enclaves"], pccs.root_crl.hex().encode(), exchanges=BROKEN))
    record = roots["reset"].root / "var/lib/attested-ai/tdx-registration/record.json"
    record.parent.mkdir(parents=True)
    entry = {
        "schema": "attested.ai/tdx-registration/1",
        "variant": "indirect_pccs",
        "manifest": pckid.digest(roots["reset"].platform.manifest),
        "done": ["collect"],
        "identity": {},
        "ppid": "",
        "previous": [],
        "collateral": "",
    }
    record.write_text(json.dumps(entry))
    shared = {name: value for name, value in there.items() if name in ("__tdx_quoting_service_ca",)}
    for root in roots.values():
        # How authorities are placed is seen elsewhere.
        root.given = {**{name: value for name, value in there.items() if name not in (*shared, "tdx_quoting_pccs_ca_file")}, **root.given}
    done, counts = play(tmp_path, roots, **shared)
    assert {name for name, count in counts.items() if count["failed"]} == set(BAD) and done.returncode == 2, done.stdout
    flat = " ".join(done.stdout.split())
    for name, (_given, said) in BAD.items():
        assert said in flat, (name, done.stdout)
    assert "Traceback" not in done.stdout and "short-4711" not in done.stdout and not pccs.requests
    assert all(root.platform.pending for root in roots.values())
    # Refused before anything was set; the manifest is saved all the same where only the word is missing.
    assert roots["insecure"].text("etc/sgx_default_qcnl.conf") == QCNL and not roots["suite"].asked()
    assert (tmp_path / "controller" / "confirm" / ("manifest-%s.bin" % pckid.digest(roots["confirm"].platform.manifest))).exists()


def test_a_play_that_is_killed_with_the_manifest_taken_is_finished(pccs, tmp_path, there):
    root = Root(tmp_path / "one", tdx_quoting_registration="indirect_pccs", tdx_quoting_verify=False)
    root.platform.behave("tool", "hangs")
    killed(tmp_path, {"one": root}, root.platform.folder / "tool.pid", **there)
    assert not root.platform.pending and not pccs.platforms
    assert (tmp_path / "controller" / "one" / ("manifest-%s.bin" % pckid.digest(root.platform.manifest))).read_bytes() == root.platform.manifest
    root.platform.behave("tool", "good")
    root.platform.boot()
    done, counts = play(tmp_path, {"one": root}, **there)
    assert done.returncode == 0 and not counts["one"]["failed"], done.stdout
    assert pccs.platforms[root.platform.qe_id.hex().upper()]["platform_manifest"] == root.platform.manifest.hex()


def serve_when_there(folder: Path, port: int, mode: str, stop: threading.Event) -> None:
    """A PCCS that begins once it has a certificate, as the real one does."""
    while not (folder / "file.crt").exists() or not (folder / "private.pem").exists():
        if stop.wait(0.05):
            return
    time.sleep(0.2)
    with server.Service(USER, ADMIN, port=port, mode=mode, files=(str(folder / "file.crt"), str(folder / "private.pem"))).running():
        stop.wait(300)


def test_a_pccs_for_others_is_set_up_with_a_certificate_of_its_own(tmp_path, there, free_port):
    root = Root(
        tmp_path / "one",
        tdx_quoting_qgs=False,
        tdx_quoting_pccs="local",
        tdx_quoting_pccs_port=free_port,
        tdx_quoting_pccs_mode="REQ",
        tdx_quoting_pccs_settings={"LogLevel": "warn"},
        tdx_quoting_pccs_api_key=API_KEY,
    )
    given = {"tdx_quoting_pccs_user_token": USER, "tdx_quoting_pccs_admin_token": ADMIN}
    home, stop = root.root / "opt/intel/sgx-dcap-pccs", threading.Event()
    before = root.tree()
    done, _counts = play(tmp_path, {"one": root}, "--check", "--diff", **given)
    assert done.returncode == 0 and root.tree() == before and not any(secret in done.stdout for secret in SECRETS), done.stdout
    thread = threading.Thread(target=serve_when_there, args=(home / "ssl_key", free_port, "REQ", stop), daemon=True)
    thread.start()
    try:
        done, _counts = play(tmp_path, {"one": root}, "--diff", "-vvv", **given)
        assert done.returncode == 0 and not any(secret in done.stdout for secret in SECRETS), done.stdout
        settings = commented_json.parse((home / "config/default.json").read_text(), trailing_comma=True)
        assert (
            settings["CachingFillMode"] == "REQ" and settings["LogLevel"] == "warn" and settings["ApiKey"] == API_KEY and len(settings["UserTokenHash"]) == 128
        )
        assert (home / "ssl_key/private.pem").stat().st_mode & 0o777 == 0o600 and "start pccs.service" in root.asked()
        named = subprocess.run(
            ["openssl", "x509", "-in", str(home / "ssl_key/file.crt"), "-noout", "-ext", "subjectAltName"], stdout=subprocess.PIPE, check=True
        )
        assert b"DNS:localhost, IP Address:127.0.0.1" in named.stdout
        done, counts = play(tmp_path, {"one": root}, **given)
        assert done.returncode == 0 and counts["one"]["changed"] == 0, done.stdout
    finally:
        stop.set()
        thread.join(10)
    done, _counts = play(tmp_path, {"one": root}, tdx_quoting_state="absent", **given)
    assert commented_json.parse((home / "config/default.json").read_text(), trailing_comma=True) == commented_json.parse(PCCS, trailing_comma=True)
