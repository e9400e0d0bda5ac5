# SPDX-License-Identifier: GPL-3.0-or-later
"""Collection over a real TPM 2.0 (swtpm), a paravisor in software and a loopback metadata service: collect, verify, appraise."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading

import pytest
import soft_azure
from cloud_lab import AT, NONCE
from soft_azure import SoftGuest, SoftImds, thim
from softtee.snp_authority import pem

from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import Endorsements, appraise, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues, load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats import tpm2
from ansible_collections.attested.ai.plugins.module_utils.formats.azure_evidence import parse_azure_evidence
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.target import azure_imds, azure_vtpm
from ansible_collections.attested.ai.plugins.module_utils.target.azure_imds import CERTIFICATION, TD_QUOTE, Imds
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Interfaces, Request, collect_all
from ansible_collections.attested.ai.plugins.module_utils.target.tpm import Device, Tpm
from ansible_collections.attested.ai.plugins.module_utils.verify.azure_vtpm import verify_az_snp

needs_swtpm = pytest.mark.skipif(not soft_azure.AVAILABLE, reason="swtpm is not installed")


def no_sleep(_seconds):
    pass


@pytest.fixture(scope="module")
def guest(azure):
    found = SoftGuest(azure)
    yield found
    found.close()


@pytest.fixture
def imds(azure):
    service = SoftImds({CERTIFICATION: thim(pem(azure.vcek))})
    yield service
    service.close()


def collect(transport, imds, **keys):
    return azure_vtpm.collect(keys.pop("report_data", NONCE), transport, base_url=imds.url, sleep=no_sleep, **keys)


@needs_swtpm
def test_collect_verify_appraise(azure, guest, imds, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    item = collect(guest, imds)
    assert item.type == "az-snp-vtpm" and item.provider == "azure-vtpm" and not item.auxiliary
    assert parse_azure_evidence(item.evidence, item.type).version == 2
    method, path, headers, body = imds.requests[-1]
    assert (method, path, headers["Metadata"], body) == ("GET", CERTIFICATION, "true", b"")
    verified = verify_az_snp(item.evidence, azure.path, azure.roots, AT, NONCE)
    assert verified.failed == () and verified.authentic is True
    assert verified.claims.to_dict()["hardware_report"] == "fresh"
    seen = verified.claims.to_dict()["tpm"]["pcrs"]
    assert seen["4"] != "00" * 32 and len(seen) == 24
    policy = load_policy({
        "schema": "attested.ai/policy/1", "id": "azure", "allow_nonvendor_roots": True, "roots": azure.roots_pem,
        "sev_snp": {"min_tcb": {}, "min_launch_tcb": {}}, "azure": {"require_fresh_hardware_report": True},
    })  # fmt: skip
    value = {"tee": "az-snp-vtpm", "measurement": "33" * 48, "pcrs": {name: seen[name] for name in ("4", "7", "11")}, "covers": "service",
             "image": "guest", "source": "us", "not_after": "2027-01-01T00:00:00Z"}
    values = load_reference_values({"schema": "attested.ai/reference-values/1", "values": [value]})
    result = appraise_report(item.evidence, policy=policy, reference_values=values, endorsements=Endorsements(certificates=azure.path),
                             expected_report_data=NONCE, at=AT, tee=item.type)
    assert result.accepted, result.explain()
    assert result.items["cpu0"].reaches == "service"
    other = appraise_report(item.evidence, policy=policy, reference_values=ReferenceValues(), endorsements=Endorsements(certificates=azure.path),
                            expected_report_data=NONCE[::-1], at=AT, tee=item.type)
    assert {"report-data-mismatch", "pcr-mismatch", "measurement-mismatch"} <= {check.id for check in other.reasons}


@needs_swtpm
def test_an_old_hardware_report_where_the_paravisor_makes_no_new_one(azure, imds):
    guest = SoftGuest(azure, watch=False)
    try:
        for keys in ({}, {"fresh": False}):
            item = collect(guest, imds, **keys)
            assert parse_azure_evidence(item.evidence, item.type).version == 1
            result = verify_az_snp(item.evidence, azure.path, azure.roots, AT, NONCE)
            assert result.authentic is True and result.claims.to_dict()["hardware_report"] == "boot-time"
    finally:
        guest.close()


@needs_swtpm
@pytest.mark.parametrize(("ak", "name"), [({"ecc": True}, "ecdsa-sha256"), ({"scheme": tpm2.ALG_RSAPSS}, "rsapss-sha256")])
def test_keys_of_other_schemes(azure, imds, ak, name):
    guest = SoftGuest(azure, **ak)
    try:
        item = collect(guest, imds, report_data=bytes(range(64)))
        result = verify_az_snp(item.evidence, azure.path, azure.roots, AT, bytes(range(64)))
    except CollectError as error:
        # libtpms takes challenges of up to 50 bytes where SHA-384 is its longest hash.
        assert "0x1d5" in str(error)
        item = collect(guest, imds)
        result = verify_az_snp(item.evidence, azure.path, azure.roots, AT, NONCE)
    finally:
        guest.close()
    assert result.failed == () and result.claims.algorithm == name


@needs_swtpm
def test_a_key_that_the_report_does_not_name_or_that_signs_anything(azure, imds):
    guest = SoftGuest(azure, restricted=False)
    try:
        with pytest.raises(CollectError) as caught:
            collect(guest, imds)
        assert caught.value.code == "ak-mismatch" and "restricted" in str(caught.value)
        guest.provisioning.write_report(azure.hcl(size=soft_azure.HCL_SIZE), define=False)
        guest.watch = False
        with pytest.raises(CollectError) as caught:
            collect(guest, imds)
        assert caught.value.code == "ak-mismatch" and "HCL report names" in str(caught.value)
    finally:
        guest.close()


@needs_swtpm
def test_a_tpm_without_a_report(imds):
    tpm = soft_azure.SoftTpm()
    try:
        with pytest.raises(CollectError) as caught:
            collect(tpm, imds)
        assert caught.value.code == "not-a-tee"
        soft_azure.Provisioning(tpm).write_report(b"\xff" * 1500)
        with pytest.raises(CollectError) as caught:
            collect(tpm, imds)
        assert caught.value.code == "hcl-format"
    finally:
        tpm.close()


@needs_swtpm
def test_a_tpm_without_an_attestation_key(azure, imds):
    tpm = soft_azure.SoftTpm()
    try:
        soft_azure.Provisioning(tpm).write_report(azure.hcl(size=soft_azure.HCL_SIZE))
        with pytest.raises(CollectError) as caught:
            collect(tpm, imds, fresh=False)
        assert caught.value.code == "not-a-tee" and "attestation key" in str(caught.value)
    finally:
        tpm.close()


@needs_swtpm
def test_user_data_of_another_size_is_made_anew(azure):
    tpm = soft_azure.SoftTpm()
    try:
        commands = Tpm(tpm, no_sleep)
        for size in (48, 64, 64):
            commands.nv_write(azure_vtpm.USER_DATA_INDEX, b"\x07" * size)
            assert commands.nv_read(azure_vtpm.USER_DATA_INDEX) == b"\x07" * size
        with pytest.raises(CollectError) as caught:
            commands.nv_read(0x01400099)
        assert caught.value.code == "tpm-absent"
    finally:
        tpm.close()


@needs_swtpm
def test_pcrs_that_change_while_they_are_quoted(azure, imds, guest):
    changes = []

    def extending(command):
        if int.from_bytes(command[6:10], "big") == 0x17E and len(changes) < 2:
            changes.append(1)
            guest.provisioning.extend(16, os.urandom(32))
        return guest(command)

    item = collect(extending, imds)
    assert len(changes) == 2 and verify_az_snp(item.evidence, azure.path, azure.roots, AT, NONCE).failed == ()

    def restless(command):
        if int.from_bytes(command[6:10], "big") == 0x158:
            response = guest(command)
            guest.provisioning.extend(16, os.urandom(32))
            return response
        return guest(command)

    with pytest.raises(CollectError) as caught:
        collect(restless, imds)
    assert caught.value.code == "provider-busy"


@needs_swtpm
def test_no_byte_of_a_response_may_be_wrong_in_silence(azure, guest):
    """Every response cut short, lengthened, and changed in every byte of its head: our exceptions, or evidence that is refused or the same."""

    class Service:
        @staticmethod
        def vcek():
            return azure.vcek

    def gather(transport):
        return azure_vtpm.collect(NONCE, transport, Service(), sleep=no_sleep).evidence

    guest.tpm.seen.clear()
    evidence = gather(guest)
    recorded = list(guest.tpm.seen)
    refused = kept = 0
    for index, (_command, genuine) in enumerate(recorded):
        variants = [genuine[:-1], genuine + b"\0", b"", genuine[:9]]
        variants += [genuine[:place] + bytes([genuine[place] ^ 1 << bit]) + genuine[place + 1:] for place in range(min(len(genuine), 16)) for bit in (0, 7)]
        for variant in variants:
            answers = iter([variant if place == index else response for place, (_request, response) in enumerate(recorded)])

            def replay(_command, answers=answers):
                found = next(answers, None)
                if found is None:  # it asks once more than the record has answers for
                    raise CollectError("silence")
                return found

            try:
                found = gather(replay)
            except CollectError:
                refused += 1
                continue
            kept += 1
            assert found == evidence or verify_az_snp(found, azure.path, azure.roots, AT, NONCE).failed
    assert refused > 500 and kept < refused / 10


def test_a_busy_tpm_is_asked_again():
    busy = struct.pack(">HII", 0x8001, 10, 0x922)
    public = struct.pack(">IHIHH", 0x01400001, 0x0B, 0, 0, 8)
    body = struct.pack(">H", len(public)) + public + struct.pack(">H", 34) + b"\0\x0b" + bytes(32)
    answers = [busy, busy, struct.pack(">HII", 0x8001, 10 + len(body), 0) + body]
    waits = []
    assert Tpm(lambda _command: answers.pop(0), waits.append).nv_public(0x01400001).size == 8
    assert len(waits) == 2
    with pytest.raises(CollectError) as caught:
        Tpm(lambda _command: busy, no_sleep).nv_public(0x01400001)
    assert caught.value.code == "tpm-error" and "0x922" in str(caught.value)


def test_the_device(tmp_path):
    with pytest.raises(CollectError) as caught:
        Device(str(tmp_path / "none"))
    assert caught.value.code == "no-tpm"
    # A pair of sockets stands for a device: select and read behave alike.
    ours, theirs = socket.socketpair()
    device = Device(os.devnull)
    os.dup2(ours.fileno(), device._fd)
    answer = struct.pack(">HII", 0x8001, 10, 0x18B)
    threading.Thread(target=lambda: (theirs.recv(100), theirs.sendall(answer))).start()
    with device:
        assert device(b"command") == answer
        device._timeout = 0.05
        with pytest.raises(CollectError) as caught:
            device(b"command")
        assert caught.value.code == "provider-timeout"
        theirs.close()
        with pytest.raises(CollectError) as caught:
            device(b"command")
            device(b"command")
        assert caught.value.code == "provider-error"
    with pytest.raises(CollectError) as caught:
        azure_vtpm.collect(NONCE, device=str(tmp_path / "none"))
    assert caught.value.code == "no-tpm"


def test_report_data_has_64_bytes():
    with pytest.raises(CollectError):
        azure_vtpm.collect(b"short")


# The metadata service.


def answer(body, status=200, **headers):
    return status, headers, body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.mark.parametrize("response", [
    answer({}), answer({"vcekCert": 5}), answer({"vcekCert": "nothing"}), answer(b"nonsense"), answer(b"[]"), answer({}, 404), answer({}, 500),
    answer({}, 302, Location="http://127.0.0.1:1/"), answer(b'{"a":1,"a":2}'), answer(b"x" * 300000),
], ids=["none", "number", "no-pem", "no-json", "list", "404", "500", "redirect", "twice", "huge"])  # fmt: skip
def test_answers_that_are_none(response):
    service = SoftImds({CERTIFICATION: response})
    try:
        with pytest.raises(CollectError) as caught:
            Imds(service.url).vcek()
        assert caught.value.code == "imds" and service.url in str(caught.value)
    finally:
        service.close()


def test_a_certificate_and_no_more(azure):
    service = SoftImds({CERTIFICATION: thim(pem(azure.vcek) * 2)})
    try:
        with pytest.raises(CollectError):
            Imds(service.url).vcek()
    finally:
        service.close()


@pytest.mark.parametrize("text", ["AQID", "AQI=", "AQI"])
def test_td_quotes(text):
    service = SoftImds({TD_QUOTE: answer({"quote": text})})
    try:
        assert Imds(service.url).td_quote(bytes(1024)) == (b"\1\2\3" if text == "AQID" else b"\1\2")
        method, path, headers, body = service.requests[0]
        assert (method, path, headers["Metadata"]) == ("POST", TD_QUOTE, "true") and headers["Content-Type"] == "application/json"
        assert json.loads(body) == {"report": "A" * 1366}
    finally:
        service.close()


@pytest.mark.parametrize("quote", [None, 5, "", "+++", "A" * 70000])
def test_td_quotes_that_are_none(quote):
    service = SoftImds({TD_QUOTE: answer({"quote": quote})})
    try:
        with pytest.raises(AttestedError) as caught:
            Imds(service.url).td_quote(bytes(1024))
        assert caught.value.code == "imds"
    finally:
        service.close()


def test_nobody_there():
    with pytest.raises(CollectError) as caught:
        Imds("http://127.0.0.1:1", timeout=1).vcek()
    assert caught.value.code == "imds" and azure_imds.DEFAULT_BASE_URL == "http://169.254.169.254"


@needs_swtpm
def test_a_whole_document(azure, guest, imds):
    """The module's way: nonce and binding in, a document out, appraised against the verifier's own nonce."""
    nonce = os.urandom(32)
    request = Request(nonce=base64.b64encode(nonce).decode(), method="azure")
    interfaces = Interfaces(azure=lambda data, device: azure_vtpm.collect(data, guest, base_url=imds.url, device=device, sleep=no_sleep))
    document = EvidenceDocument.from_json(json.dumps(collect_all(request, interfaces).document.to_dict()))
    assert document.items[0].type == "az-snp-vtpm" and document.observations["collected_with"] == "azure-vtpm"
    policy = load_policy({
        "schema": "attested.ai/policy/1", "id": "azure", "allow_nonvendor_roots": True, "roots": azure.roots_pem, "measurements_required": False,
        "sev_snp": {"min_tcb": {}, "min_launch_tcb": {}},
    })  # fmt: skip

    def judge(expected):
        return appraise(document, policy=policy, reference_values=ReferenceValues(), endorsements=Endorsements(certificates=azure.path),
                        expected_nonce=expected, at=AT, connection=None)

    assert judge(nonce).accepted, judge(nonce).explain()
    assert "report-data-mismatch" in {check.id for check in judge(os.urandom(32)).reasons}
