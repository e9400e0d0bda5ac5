# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching Intel's collateral: exact bytes, chains in headers, PCS and PCCS, views and numbers; what was fetched is judged with genuine quotes."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from urllib.parse import parse_qs, quote

import pytest
from ansible_collections.attested.ai.plugins.module_utils.endorsements import pcs
from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Response
from ansible_collections.attested.ai.plugins.module_utils.endorsements.proofs import tdx_prover
from ansible_collections.attested.ai.plugins.module_utils.endorsements.roots import INTEL, load_roots
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
from collateral_lab import Fault, b64, document_of, fetch
from hypothesis import given
from hypothesis import strategies as st

# Genuine collateral, and a time at which it holds.
FILE, AT = "b0c06f-2025-06.collateral.json", "2025-07-01T00:00:00Z"
FMSPC = "b0c06f000000"
QUOTE = "real-v4-uptodate-2025-06.quote.bin"


def collateral(vectors, name=FILE):
    return json.loads((vectors / "tdx" / name).read_text())


@pytest.fixture
def intel(services, vectors):
    """The services with Intel's routes: answers as PCS gives them, made of genuine collateral."""
    parts = collateral(vectors)
    services.parts = parts
    services.crl_form = bytes.fromhex
    services.qe_headers = services.tcb_headers = None

    def signed(name, text, signature):
        return ('{"%s":%s,"signature":"%s"}' % (name, text, signature)).encode()

    def answer(path, query, _body):
        # A real answer carries the chain of its own signer in a header, URL-encoded.
        plain = {"Content-Type": "application/json"}
        if path.endswith("/tdx/certification/v4/tcb"):
            if parse_qs(query)["fmspc"][0].lower() != json.loads(parts["tcb_info"])["fmspc"].lower():
                return 404, {}, b""
            headers = {**plain, "TCB-Info-Issuer-Chain": quote(parts["tcb_info_issuer_chain"])} if services.tcb_headers is None else services.tcb_headers
            return 200, headers, signed("tcbInfo", parts["tcb_info"], parts["tcb_info_signature"])
        if path.endswith("/tdx/certification/v4/qe/identity"):
            headers = {**plain, "SGX-Enclave-Identity-Issuer-Chain": quote(parts["qe_identity_issuer_chain"])}
            return 200, headers, signed("enclaveIdentity", parts["qe_identity"], parts["qe_identity_signature"])
        if path.endswith("/sgx/certification/v4/pckcrl"):
            return 200, {"SGX-PCK-CRL-Issuer-Chain": quote(parts["pck_crl_issuer_chain"])}, services.crl_form(parts["pck_crl"])
        if path.endswith("/IntelSGXRootCA.der") or path.endswith("/sgx/certification/v4/rootcacrl"):
            return 200, {}, services.crl_form(parts["root_ca_crl"])
        return None

    services.routes.insert(0, answer)
    return services


def run(served, store, documents=(), **options):
    return fetch(served, store, documents, **{"policy": None, "at": AT, **options})


def tdx_document(vectors, name=QUOTE):
    return document_of({"type": "tdx", "provider": "tdx_guest", "evidence": b64((vectors / "tdx" / name).read_bytes()), "auxiliary": {}})


def test_what_was_served_is_what_is_kept_byte_for_byte(intel, vectors, store_path):
    result = run(intel, store_path, [tdx_document(vectors)])
    assert result["complete"], result["msg"]
    (piece,) = result["pieces"]
    assert piece["path"] == f"intel/tdx/{FMSPC}-platform-standard.json" and piece["expires_at"].startswith("2025-07-1"), piece
    (data,) = load([store_path]).tdx
    kept, wanted = json.loads(data), collateral(vectors)
    assert set(kept) == set(wanted)
    for name in ("tcb_info", "qe_identity", "tcb_info_signature", "qe_identity_signature", "pck_crl", "root_ca_crl"):
        assert kept[name] == wanted[name], name
    for name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"):
        assert kept[name].split() == wanted[name].split()
    assert not run(intel, store_path, [tdx_document(vectors)])["changed"]


