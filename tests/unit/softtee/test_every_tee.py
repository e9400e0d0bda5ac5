# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

"""TDX, CCA and GPUs behind real mounts and a real library: the collection's collector, then its appraisal with what the soft TEE prints."""

import base64
import errno
import importlib.util
import json
import os
import shutil
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

appraise = pytest.importorskip("ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise")
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import trust_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.target import collect
from ansible_collections.attested.ai.plugins.module_utils.verify.eventlog import check_eventlog
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import verify_tdx
from conftest import can_mount, seeded
from softtee_kit import Soft, write

PACKAGE = "ansible_collections.attested.ai.plugins.module_utils.appraisal"
MEMBERS = {"tdx.json": "tdx", "cca.json": "cca", "cca-other.json": "cca", "ark.crl": "crls"}
# What must be among the failed checks; None where no check can notice, for the evidence is that of a good machine.
REFUSED = {
    "tdx": {
        "debug": "policy-debug", "wrong-measurement": "measurement-mismatch", "old-tcb": "tcb-out-of-date", "old-module": "tcb-out-of-date",
        "replay": "report-data-mismatch", "bad-signature": "quote-signature", "other-machine": None,
    },
    "cca": {
        "debug": "lifecycle", "wrong-measurement": "measurement-mismatch", "old-tcb": "platform-reference-values",
        "replay": "report-data-mismatch", "bad-signature": "realm-signature", "other-machine": None,
    },
    "gpu": {
        "gpu-wrong-nonce": "nonce-mismatch", "gpu-debug": "measurement-mismatch", "gpu-wrong-measurement": "measurement-mismatch",
        "gpu-bad-signature": "report-signature", "gpu-foreign-chain": "report-signature", "gpu-insecure-boot": "measurement-mismatch",
    },
}  # fmt: skip
NOT_COLLECTED = {"torn": "torn-read", "stale-generation": "torn-read", "empty": "empty-report", "no-provider": "not-a-tee"}
PROVIDERS = {"tdx": "tdx_guest", "cca": "arm_cca_guest"}


class Guest(Soft):
    """A running soft TEE with all that its relying party has."""

    def __init__(self, base, *words, seed=None):
        super().__init__(base)
        if seed is not None:
            seeded(self, seed)
        self.serve(*words)
        self.told = json.loads(self.run("status").stdout)
        self.policy = load_policy(yaml.safe_load(self.run("policy").stdout))
        self.references = load_reference_values(json.loads(self.run("reference-values").stdout))
        paths = [Path(line) for line in self.run("collateral", "--output", str(base / "collateral")).stdout.splitlines()]
        found = {}
        for path in paths:
            member = MEMBERS.get(path.name) or {".xml": "rims", ".der": "ocsp"}[path.suffix]
            found.setdefault(member, []).append(path.read_bytes())
        self.endorsements = Endorsements(**{member: tuple(pieces) for member, pieces in found.items()})

    def collect(self, nonce, gpus="auto"):
        options = {"nvml_library": self.told["nvml"], "gpus": gpus} if self.told.get("nvml") else {}
        options["event_log_path"] = self.told.get("event_log", "/nonexistent/CCEL")
        return collect.collect_all(collect.Request(nonce=base64.b64encode(nonce).decode(), tsm_path=str(self.tsm), method="configfs", **options)).document

    def judge(self, **options):
        nonce = os.urandom(32)
        return appraise.appraise(
            self.collect(nonce, **options), policy=self.policy, reference_values=self.references, endorsements=self.endorsements,
            expected_nonce=nonce, at=datetime.now(timezone.utc), connection=None,
        ).to_dict()  # fmt: skip


def failed(told):
    checks = [*told["checks"], *(check for item in told["submods"].values() for check in item["checks"])]
    return {check["id"] for check in checks if check["outcome"] == "fail"}


@pytest.fixture(scope="module")
def guests(seed):
    reason = can_mount()
    if reason:
        pytest.skip("no FUSE here: " + reason)
    running = {}
    # Not below pytest's own directory: the path of a Unix socket is short.
    with tempfile.TemporaryDirectory() as directory:

        def guest(name):
            if name not in running:
                base = Path(directory) / name
                base.mkdir()
                if name == "gpu" and shutil.which("cc") is None:
                    pytest.skip("no C compiler here")
                words = {"tdx": ("--tee", "tdx"), "tdx5": ("--tee", "tdx", "--quote", "5"), "cca": ("--tee", "cca"), "gpu": ("--gpus", "2")}[name]
                running[name] = Guest(base, *words, seed=seed if name == "gpu" else None)
            running[name].misbehave("none")
            return running[name]

        yield guest
        for one in running.values():
            one.run("stop")


def judged(name):
    module = {"tdx": "tdx", "tdx5": "tdx", "cca": "cca", "gpu": "nvidia"}[name]
    if importlib.util.find_spec("%s.%s" % (PACKAGE, module)) is None:
        pytest.skip("this tree does not judge %s" % name)


@pytest.mark.parametrize("name", ["tdx", "tdx5", "cca", "gpu"])
def test_a_guest_that_behaves_is_accepted_and_marked(guests, name):
    judged(name)
    told = guests(name).judge()
    assert told["accepted"] is True, told["reasons"]
    assert told["authentic"] is True and told["anchor"] == "nonvendor" and told["chain_of_trust"]["waived"] is True
    assert sorted(told["submods"]) == (["cpu0", "gpu0", "gpu1"] if name == "gpu" else ["cpu0"])


