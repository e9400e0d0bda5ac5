# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching NVIDIA's collateral: manifests by what a report says it runs, and the revocation status of devices and signers."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import merge_reference_values
from ansible_collections.attested.ai.plugins.module_utils.endorsements import ocsp_service, rim_service
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate
from ansible_collections.attested.ai.plugins.module_utils.formats.nvidia_opaque import parse_opaque
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import parse_spdm_report
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia_chain import build_chain
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
from collateral_lab import Fault, b64, document_of, fetch
from cryptography.x509 import ocsp
from nvidia_lab import AT, DRIVER, VBIOS

AT_TEXT = "2026-11-22T12:00:00Z"
RIM_IDS = [f"NV_GPU_DRIVER_GH100_{DRIVER}", "NV_GPU_VBIOS_G520_0200_885_96009F0001"]


@pytest.fixture
def nvidia(soft_nvidia, services):
    """The services with NVIDIA's routes; the responder's dates are around the time of the tests."""

    driver, firmware = soft_nvidia.gpu_rims()
    rims = {RIM_IDS[0]: driver, RIM_IDS[1]: firmware, "NV_SWITCH_BIOS_5612_0002_890_" + VBIOS["LS_10"].replace(".", ""): soft_nvidia.switch_rim()}
    services.subjects = {}
    services.repeat_nonce = True
    services.status = "good"
    now = AT

    def answer(path, _query, body):
        if path.startswith("/v1/rim/"):
            rim_id = path.rsplit("/", 1)[-1]
            if rim_id not in rims:
                return 404, {"Content-Type": "application/json"}, b"{}"
            data = rims[rim_id]
            found = {"id": rim_id, "rim": b64(data), "sha256": hashlib.sha256(data).hexdigest(), "rim_format": "TCG", "request_id": "1", "last_updated": "x"}
            return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()
        if path == "/ocsp":
            request = ocsp.load_der_ocsp_request(body)
            subject = services.subjects[request.serial_number]
            nonce = next((extension.value.nonce for extension in request.extensions), None) if services.repeat_nonce else None
            data = soft_nvidia.ocsp(subject, status=services.status, nonce=nonce, this=now - timedelta(hours=1), until=now + timedelta(hours=23),
                                    responder=services.responder(subject))
            return 200, {"Content-Type": "application/ocsp-response"}, data
        return None

    services.responder = lambda subject: soft_nvidia.responder(subject.issuer, not_after=now + timedelta(days=30))
    services.routes.insert(0, answer)
    services.rims = rims

    def device(chip="GH100", number=1):
        made = soft_nvidia.device(chip, number)
        for signer in [*made.chain[1:4], *soft_nvidia.rim_signer.path()[:-1]]:
            services.subjects[signer.certificate.serial_number] = signer
        return made

    services.device = device
    return services


def item(kind, device, report):
    return {"type": kind, "provider": "hopper", "evidence": b64(report), "auxiliary": {"certificates": b64(device.pem)}}


def policy(lab, soft_nvidia):
    base = lab.policy()
    return {**base, "roots": base["roots"] + soft_nvidia.pem}


def run(nvidia, lab, soft_nvidia, store, *items, **options):
    return fetch(nvidia, store, [document_of(*items)], policy=policy(lab, soft_nvidia), at=AT_TEXT, **options)


def test_a_gpu_gets_its_manifests_and_statuses(lab, soft_nvidia, nvidia, store_path):
    device = nvidia.device()
    report = soft_nvidia.gpu_report(device)
    result = run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, report))
    assert result["complete"], result["msg"]
    paths = [entry["path"] for entry in result["pieces"]]
    assert [f"nvidia/rim/{rim_id}.xml" for rim_id in RIM_IDS] == [path for path in paths if "/rim/" in path]
    assert sum("/ocsp/" in path for path in paths) == 6
    found = load([store_path])
    assert set(found.rims) == {nvidia.rims[rim_id] for rim_id in RIM_IDS} and len(found.ocsp) == 6
    again = run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, report))
    assert not again["changed"] and again["requests"] == 0


def test_what_was_fetched_is_what_the_verifier_needs(lab, soft_nvidia, nvidia, store_path):
    device = nvidia.device()
    report = soft_nvidia.gpu_report(device)
    run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, report))
    result = appraise_report(
        report, policy=load_policy(policy(lab, soft_nvidia)), reference_values=merge_reference_values([]), endorsements=load([store_path]),
        expected_report_data=UNCHECKED, at=AT, tee="nvidia-gpu", auxiliary={"certificates": device.pem},
    )  # fmt: skip
    (judged,) = result.items.values()
    assert judged.authentic and not judged.failures, [check.id for check in judged.failures]