def test_many_platforms_share_the_lists(intel, vectors, store_path):
    """Four answers for one FMSPC; a second guest of it costs nothing."""
    documents = [tdx_document(vectors), tdx_document(vectors), tdx_document(vectors, "neg-v4-mrtd-flipped.quote.bin")]
    assert run(intel, store_path, documents)["requests"] == 4 == sum(intel.asked.values())


def test_other_platforms_of_one_run_do_not_ask_for_the_lists_again(intel, store_path):
    result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}, {"fmspc": "00906ed50000", "ca": "platform"}], fail_on_problem=False)
    assert [piece["status"] for piece in result["pieces"]] == ["added", "missing"]
    assert intel.asked_for("/qe/identity") == intel.asked_for("/pckcrl") == 1


@pytest.mark.parametrize("form", [bytes.fromhex, str.encode, lambda text: b'"%s"' % text.encode()], ids=["DER", "hexadecimal", "quoted"])
def test_a_cache_is_asked_for_everything(intel, store_path, form):
    intel.crl_form = form
    nowhere = "http://192.0.2.1"
    cache = intel.url + "/sgx/certification/v4/"
    result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}], pccs_url=cache, pcs_url=nowhere, root_crl_url=nowhere)
    assert result["complete"], result["msg"]
    assert intel.asked_for("/sgx/certification/v4/rootcacrl") == 1


def test_a_pem_list_is_read(intel, store_path):
    from softtee.snp_authority import pem

    intel.crl_form = lambda text: pem(bytes.fromhex(text), "X509 CRL").encode()
    assert run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}])["complete"]


def test_the_view_is_asked_for_and_told_apart(intel, store_path):
    for options, said, name in (
        ({"update": "early"}, "update=early", "early"),
        ({"tcb_evaluation_data_number": 17}, "tcbEvaluationDataNumber=17", "n17"),
    ):
        result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}], **options)
        assert result["complete"] and result["pieces"][0]["path"].endswith(f"-{name}.json"), result
        assert any(said in target and "update" not in target.replace(said, "") for _m, target, _h in intel.log)
    # The number wins over the early view, the standard one over both.
    assert len(load([store_path]).tdx) == 1
    run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}])
    assert len(load([store_path]).tdx) == 1


def test_another_number_than_the_one_asked_for_is_refused(intel, store_path):
    result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}], tcb_evaluation_data_number=99)
    assert result["counts"] == {"refused": 1}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/tcb?", body=b'{"tcbInfo":{},"signature":"00"}'),
        Fault("/tcb?", body=b"[]"),
        Fault("/tcb?", body=b'{"tcbInfo":{},"tcbInfo":{},"signature":"' + b"0" * 128 + b'"}'),
        Fault("/tcb?", headers={"TCB-Info-Issuer-Chain": "nonsense"}),
        Fault("/qe/identity", headers={"SGX-Enclave-Identity-Issuer-Chain": ""}),
        Fault("/pckcrl", body=b"<html>"),
        Fault("/pckcrl", body=b"30820"),
        Fault("/IntelSGXRootCA", body=b""),
    ],
    ids=["no TCB info", "no object", "doubled member", "no chain", "empty header", "no list", "half a list", "empty"],
)
def test_a_wrong_answer_is_refused(intel, store_path, fault):
    intel.faults.append(fault)
    result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}])
    assert result["failed"] and result["counts"] == {"refused": 1}, result["msg"]


def test_a_dropped_header_is_told_with_its_likely_cause(intel, store_path):
    intel.tcb_headers = {"Content-Type": "application/json"}
    result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}])
    assert result["failed"] and "A proxy may have dropped it" in result["msg"]


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity", "tcb_info_signature", "qe_identity_signature", "pck_crl", "root_ca_crl"])
def test_what_was_changed_after_signing_is_refused(intel, store_path, name):
    text = intel.parts[name]
    if name.endswith("signature"):
        intel.parts[name] = ("0" if text[0] != "0" else "1") + text[1:]
    elif name.endswith("crl"):
        intel.parts[name] = text[:-2] + ("00" if text[-2:] != "00" else "01")
    else:
        intel.parts[name] = text.replace("UpToDate", "UpToDatf", 1)
    result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}])
    assert result["failed"] and result["counts"] == {"refused": 1}, result["pieces"]


