# SPDX-License-Identifier: GPL-3.0-or-later
"""The role played whole with a real ansible-playbook: a key broker set up, tried, saved, lost, restored and taken away.

The program is a soft KBS that reads the configuration that the role wrote; with TRUSTEE_KBS it is Trustee's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.token import AdminKey, load_admin_key
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server, make_transport

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "unit" / "trustee"))
from trustee_lab import DIGEST  # noqa: E402  pylint: disable=wrong-import-position
from trustee_machine import Machine  # noqa: E402  pylint: disable=wrong-import-position

SECRET = b"a key that is nobody else's"
STORED = "storage/repository/default\\x2Fkey\\x2Fmodel-7"


@pytest.fixture
def machine(tmp_path):
    found = Machine(tmp_path / "machine")
    yield found
    found.end()


def admin(machine: Machine) -> AdminClient:
    """As an admin elsewhere would be: with what the role left on the controller."""
    controller = Path(machine.given["trustee_directory"])
    address = Server(machine.given["trustee_url"], (controller / "tls-ca.pem").read_text(), timeout=20)
    key = AdminKey(load_admin_key(str(controller / "admin.key")), "ops.example.org")
    return AdminClient(make_transport(address), key.token, address.url)


def private(machine: Machine) -> list[str]:
    """The middle of every private key that there is."""
    return [path.read_text().splitlines()[1][20:60] for path in machine.folder.rglob("*.key") if path.is_file()]


def test_set_up_tried_saved_lost_restored_and_taken_away(machine):
    done, counts = machine.play("--check", "--diff")
    assert done.returncode == 0 and counts["one"]["changed"] > 5 and machine.tree() == {} and not machine.running(), done.stdout

    done, counts = machine.play("--diff", "-vv")
    assert done.returncode == 0 and machine.running(), done.stdout
    checks = machine.result(done)["checks"]
    assert len(checks) == 10 and {check["outcome"] for check in checks} == {"pass"}, checks
    modes = {path: state.split()[0] for path, state in machine.tree().items()}
    assert {mode for path, mode in modes.items() if path.endswith(".key")} == {"100600"} and modes["etc/trustee/kbs.toml"] == "100640"
    # The admin's key never comes to the machine, those of the machine never to the controller.
    assert {path for path in modes if path.startswith("controller/")} == {f"controller/{name}" for name in (
        "admin.key", "admin.pub", "tls-ca.pem", "token-ca.pem")}  # fmt: skip
    assert not any(part in done.stdout for part in private(machine)) and "enable trustee-kbs.service" in (machine.folder / "asked").read_text()
    assert (Path(machine.given["trustee_data_dir"]) / "storage/kbs/resource-policy.rego").read_text().rstrip().endswith("default allow := false")

    admin(machine).set_resource(Resource.parse("default/key/model-7"), SECRET)
    data = Path(machine.given["trustee_data_dir"])
    assert (data / STORED).read_bytes() == SECRET
    done, counts = machine.play()
    assert done.returncode == 0 and counts["one"]["changed"] == 0, done.stdout

    # A run that ended before the start is finished by the next one, and here saved in the same breath.
    done, counts = machine.play(trustee_state="backup")
    saved = machine.result(done)
    assert done.returncode == 0 and machine.running() and len(saved["sha256"]) == 64, done.stdout
    assert Path(saved["archive"]).stat().st_mode & 0o777 == 0o600 and SECRET.decode() not in done.stdout

    (data / STORED).unlink()
    (data / "storage/kbs/resource-policy.rego").write_text("package policy\n\ndefault allow = true\n")
    given = {"trustee_restore_archive": saved["archive"], "trustee_restore_sha256": saved["sha256"]}
    done, counts = machine.play(trustee_state="restore", trustee_restore_confirm="one", **given)
    assert done.returncode == 0 and machine.running() and (data / STORED).read_bytes() == SECRET, done.stdout
    assert {check["outcome"] for check in machine.result(done)["checks"]} == {"pass"} and SECRET.decode() not in done.stdout
    assert admin(machine).policies() == ["resource-policy"]

    done, counts = machine.play(trustee_state="absent")
    left = machine.tree()
    assert done.returncode == 0 and not machine.running() and not any(path.startswith("units/") or path.endswith("kbs.toml") for path in left), done.stdout
    assert (data / STORED).read_bytes() == SECRET and f"etc/trustee/keys/{'tls.key'}" in left and saved["archive"].endswith(".tar")


REFUSED = {
    "nowhere": ({"trustee_url": ""}, "trustee_url (now '') must be the https address"),
    "root": ({"trustee_state": "absent", "trustee_config_dir": "/etc", "trustee_purge_confirm": "root"}, "at least two folders deep"),
    "upwards": ({"trustee_state": "absent", "trustee_data_dir": "/var/lib/../..", "trustee_purge_confirm": "upwards"}, "at least two folders deep"),
    "http": ({"trustee_url": "http://127.0.0.1:1"}, "must be the https address"),
    "issuer": ({"trustee_issuer": ""}, "trustee_issuer is empty"),
    "demo": ({"trustee_issuer": "TrusteeInHelm"}, "demo setup"),
    "half": ({"trustee_tls_certificate": "/etc/hostname"}, "or none of them"),
    "unpinned": ({"trustee_program_sha256": {}}, "does not say which kbs is meant"),
    "another": ({"trustee_program_sha256": {"kbs": DIGEST}}, "Nothing was placed"),
    "tag": ({"trustee_way": "quadlet", "trustee_images": {"kbs": "ghcr.io/x/kbs:latest"}}, "names no digest"),
    "old": ({"trustee_way": "quadlet", "trustee_images": {"kbs": f"ghcr.io/x/kbs@sha256:{DIGEST}"}}, "Podman 4.3.1 knows no quadlets"),
    "cluster": ({"trustee_way": "helm", "trustee_state": "backup"}, "Take VolumeSnapshots"),
    "restore": ({"trustee_state": "restore", "trustee_restore_archive": "/x.tar", "trustee_restore_sha256": DIGEST}, "trustee_restore_confirm=restore"),
    "purge": ({"trustee_state": "absent", "trustee_purge_confirm": "another"}, "Nothing was removed"),
    "open": ({"trustee_acls": [{"role": "admin", "allowed_endpoints": ".*"}]}, "does not begin with ^/kbs"),
    "unsaved": ({"trustee_state": "backup"}, "there is no such folder"),
}


def test_what_is_refused_changes_nothing(machine):
    (machine.folder / "bin" / "podman").write_text("#!/bin/sh\necho 4.3.1\n")
    (machine.folder / "bin" / "podman").chmod(0o755)
    done, counts = machine.play(hosts={name: given for name, (given, _said) in REFUSED.items()})
    flat = " ".join(done.stdout.split())
    assert {name for name, count in counts.items() if count["failed"]} == set(REFUSED), done.stdout
    for name, (_given, said) in REFUSED.items():
        assert said in flat, (name, done.stdout)
    assert "Traceback" not in done.stdout and not machine.running()
    assert {path for path in machine.tree() if not path.startswith("controller/")} == set()


def test_a_key_broker_that_does_not_start_is_no_success(tmp_path):
    machine = Machine(tmp_path / "machine", attempts=1)
    machine.take("#!/bin/sh\nexit 1\n")
    done, counts = machine.play()
    assert counts["one"]["failed"] == 1 and "nothing listens there" in done.stdout and "Traceback" not in done.stdout, done.stdout
