# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a policy and reference values ask of a TD quote: each rule broken once, and the same quote accepted by a policy that allows it."""

from __future__ import annotations

import hashlib
import struct
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal.appraise import UNCHECKED, Endorsements, appraise_report
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.errors import PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats.ccel import parse_ccel
from ansible_collections.attested.ai.plugins.module_utils.verify.eventlog import check_eventlog, replay

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tdx"))

import tdx_lab  # noqa: E402
from tdx_lab import AT, level, module, svn_level, tcb_info, td_report  # noqa: E402

LAB = tdx_lab.lab()
MRTD, RTMRS = b"\x11" * 48, (b"\x20" * 48, b"\x21" * 48, b"\x22" * 48, bytes(48))
SEPT = 1 << 28
MACHINE = hashlib.sha256(tdx_lab.PPID).hexdigest()
OTHER = "ab" * 48
NEEDS_WORK = tcb_info(tcbLevels=[level("SWHardeningNeeded", advisories=("INTEL-SA-00001",))])
OLD = tcb_info(tcbLevels=[level("OutOfDate", advisories=("INTEL-SA-00002",))])
RUN = td_report(svn=bytes((6, 1, 6)) + bytes(13), svn_2=bytes((8, 1, 6)) + bytes(13))
OLD_MODULE = tcb_info(tdxModuleIdentities=[module(1, [svn_level(8), svn_level(6, "OutOfDate", advisories=("INTEL-SA-00003",))])])
DENIED = tcb_info(tcbLevels=[level("Revoked")])
FRESH = tcb_info(tcbLevels=[level(advisories=("INTEL-SA-00004",))])