def test_a_system_of_many_devices_asks_once_for_each_manifest(lab, soft_nvidia, nvidia, store_path):
    devices = [nvidia.device(number=number) for number in range(3)]
    switch = nvidia.device("LS_10")
    items = [item("nvidia-gpu", device, soft_nvidia.gpu_report(device)) for device in devices]
    items.append({**item("nvidia-switch", switch, soft_nvidia.switch_report(switch)), "provider": "ls10"})
    result = run(nvidia, lab, soft_nvidia, store_path, *items)
    assert result["complete"], result["msg"]
    rims = {path: count for path, count in nvidia.asked.items() if path.startswith("/v1/rim/")}
    assert len(rims) == 3 and set(rims.values()) == {1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda answer, rims: answer.update(sha256="0" * 64),
        lambda answer, rims: answer.update(rim=b64(rims[RIM_IDS[1]])),
        lambda answer, rims: answer.update(rim=b64(rims[RIM_IDS[0]].replace(b"Soft authority", b"Hard authority")), sha256=None),
        lambda answer, rims: answer.update(rim_format="CORIM"),
        lambda answer, rims: answer.update(id=RIM_IDS[1]),
        lambda answer, rims: answer.pop("rim"),
    ],
    ids=["digest", "another version", "changed after signing", "another format", "another id", "none"],
)
def test_a_wrong_manifest_is_refused(lab, soft_nvidia, nvidia, store_path, damage):
    data = nvidia.rims[RIM_IDS[0]]
    answer = {"id": RIM_IDS[0], "rim": b64(data), "sha256": hashlib.sha256(data).hexdigest()}
    damage(answer, nvidia.rims)
    nvidia.faults.append(Fault(RIM_IDS[0], body=json.dumps(answer).encode()))
    result = fetch(nvidia, store_path, rims=[RIM_IDS[0]], policy=policy(lab, soft_nvidia), at=AT_TEXT)
    assert result["failed"] and result["counts"] == {"refused": 1}, result


def test_the_wrong_content_type_is_told(lab, soft_nvidia, nvidia, store_path):
    nvidia.faults.append(Fault(RIM_IDS[0], headers={"Content-Type": "text/html"}, body=b"<html>captive portal</html>"))
    result = fetch(nvidia, store_path, rims=[RIM_IDS[0]], policy=policy(lab, soft_nvidia), at=AT_TEXT)
    assert result["failed"] and "text/html" in result["msg"]


def test_a_manifest_under_another_root_is_refused(lab, nvidia, store_path):
    result = fetch(nvidia, store_path, rims=[RIM_IDS[0]], at=AT_TEXT)
    assert result["counts"] == {"refused": 1}


def test_a_manifest_that_does_not_exist_is_missing(lab, soft_nvidia, nvidia, store_path):
    result = fetch(nvidia, store_path, rims=["NV_GPU_DRIVER_GH100_999.1.2"], policy=policy(lab, soft_nvidia), at=AT_TEXT)
    assert [entry["code"] for entry in result["pieces"]] == ["collateral-not-found"]


@pytest.mark.parametrize("rim_id", ["../../etc/passwd", "NV_GPU_DRIVER/x", "nv_gpu", "NV_" + "A" * 100, "NV_GPU_DRIVER_GH100_1?x=y"])
def test_an_id_that_is_none_is_never_asked_for(lab, nvidia, store_path, rim_id):
    with pytest.raises(AttestedError, match="no id of a manifest"):
        fetch(nvidia, store_path, rims=[rim_id])
    assert not nvidia.asked


def test_the_token_goes_to_the_manifest_service_only(lab, soft_nvidia, tmp_path):
    from collateral_lab import Services

    token = tmp_path / "token"
    token.write_text("sekrit-token\n")
    token.chmod(0o600)
    with Services(lab, tls=True, directory=str(tmp_path)) as services:
        data = soft_nvidia.gpu_rims()[0]
        answer = json.dumps({"id": RIM_IDS[0], "rim": b64(data)}).encode()
        services.routes.insert(0, lambda path, _q, _b: (200, {"Content-Type": "application/json"}, answer) if "/rim/" in path else None)
        result = fetch(services, str(tmp_path / "store"), [lab.document(1)], token=str(token), rims=[RIM_IDS[0]], rim_token_file=str(token),
                       ca_path=services.ca_path, policy=policy(lab, soft_nvidia), at=AT_TEXT, fail_on_problem=False, attempts=1)  # fmt: skip
        carried = {target for _method, target, headers in services.log if headers.get("Authorization") == "Bearer sekrit-token"}
        assert carried == {f"/v1/rim/{RIM_IDS[0]}"} and "sekrit" not in json.dumps(result)


def test_a_token_is_not_sent_in_the_clear(nvidia, store_path):
    with pytest.raises(AttestedError, match="https only"):
        fetch(nvidia, store_path, rims=[RIM_IDS[0]], rim_token_file="/dev/null")


def test_a_revoked_certificate_is_kept_as_such(lab, soft_nvidia, nvidia, store_path):
    """The bad news is what the verifier must see: an answer that says revoked is an answer."""
    nvidia.status = "revoked"
    device = nvidia.device()
    result = run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, soft_nvidia.gpu_report(device)))
    assert result["complete"] and any("revoked" in entry["about"] for entry in result["pieces"])