@pytest.mark.parametrize("name,behaviour", [(name, behaviour) for name, found in REFUSED.items() for behaviour in found])
def test_each_misbehaviour_is_refused_for_its_own_reason(guests, name, behaviour):
    judged(name)
    guest = guests(name)
    guest.run("misbehave", behaviour)
    told = guest.judge()
    code = REFUSED[name][behaviour]
    if code is None:
        assert told["accepted"] is True, told["reasons"]
    else:
        assert told["accepted"] is False and code in failed(told), told["reasons"]


@pytest.mark.parametrize("name", ["tdx", "cca"])
@pytest.mark.parametrize("behaviour", sorted(NOT_COLLECTED))
def test_the_collector_notices(guests, name, behaviour):
    guest = guests(name)
    guest.misbehave(behaviour)
    with pytest.raises(CollectError) as caught:
        guest.collect(os.urandom(32))
    assert caught.value.code == NOT_COLLECTED[behaviour]
    assert list(guest.tsm.iterdir()) == [], "no entry is left"


@pytest.mark.parametrize("name", ["tdx", "cca"])
def test_the_collector_outlasts_a_busy_provider(guests, name):
    guest = guests(name)
    guest.misbehave("busy", 2)
    assert guest.collect(os.urandom(32)).items[0].type == name


@pytest.mark.parametrize("name", ["tdx", "cca"])
def test_the_drivers_show_no_more_than_they_do(guests, name):
    guest = guests(name)
    entry = guest.entry("look", bytes(64))
    try:
        assert sorted(path.name for path in entry.iterdir()) == ["generation", "inblob", "outblob", "provider"]
        assert (entry / "provider").read_text() == PROVIDERS[name] + "\n"
        assert not (entry / "auxblob").exists()
        for size in (31, 32, 63, 64):
            write(entry / "inblob", bytes(size))
            if size >= (64 if name == "tdx" else 32):
                assert (entry / "outblob").read_bytes()
                continue
            with pytest.raises(OSError) as caught:
                (entry / "outblob").read_bytes()
            assert caught.value.errno == errno.EINVAL
    finally:
        entry.rmdir()


def test_machines_do_only_what_they_can(guests):
    for name, behaviour in (("tdx", "vmpl1"), ("cca", "old-module"), ("tdx", "gpu-debug"), ("cca", "foreign-chip")):
        done = guests(name).run("misbehave", behaviour, check=False)
        assert done.returncode == 1 and behaviour in done.stderr
    done = guests("tdx").run("policy", "--product", "milan", check=False)
    assert done.returncode == 1 and "--product" in done.stderr
    assert "collateral" in guests("cca").run("roots", check=False).stderr


def test_gpus_have_no_count(guests):
    done = guests("gpu").run("misbehave", "gpu-debug", "--count", "1", check=False)
    assert done.returncode == 1 and "no count" in done.stderr


def test_cpu_evidence_alone_is_not_enough_for_a_guest_with_gpus(guests):
    judged("gpu")
    told = guests("gpu").judge(gpus="none")
    assert told["accepted"] is False and "required-evidence" in failed(told)


def test_a_misbehaving_gpu_leaves_the_cpu_as_it_is(guests):
    judged("gpu")
    guest = guests("gpu")
    guest.run("misbehave", "gpu-wrong-nonce")
    told = guest.judge()
    assert told["submods"]["cpu0"]["authentic"] is True and "nonce-mismatch" in failed(told)


@pytest.mark.parametrize("name", ["tdx", "tdx5"])
def test_quotes_verify_and_their_log_replays(guests, name):
    guest = guests(name)
    nonce = os.urandom(32)
    document = guest.collect(nonce)
    roots = trust_roots([guest.run("roots").stdout], True, vendor=False, kind="intel")
    data = guest.run("collateral").stdout.encode()
    found = verify_tdx(document.items[0].evidence, [data], roots, datetime.now(timezone.utc), document.expected_report_data(nonce))
    assert found.authentic is True, [check for check in found.checks if check.outcome != "pass"]
    told = found.claims.to_dict()
    assert told["measurement"] == guest.references.values[0].measurement
    rtmrs = [bytes.fromhex(allowed[0]) for _number, allowed in guest.references.values[0].rtmr]
    assert check_eventlog(document.items[0].auxiliary["event-log"], rtmrs).log is not None


@pytest.mark.parametrize("name", ["tdx", "tdx5"])
@pytest.mark.parametrize("behaviour,status", [("none", "UpToDate"), ("old-tcb", "OutOfDate"), ("old-module", "OutOfDate")])
def test_old_platforms_and_modules_show_in_the_status(guests, name, behaviour, status):
    guest = guests(name)
    guest.misbehave(behaviour)
    nonce = os.urandom(32)
    document = guest.collect(nonce)
    roots = trust_roots([guest.run("roots").stdout], True, vendor=False, kind="intel")
    found = verify_tdx(document.items[0].evidence, guest.endorsements.tdx, roots, datetime.now(timezone.utc), document.expected_report_data(nonce))
    assert found.authentic is True and '"%s"' % status in json.dumps(found.claims.to_dict())


def test_dcap_qvl_agrees(guests):
    dcap_qvl = pytest.importorskip("dcap_qvl")
    import time

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    guest = guests("tdx")
    root = x509.load_pem_x509_certificate(guest.run("roots").stdout.encode()).public_bytes(Encoding.DER)
    document = dcap_qvl.QuoteCollateralV3.from_json(guest.run("collateral").stdout)
    for behaviour, status in (("none", "UpToDate"), ("old-tcb", "OutOfDate"), ("old-module", "OutOfDate")):
        guest.misbehave(behaviour)
        quote = guest.collect(os.urandom(32)).items[0].evidence
        assert dcap_qvl.verify_with_root_ca(quote, document, root, int(time.time())).status == status