def references(**changes):
    value = {
        "tee": "tdx", "measurement": MRTD.hex(), "rtmr": {"1": RTMRS[1].hex(), "2": RTMRS[2].hex()}, "covers": "service", "image": "guest", "source": "test",
        "not_after": (AT + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ"), **changes,
    }  # fmt: skip
    return load_reference_values({"schema": "attested.ai/reference-values/1", "values": [{key: item for key, item in value.items() if item is not None}]})


def judge(body=None, info=None, tdx=None, values=None, log=None, lab=LAB, **keys):
    body = td_report() if body is None else body
    policy = load_policy({
        "schema": SCHEMA, "id": "t", "allow_nonvendor_roots": True, "roots": [tdx_lab.pem(lab.root)], "tdx": tdx or {}, **keys,
    })  # fmt: skip
    return appraise_report(
        lab.quote(body, version=4 if len(body) == 584 else 5), tee="tdx", policy=policy, reference_values=references() if values is None else values,
        endorsements=Endorsements(tdx=(lab.collateral(info=info),)), expected_report_data=UNCHECKED, at=AT, auxiliary={} if log is None else {"event-log": log},
    )  # fmt: skip


def failures(result):
    return [check.id for check in result.reasons]


def outcome(result, check_id):
    (found,) = [check for check in result.items["cpu0"].checks if check.id == check_id]
    return found.outcome


def test_a_good_quote_is_affirming_and_everything_is_said():
    result = judge(machines={"allow": [MACHINE]})
    item = result.items["cpu0"]
    assert failures(result) == [] and (result.accepted, result.status, result.anchor) == (True, "affirming", "nonvendor")
    assert item.vector == {
        "hardware": 2, "configuration": 2, "runtime-opaque": 2, "executables": 3, "file-system": 2, "instance-identity": 2,
    }  # fmt: skip
    assert (item.claims["measurement"], item.claims["machine"], item.reaches, item.claims["event_log"]) == (MRTD.hex(), MACHINE, "service", None)
    assert item.expires_at == tdx_lab.UNTIL and item.identity
    assert outcome(result, "policy-service-td") == outcome(result, "eventlog-mismatch") == "not_checked"


# (body, TCB info, section tdx under which it fails, code, section tdx under which the same quote passes)
CASES = {
    "debug": (td_report(tdattributes=SEPT | 1), None, {}, "policy-debug", {"allow_debug": True}),
    "profiling": (td_report(tdattributes=SEPT | 1 << 5), None, {}, "policy-debug", {"allow_debug": True}),
    "reserved": (td_report(tdattributes=SEPT | 1 << 9), None, {"allow_debug": True}, "policy-reserved-attributes", None),
    "sept": (td_report(tdattributes=0), None, {}, "policy-sept-ve-disable", {"require_sept_ve_disable": False}),
    "migratable": (td_report(tdattributes=SEPT | 1 << 29), None, {}, "policy-migration", {"allow_migratable": True}),
    "icssd": (td_report(tdattributes=SEPT | 1 << 16), None, {}, "policy-icssd", {"allow_icssd": True}),
    "perfmon": (td_report(tdattributes=SEPT | 1 << 63), None, {}, "policy-perfmon", {"allow_perfmon": True}),
    "service td": (td_report(svn_2=bytes((8, 1, 6)) + bytes(13), mrservicetd=b"\xab" * 48), None, {}, "policy-service-td", {"allow_service_td": [OTHER]}),
    "service td later": (td_report(tdattributes=SEPT | 1 << 17), None, {}, "policy-service-td", {"allow_service_td": [OTHER]}),
    "xfam": (td_report(xfam=0x602E7 | 1 << 8), None, {}, "policy-xfam", {"xfam_mask": "0x603e7"}),
    "hardening": (td_report(), NEEDS_WORK, {"allow_advisories": ["INTEL-SA-00001"]}, "tcb-status-not-allowed",
                  {"statuses": ["UpToDate", "SWHardeningNeeded"], "allow_advisories": ["INTEL-SA-00001"]}),
    "advisory": (td_report(), NEEDS_WORK, {"statuses": ["SWHardeningNeeded"]}, "policy-advisory",
                 {"statuses": ["SWHardeningNeeded"], "allow_advisories": ["INTEL-SA-00001"]}),
    "denied advisory": (td_report(), FRESH, {"deny_advisories": ["INTEL-SA-00004"]}, "policy-advisory", {}),
    "old": (td_report(), OLD, {"allow_advisories": ["INTEL-SA-00002"]}, "tcb-out-of-date", {"statuses": ["OutOfDate"], "allow_advisories": ["INTEL-SA-00002"]}),
    "revoked": (td_report(), DENIED, {"statuses": ["UpToDate", "OutOfDate"]}, "tcb-revoked", None),
    "relaunch": (RUN, OLD_MODULE, {"allow_advisories": ["INTEL-SA-00003"]}, "td-relaunch-advised",
                 {"allow_relaunch_advised": True, "allow_advisories": ["INTEL-SA-00003"]}),
    "tcb date": (td_report(), None, {"min_tcb_date": "2026-05-15T00:00:00Z"}, "policy-tcb-date", {"min_tcb_date": "2026-05-14T00:00:00Z"}),
    "evaluation number": (td_report(), None, {"min_tcb_evaluation_data_number": 21}, "policy-tcb-eval-number", {"min_tcb_evaluation_data_number": 20}),
    "module svn": (td_report(), None, {"min_module_svn": 9}, "policy-module-svn", {"min_module_svn": 8}),
    "mrseam": (td_report(), None, {"mrseam": [OTHER]}, "policy-mrseam", {"mrseam": [OTHER, "10" * 48]}),
    "fmspc": (td_report(), None, {"fmspcs": ["00" * 6]}, "policy-platform", {"fmspcs": [tdx_lab.FMSPC.hex()]}),
    "ca": (td_report(), None, {"pck_cas": ["processor"]}, "policy-platform", {"pck_cas": ["platform"]}),
    "smt": (td_report(), None, {"smt": "refused"}, "policy-platform", {}),
    "dynamic platform": (td_report(), None, {"dynamic_platform": "refused"}, "policy-platform", {}),
    "cached keys": (td_report(), None, {"cached_keys": "refused"}, "policy-platform", {}),
    "mrconfigid": (td_report(), None, {"mrconfigid": [OTHER]}, "mrconfigid-mismatch", {"mrconfigid": ["00" * 48]}),
    "mrowner": (td_report(), None, {"mrowner": [OTHER]}, "mrowner-mismatch", {"mrowner": ["00" * 48]}),
    "mrownerconfig": (td_report(), None, {"mrownerconfig": [OTHER]}, "mrownerconfig-mismatch", {"mrownerconfig": ["00" * 48]}),
    "no log": (td_report(), None, {"require_event_log": True}, "eventlog-mismatch", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_rule_refuses_and_its_key_allows(name):
    body, info, strict, code, loose = CASES[name]
    refused = judge(body, info, strict)
    assert failures(refused) == [code] and not refused.accepted and refused.items["cpu0"].authentic is True
    if loose is not None:
        allowed = judge(body, info, loose)
        assert failures(allowed) == [] and allowed.accepted


def test_what_was_weakened_is_never_affirming():
    for name in ("debug", "hardening", "advisory", "old", "relaunch"):
        body, info, _strict, _code, loose = CASES[name]
        assert judge(body, info, loose).status in ("warning", "contraindicated"), name


def test_no_policy_can_accept_what_intel_withdrew():
    with pytest.raises(PolicyError):
        judge(tdx={"statuses": ["Revoked"]})


def test_a_certificate_that_does_not_state_a_flag_does_not_prove_it_off():
    lab = tdx_lab.lab("processor")
    assert failures(judge(lab=lab, tdx={"smt": "refused"})) == ["policy-platform"] and judge(lab=lab).accepted


@pytest.mark.parametrize(("machines", "code"), [
    ({"deny": [MACHINE]}, "machine-not-allowed"), ({"allow": ["00" * 32]}, "machine-not-allowed"), ({"csp_ids": ["x"]}, "machine-not-allowed"),
    ({"allow": [MACHINE]}, None),
])
def test_machines(machines, code):
    assert failures(judge(machines=machines)) == ([code] if code else [])


@pytest.mark.parametrize("changes", [
    {"measurement": "22" * 48}, {"rtmr": {"1": "00" * 48, "2": RTMRS[2].hex()}}, {"rtmr": {"1": RTMRS[1].hex(), "2": [OTHER, "cd" * 48]}}, {"mrseam": OTHER},
    {"mrconfigid": OTHER}, {"mrowner": OTHER}, {"mrownerconfig": OTHER}, {"not_after": "2026-10-31T00:00:00Z"},
])
def test_references(changes):
    assert failures(judge(values=references(**changes))) == ["measurement-mismatch"]
    relaxed = judge(values=references(**changes), measurements_required=False)
    assert relaxed.accepted and relaxed.items["cpu0"].reaches is None and relaxed.status == "warning"


def test_several_values_of_one_register_and_the_least_coverage_count():
    assert judge(values=references(rtmr={"0": [OTHER, RTMRS[0].hex()], "1": RTMRS[1].hex(), "2": RTMRS[2].hex()})).accepted
    both = type(references())((*references().values, *references(covers="launch", rtmr=None).values))
    assert judge(values=both).items["cpu0"].reaches == "launch"


def test_no_kernel_rests_on_mrtd_alone():
    with pytest.raises(PolicyError, match="RTMR 1 and 2"):
        references(rtmr=None)


def event(register, kind, digest, data=b"data"):
    return struct.pack("<IIIH48sI", register, kind, 1, 0x0C, digest, len(data)) + data


def event_log(*events, filler=b"\xff" * 64):
    spec = struct.pack("<16sIBBBBIHHB", b"Spec ID Event03\0", 0, 0, 2, 105, 2, 1, 0x0C, 48, 0)
    return struct.pack("<II20sI", 0, 3, bytes(20), len(spec)) + spec + b"".join(events) + filler


DIGESTS = [hashlib.sha384(bytes((number,))).digest() for number in range(4)]
EVENTS = [event(1, 0x80000008, DIGESTS[0]), event(2, 0x80000003, DIGESTS[1]), event(2, 0x0D, DIGESTS[2]), event(3, 0x0D, DIGESTS[3])]


def extended(*digests):
    value = bytes(48)
    for digest in digests:
        value = hashlib.sha384(value + digest).digest()
    return value


MEASURED = (extended(DIGESTS[0]), extended(DIGESTS[1], DIGESTS[2]), extended(DIGESTS[3]), bytes(48))


def test_a_log_that_gives_the_registers_is_believed():
    log = event_log(*EVENTS, event(1, 3, bytes(48)))
    assert replay(parse_ccel(log).events) == MEASURED
    values = references(rtmr={str(number): value.hex() for number, value in enumerate(MEASURED)})
    result = judge(td_report(rtmrs=MEASURED), log=log, tdx={"require_event_log": True}, values=values)
    assert failures(result) == [] and outcome(result, "eventlog-mismatch") == "pass"
    told = result.items["cpu0"].claims["event_log"]
    # The event without effect is not told: anybody can write such a one.
    assert told["count"] == 4 and told["events"][1] == {
        "index": 2, "type": "EV_EFI_BOOT_SERVICES_APPLICATION", "digest": DIGESTS[1].hex(), "size": 4, "data_is_measured": False,
    }  # fmt: skip


@pytest.mark.parametrize("log", [
    event_log(*EVENTS[:-1]), event_log(*EVENTS, EVENTS[0]), event_log(EVENTS[0], EVENTS[2], EVENTS[1], EVENTS[3]), event_log(), b"", b"\0" * 100,
    event_log(*EVENTS)[:-100], event_log(*EVENTS, event(5, 0x0D, DIGESTS[0])), event_log(*EVENTS, event(0, 0x0D, DIGESTS[0])), event_log(*EVENTS, filler=b"x"),
], ids=["dropped", "added", "reordered", "no events", "empty", "zeros", "truncated", "register 5", "register 0", "trailing"])
def test_any_other_log_is_refused_and_nothing_of_it_told(log):
    result = judge(td_report(rtmrs=MEASURED), log=log, measurements_required=False)
    assert failures(result) == ["eventlog-mismatch"] and result.items["cpu0"].claims["event_log"] is None


def test_no_byte_of_the_digests_can_change_unseen():
    log = event_log(*EVENTS)
    assert check_eventlog(log, MEASURED).check.outcome == "pass"
    for digest in DIGESTS:
        start = log.index(digest)
        for position in range(start, start + 48):
            changed = log[:position] + bytes((log[position] ^ 1,)) + log[position + 1:]
            assert check_eventlog(changed, MEASURED).log is None


def test_a_log_beside_a_quote_that_does_not_hold_is_not_looked_at():
    body = td_report(rtmrs=MEASURED)
    policy = load_policy({"schema": SCHEMA, "id": "t", "allow_nonvendor_roots": True, "roots": [tdx_lab.pem(LAB.root)]})
    quote = bytearray(LAB.quote(body))
    quote[200] ^= 1
    result = appraise_report(bytes(quote), tee="tdx", policy=policy, reference_values=references(), endorsements=Endorsements(tdx=(LAB.collateral(),)),
                             expected_report_data=UNCHECKED, at=AT, auxiliary={"event-log": event_log(*EVENTS)})  # fmt: skip
    assert result.items["cpu0"].authentic is False and outcome(result, "eventlog-mismatch") == outcome(result, "policy") == "not_checked"
