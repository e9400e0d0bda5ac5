# SPDX-License-Identifier: GPL-3.0-or-later
"""The soft GPUs against the verifier; and whole documents: CPU and GPUs collected by the real module, appraised under one policy."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import appraise
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NVIDIA_DEVICE, NVIDIA_RIM, trust_roots
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import verify_nvidia
from softtee import nvidia_socket
from softtee.errors import SoftTeeError
from softtee.nvidia_authority import NvidiaAuthority
from softtee.nvidia_socket import Machine, serve

ROOT = Path(__file__).resolve().parents[3]
NONCE = bytes(range(32))
NOW = datetime.now(timezone.utc).replace(microsecond=0)
# Offset of MEASUREMENT in an SEV-SNP report.
MEASUREMENT = slice(0x90, 0xC0)
EVERY = [("gpu", "hopper"), ("gpu", "blackwell"), ("switch", "ls10")]


def verify(authority, device, report, chain=None, at=NOW, **ocsp):
    roots = [trust_roots([authority.roots_pem()], True, kind=kind) for kind in (NVIDIA_DEVICE, NVIDIA_RIM)]
    answers = authority.ocsp(at, [device], **ocsp)
    return verify_nvidia(device.kind, report, chain or device.chain_pem, authority.rims(), answers, roots[0], roots[1], at, NONCE)


@pytest.mark.parametrize("kind, arch", EVERY)
@pytest.mark.parametrize("versioned", [False, True])
def test_every_device_is_taken_for_genuine_under_its_root(authority, kind, arch, versioned):
    device = authority.device(kind, arch, 0)
    found = verify(authority, device, authority.report(device, NONCE, versioned=versioned))
    assert found.authentic is True and found.failed == () and found.anchor == "nonvendor" and found.claims.secure_boot is True
    assert found.claims.device == device.identity and found.claims.pdi == device.pdi


@pytest.mark.parametrize("kind, arch", EVERY)
@pytest.mark.parametrize(
    "spoilt, code",
    [
        ({"wrong_nonce": True}, "nonce-mismatch"),
        ({"debug": True}, "measurement-mismatch"),
        ({"secure_boot": False}, "measurement-mismatch"),
        ({"wrong_measurement": True}, "measurement-mismatch"),
        ({"bad_signature": True}, "report-signature"),
    ],
)
def test_every_misbehaviour_is_noticed(authority, kind, arch, spoilt, code):
    device = authority.device(kind, arch, 0)
    assert verify(authority, device, authority.report(device, NONCE, **spoilt)).failed == (code,)


def test_misbehaviour_of_certificates(authority):
    device, other = authority.device("gpu", "hopper", 0), authority.device("gpu", "hopper", 0, foreign=True)
    report = authority.report(device, NONCE)
    assert "report-signature" in verify(authority, device, report, other.chain_pem).failed
    assert verify(authority, device, report, hold=[device]).failed == ("device-on-hold",)
    revoked = verify(authority, device, report, revoked=[device])
    assert "device-revoked" in revoked.failed and revoked.authentic is False
    debug = authority.device("gpu", "blackwell", 0, debug=True)
    assert verify(authority, debug, authority.report(debug, NONCE)).failed == ("debug-state",)


def test_responses_last_a_day(authority):
    device = authority.device("gpu", "hopper", 0)
    roots = [trust_roots([authority.roots_pem()], True, kind=kind) for kind in (NVIDIA_DEVICE, NVIDIA_RIM)]
    old = authority.ocsp(NOW - timedelta(days=2), [device])
    found = verify_nvidia("gpu", authority.report(device, NONCE), device.chain_pem, authority.rims(), old, roots[0], roots[1], NOW, NONCE)
    assert {check.id for check in found.checks if check.outcome == "not_checked"} >= {"device-revocation-unknown", "driver-rim-revocation-unknown"}


def test_devices_last_in_a_directory(tmp_path):
    first, second = (NvidiaAuthority.create(tmp_path / "nvidia").device("gpu", "hopper", 0) for _time in range(2))
    assert first.chain_pem == second.chain_pem and first.uuid == second.uuid
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "nvidia").iterdir())
    assert NvidiaAuthority.create(tmp_path / "nvidia").roots_pem() != NvidiaAuthority.create(None).roots_pem()


def test_what_is_not_made(authority):
    for kind, arch in (("gpu", "ls10"), ("switch", "hopper"), ("gpu", "ampere"), ("cpu", "hopper")):
        with pytest.raises(SoftTeeError):
            authority.device(kind, arch, 0)
    with pytest.raises(SoftTeeError):
        authority.report(authority.device("gpu", "hopper", 0), b"short")


@pytest.mark.parametrize(
    "question", ["", "gpu", "report 0", "report 0 zz", "report 1 " + "00" * 32, "report -1 " + "00" * 32, "uuid", "uuid x", "switch-report 0 " + "00" * 32]
)
def test_questions_that_make_no_sense(authority, question):
    machine = Machine(authority)
    try:
        status, data = machine.answer(question)
    except ValueError:
        return
    assert status == 2 and data == b""


class System:
    """A soft machine with an SEV-SNP processor behind FUSE and GPUs behind the stub."""

    def __init__(self, directory: Path) -> None:
        self.state, self.mount = directory / "s", directory / "m"
        self.mount.mkdir()
        self.tsm = str(self.mount / "report")
        self.authority = NvidiaAuthority.create(directory / "n")
        self.behaviour = "none"
        self.serving = serve(directory / "l", Machine(self.authority, "hopper", 2), lambda: self.behaviour)
        self.run("serve", "--mount", str(self.mount), "--product", "genoa", "--daemon")
        self.ark = self.run("roots")

    def run(self, *arguments: str) -> str:
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / "tools" / "softtee"), *sys.path]))
        command = [sys.executable, "-m", "softtee", arguments[0], "--state", str(self.state), *arguments[1:]]
        return subprocess.run(command, env=environment, check=True, timeout=120, stdout=subprocess.PIPE, text=True).stdout

    def become(self, **machine) -> Machine:
        self.behaviour = "none"
        self.serving.server.machine = Machine(self.authority, **{"arch": "hopper", "gpus": 2, **machine})
        return self.serving.server.machine

    def collect(self, **arguments):
        given = {"nonce": base64.b64encode(NONCE).decode(), "tsm_path": self.tsm, "gpus": "required", "nvml_library": str(self.serving.nvml),
                 "nscq_library": str(self.serving.nscq), **arguments}  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(ROOT / "plugins" / "modules" / "tee_evidence.py")], input=json.dumps({"ANSIBLE_MODULE_ARGS": given}), text=True, check=False,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)), stdout=subprocess.PIPE, timeout=120,
        )  # fmt: skip
        return json.loads(done.stdout)

    def policy(self, nvidia=None, **top):
        return load_policy({
            "schema": "attested.ai/policy/1", "id": "soft", "allow_nonvendor_roots": True, "roots": self.roots(), "require": {"cpu": 1, "gpu": 1},
            "chain_of_trust": {"waiver": "soft"}, "sev_snp": {"min_tcb": {}, "min_launch_tcb": {}}, "nvidia": nvidia or {}, **top,
        })  # fmt: skip

    def roots(self):
        texts = (self.ark + self.authority.roots_pem()).split("-----END CERTIFICATE-----\n")
        return [text + "-----END CERTIFICATE-----\n" for text in texts if text.strip()]

    @staticmethod
    def reference_values(evidence):
        """What the guest measures counts as good here: this is about devices."""
        report = base64.b64decode(evidence["items"][0]["evidence"])
        value = {
            "tee": "sev-snp",
            "measurement": report[MEASUREMENT].hex(),
            "covers": "launch",
            "image": "soft",
            "source": "this test",
            "not_after": "2099-01-01T00:00:00Z",
        }
        return load_reference_values({"schema": "attested.ai/reference-values/1", "values": [value]})

    def appraise(self, evidence, nvidia=None, hold=(), **top):
        machine = self.serving.server.machine
        devices = machine.devices() + [machine.gpu(index, foreign=True) for index in range(machine.gpus)]
        endorsements = Endorsements(rims=tuple(self.authority.rims()), ocsp=tuple(self.authority.ocsp(NOW, devices, hold=hold)))
        return appraise(
            EvidenceDocument.parse(evidence), policy=self.policy(nvidia, **top), reference_values=self.reference_values(evidence),
            endorsements=endorsements, expected_nonce=NONCE, at=datetime.now(timezone.utc), connection=None, cache=VerificationCache(),
        )  # fmt: skip


@pytest.fixture(scope="module")
def running():
    pytest.importorskip("mfusepy")
    pytest.importorskip("ansible")
    if not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None or shutil.which("cc") is None:
        pytest.skip("no FUSE or no C compiler here")
    with tempfile.TemporaryDirectory() as directory:
        system = System(Path(directory))
        yield system
        system.run("stop")
        system.serving.stop()


@pytest.fixture
def system(running):
    running.become()
    return running


def failures(result):
    found = {check.id for check in result.checks if check.outcome == "fail"}
    return found.union(*({check.id for check in item.failures} for item in result.items.values()))


@pytest.mark.parametrize("machine", [{}, {"arch": "blackwell", "mode": "mpt"}, {"gpus": 8, "switches": 4, "mode": "ppcie"}])
def test_a_whole_system_is_accepted(system, machine):
    made = system.become(**machine)
    answer = system.collect()
    assert [one["type"] for one in answer["devices"]] == ["nvidia-gpu"] * made.gpus + ["nvidia-switch"] * made.switches
    assert answer["evidence"]["items"][0]["type"] == "sev-snp"
    result = system.appraise(answer["evidence"], require={"cpu": 1, "gpu": made.gpus, "switch": made.switches})
    assert failures(result) == set() and result.accepted


def test_evidence_for_a_kbs(system):
    from cryptography.hazmat.primitives.asymmetric import ec

    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode() for value in (numbers.x, numbers.y))
    answer = system.collect(profile="kbs", tee_pubkey={"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": x, "y": y})
    assert failures(system.appraise(answer["evidence"])) == set()


@pytest.mark.parametrize(
    "behaviour, code",
    [
        ("gpu-wrong-nonce", "nonce-mismatch"),
        ("gpu-debug", "measurement-mismatch"),
        ("gpu-insecure-boot", "measurement-mismatch"),
        ("gpu-wrong-measurement", "measurement-mismatch"),
        ("gpu-bad-signature", "report-signature"),
        ("gpu-foreign-chain", "report-signature"),
    ],
)
def test_every_misbehaviour_refuses_the_guest(system, behaviour, code):
    system.behaviour = behaviour
    result = system.appraise(system.collect()["evidence"])
    assert not result.accepted and code in failures(result)


@pytest.mark.parametrize("behaviour, code", [("gpu-cc-off", "gpu-cc-off"), ("gpu-lost", "gpu-lost")])
def test_what_cannot_be_collected(system, behaviour, code):
    system.behaviour = behaviour
    answer = system.collect()
    assert answer["failed"] and answer["code"] == code
    assert os.listdir(system.tsm) == []


def test_what_only_a_policy_can_tell(system):
    """An old VBIOS and a relayed GPU are genuine in themselves."""
    machine = system.become(gpus=1)
    system.behaviour = "gpu-old-vbios"
    old = system.collect()["evidence"]
    assert system.appraise(old).accepted
    assert "policy-vbios-floor" in failures(system.appraise(old, {"min_vbios": {"GH100": "96.00.9F.00.00"}}))
    system.behaviour = "gpu-foreign"
    relayed = system.collect()["evidence"]
    own = {"devices": {"allow": [machine.gpu(0).identity]}}
    assert system.appraise(relayed).accepted and "device-not-allowed" in failures(system.appraise(relayed, own))
    system.behaviour = "none"
    assert system.appraise(system.collect()["evidence"], own).accepted


def test_a_certificate_on_hold(system):
    machine = system.become(gpus=1)
    assert "device-on-hold" in failures(system.appraise(system.collect()["evidence"], hold=[machine.gpu(0)]))


def test_devices_cannot_be_exchanged_after_the_cpu_has_vouched(system):
    """Evidence of another GPU over the same nonce, put into the document on its way."""
    first, second = system.collect()["evidence"], system.collect()["evidence"]
    first["items"][1] = second["items"][1]
    assert "report-data-mismatch" in failures(system.appraise(first))
    second["items"].pop()
    assert "report-data-mismatch" in failures(system.appraise(second))


def test_auto_without_confidential_gpus_is_left_to_the_policy(system):
    system.behaviour = "gpu-cc-off"
    answer = system.collect(gpus="auto")
    assert answer["devices"] == [] and "required-evidence" in failures(system.appraise(answer["evidence"]))
    assert system.appraise(answer["evidence"], require={"cpu": 1}).accepted


def test_behaviours_are_those_that_are_tested():
    tested = {"none", "gpu-wrong-nonce", "gpu-debug", "gpu-insecure-boot", "gpu-wrong-measurement", "gpu-bad-signature", "gpu-foreign-chain", "gpu-cc-off",
              "gpu-lost", "gpu-old-vbios", "gpu-foreign"}  # fmt: skip
    assert set(nvidia_socket.BEHAVIOURS) == tested