def test_an_answer_to_another_nonce_is_refused(lab, soft_nvidia, nvidia, store_path):
    device = nvidia.device()
    subject = device.chain[1]
    stale = soft_nvidia.ocsp(subject, nonce=bytes(32), this=AT - timedelta(hours=1), until=AT + timedelta(hours=1), responder=nvidia.responder(subject))
    nvidia.faults.append(Fault("/ocsp", times=99, body=stale))
    result = run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, soft_nvidia.gpu_report(device)))
    assert result["failed"] and "another request (nonce)" in result["msg"]


def test_an_answer_from_a_cache_without_nonce_is_taken(lab, soft_nvidia, nvidia, store_path):
    nvidia.repeat_nonce = False
    device = nvidia.device()
    assert run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, soft_nvidia.gpu_report(device)))["complete"]


def test_an_answer_signed_by_another_is_refused(lab, soft_nvidia, nvidia, store_path):
    from nvidia_lab import NvidiaLab

    attacker = NvidiaLab()
    nvidia.responder = lambda subject: attacker.responder(attacker.device_root)
    device = nvidia.device()
    result = run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, soft_nvidia.gpu_report(device)))
    assert result["failed"] and all(entry["status"] == "refused" for entry in result["pieces"] if entry["kind"] == "ocsp")


def test_without_revocation_no_responder_is_asked(lab, soft_nvidia, nvidia, store_path):
    device = nvidia.device()
    result = run(nvidia, lab, soft_nvidia, store_path, item("nvidia-gpu", device, soft_nvidia.gpu_report(device)), revocation=False)
    assert result["complete"] and not nvidia.asked_for("/ocsp")


def test_the_request_is_the_one_that_others_read(soft_nvidia):
    """cryptography reads what we wrote by hand."""
    device = soft_nvidia.device()
    certificates = [parse_certificate(signer.der) for signer in device.chain]
    wanted = ocsp_service.Wanted(certificates[1], certificates[2])
    request = ocsp.load_der_ocsp_request(ocsp_service.request(wanted, bytes(range(32))))
    built = ocsp.OCSPRequestBuilder().add_certificate(device.chain[1].certificate, device.chain[2].certificate, request.hash_algorithm).build()
    assert request.hash_algorithm.name == "sha1" and request.serial_number == certificates[1].serial
    assert (request.issuer_name_hash, request.issuer_key_hash) == (built.issuer_name_hash, built.issuer_key_hash)
    assert next(iter(request.extensions)).value.nonce == bytes(range(32))


@pytest.mark.parametrize(
    "file, kind, expected",
    [
        ("serialized/hopper_evidence.json", "gpu", "NV_GPU_VBIOS_G520"),
        ("serialized/switch_evidence_ls10.json", "switch", "NV_SWITCH_BIOS_5612_0002_890_"),
    ],
)
def test_ids_from_genuine_reports(vectors, file, kind, expected):
    from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import NVIDIA_DEVICE, load_roots

    data = json.loads((vectors / "nvidia" / "attestation-sdk" / file).read_text())
    entry = data[0]
    chain = build_chain(base64.b64decode(entry["certificate"]), load_roots(None, NVIDIA_DEVICE))
    raw = entry["evidence"]
    report = parse_spdm_report(bytes.fromhex(raw) if all(c in "0123456789abcdefABCDEF" for c in raw) else base64.b64decode(raw))
    ids = rim_service.ids_of(chain.product, parse_opaque(report.opaque, kind))
    assert ids and ids[-1].startswith(expected), ids
    if kind == "gpu":
        assert ids[0].startswith("NV_GPU_DRIVER_GH100_")


def test_genuine_manifests_prove_themselves(vectors, services, store_path):
    """A genuine switch manifest, served by a fake service, is accepted under NVIDIA's own root."""
    name = "NV_SWITCH_BIOS_5612_0002_890_9610550001"
    data = (vectors / "nvidia" / "attestation-sdk" / "rims" / f"switchVBIOSRim_{name}.xml").read_bytes()
    answer = json.dumps({"id": name, "rim": b64(data), "sha256": hashlib.sha256(data).hexdigest(), "rim_format": "TCG"}).encode()
    services.routes.insert(0, lambda path, _q, _b: (200, {"Content-Type": "application/json"}, answer) if "/rim/" in path else None)
    result = fetch(services, store_path, rims=[name], at=AT_TEXT, revocation=False, policy=None)
    assert result["complete"] and result["pieces"][0]["expires_at"] == "2027-11-02T23:59:59Z", result
    assert load([store_path]).rims == (data,)


def test_the_lab_agrees_on_the_date():
    assert AT.strftime("%Y-%m-%dT%H:%M:%SZ") == AT_TEXT