def test_collateral_that_ended_is_not_taken_for_new(intel, store_path):
    result = run(intel, store_path, intel=[{"fmspc": FMSPC, "ca": "platform"}], at="2026-01-01T00:00:00Z")
    assert result["failed"], result


def test_collateral_of_another_root_is_refused(services, vectors, store_path, intel):
    intel.parts.update(collateral(vectors, "syn-base.collateral.json"))
    result = run(intel, store_path, intel=[{"fmspc": "aabbccddeeff", "ca": "platform"}], at="2026-11-01T00:00:00Z")
    assert result["counts"] == {"refused": 1}


def test_a_collateral_file_is_taken_by_hand(vectors, tmp_path):
    from ansible_collections.attested.ai.plugins.plugin_utils.collateral_transfer import import_files
    from collateral_lab import make_task

    store = str(tmp_path / "store")
    task, _said = make_task(store, at=AT)
    result = import_files(task, [str(vectors / "tdx" / FILE)])
    assert [piece["path"] for piece in result["pieces"]] == [f"intel/tdx/{FMSPC}-platform-standard.json"]
    with pytest.raises(AttestedError):
        import_files(task, [str(vectors / "tdx" / "b0c06f-2025-06-tcb-tampered.collateral.json")])


# The cutting


def test_the_member_is_cut_out_exactly():
    body = b' { "signature" : "' + b"0" * 128 + b'" ,\n "tcbInfo" : { "a" : [ 1 , 2.50 ] ,"b":"\\u0041}" }  } '
    assert pcs._signed_member(body, "tcbInfo", "x")[0] == '{ "a" : [ 1 , 2.50 ] ,"b":"\\u0041}" }'


@given(st.binary(max_size=200))
def test_no_answer_escapes(body):
    for call in (lambda: pcs._signed_member(body, "tcbInfo", "x"), lambda: pcs._crl(body, "x"), lambda: tdx_prover(load_roots(None, INTEL))(body, "x")):
        try:
            call()
        except EndorsementError:
            pass


@pytest.mark.parametrize(
    "fmspc, ca, view",
    [("B0C06F000000", "platform", "standard"), ("b0c06f", "platform", "standard"), ("b0c06f000000", "root", "standard"), ("b0c06f000000", "platform", "late")],
)
def test_wishes_that_are_none_are_refused(fmspc, ca, view):
    with pytest.raises(EndorsementError):
        pcs.Wanted(fmspc, ca, view)


def test_the_address_of_a_cache_may_be_given_in_full():
    for address in ("https://pccs:8081", "https://pccs:8081/", "https://pccs:8081/sgx/certification/v4", "https://pccs:8081/sgx/certification/v4/"):
        service = pcs.Service(cache=address)
        assert (service.base, service.root_crl) == ("https://pccs:8081", "https://pccs:8081/sgx/certification/v4/rootcacrl")
    assert pcs.Service().root_crl == pcs.ROOT_CRL_URL


def test_the_tests_use_a_time_at_which_the_collateral_holds(vectors):
    at = datetime.fromisoformat(AT.replace("Z", "+00:00"))
    info = json.loads(collateral(vectors)["tcb_info"])
    assert info["issueDate"] < AT < info["nextUpdate"] and at.tzinfo == timezone.utc and Response(200, {}, b"").status == 200


def test_what_was_fetched_is_what_the_verifier_needs(intel, vectors, store_path):
    """A genuine quote is authentic and up to date with collateral that went through service, store and loading."""
    from ansible_collections.attested.ai.plugins.module_utils.verify.result import UNCHECKED
    from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import verify_tdx

    run(intel, store_path, [tdx_document(vectors)])
    at = datetime.fromisoformat(AT.replace("Z", "+00:00"))
    quoted = (vectors / "tdx" / QUOTE).read_bytes()
    found = verify_tdx(quoted, load([store_path]).tdx, load_roots(None, INTEL), at, UNCHECKED)
    assert found.authentic is True and found.claims.tcb_status == "UpToDate", [check for check in found.checks if check.outcome == "fail"]
