# SPDX-License-Identifier: GPL-3.0-or-later
"""What people reported, as recordings: each is judged whole, and the failing checks are these and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, PASS, SKIPPED, UNKNOWN
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snp_generations import GENERATIONS, SILICON, product_of
from ansible_collections.attested.ai.plugins.module_utils.target.probes.snphost import parse_ok
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey

RECORDED = Path(__file__).parent / "recorded"

# (recording, verdict, checks that fail, a check and words of its step)
STARTED = {"tdx.kvm-param", "tdx.module-initialized"}
NO_SNP = {"snp.kvm-param", "snp.libvirt"}
REPORTS = [
    ("tdx-bios-only", "not-ready", STARTED, ("tdx.module-initialized", "kvm_intel loads with tdx=1")),
    ("tdx-old-module", "not-ready", STARTED, ("tdx.module-initialized", "The module is 1.5.01, the newest known is 1.5.34")),
    ("tdx-no-tdp-mmu", "not-ready", {"tdx.kvm-tdp-mmu", *STARTED}, ("tdx.kvm-tdp-mmu", "kvm.tdp_mmu=0")),
    ("tdx-rotated-log", "ready", set(), None),
    ("snp-off-in-msr", "not-ready", {"snp.bios-snp", "snp.bios-rmp", "snp.iommu-translation", *NO_SNP}, ("snp.bios-snp", "SEV-SNP Support")),
    ("snp-rmp-end", "not-ready", {"snp.bios-rmp", "snp.kvm-param", "snp.libvirt"}, ("snp.bios-rmp", "Coverage")),
    ("snp-rmp-not-reserved", "not-ready", {"snp.bios-rmp", "snp.iommu-translation", "snp.kvm-param", "snp.libvirt"}, ("snp.bios-rmp", "Coverage")),
    ("snp-init-error", "not-ready", {"common.uefi", "snp.firmware-initialized", "snp.kvm-param", "snp.libvirt"}, ("snp.firmware-initialized", "boot by UEFI")),
    ("snp-old-boot-loader", "not-ready", {"snp.firmware-initialized", "snp.kvm-param", "snp.libvirt"}, ("snp.firmware-initialized", "Genoa needs the BIOS")),
    ("snp-rmp-uninit", "not-ready", {"snp.firmware-initialized", "snp.kvm-param", "snp.libvirt"}, ("snp.firmware-initialized", "messages of ccp")),
    ("snp-no-alias-check", "not-ready", {"snp.firmware-alias"}, ("snp.firmware-alias", "1.55.38 or later")),
    ("snp-no-msr", "unknown", set(), ("snp.bios-sme", "modprobe msr")),
    ("snp-unknown-part", "unknown", set(), ("snp.cpu-model", "Look up")),
    ("guest-snp", "ready", set(), None),
    ("guest-sev", "not-ready", {"guest.tee"}, ("guest.tee", "confidential guest")),
]


def recorded(name):
    return json.loads((RECORDED / (name + ".json")).read_text())


def asked(document, **options):
    return survey(RecordedHost(document), **options)


def the(found, name):
    return next(probe for probe in found.probes if probe.id == name)


@pytest.mark.parametrize(("name", "verdict", "wrong", "step"), REPORTS, ids=[report[0] for report in REPORTS])
def test_a_report_is_judged_as_its_author_found_out_in_the_end(name, verdict, wrong, step):
    found = asked(recorded(name))
    assert found.verdict == verdict and {probe.id for probe in found.probes if probe.outcome == FAIL} == wrong
    assert step is None or step[1] in the(found, step[0]).fix
    assert all(probe.fix for probe in found.probes if probe.outcome in (FAIL, UNKNOWN))


def test_every_recording_names_its_origin():
    assert all(json.loads(path.read_text()).get("origin") for path in RECORDED.glob("*.json"))


def test_a_module_between_the_published_ones_is_unknown():
    document = recorded("tdx-good")
    document["kernel_log"]["lines"][3] = document["kernel_log"]["lines"][3].replace("20240725", "20240407").replace("784", "744")
    found = asked(document)
    assert the(found, "tdx.module-version").outcome == UNKNOWN and found.identity["tdx_module"]["published"] is False


def test_a_part_that_nobody_knows_yet_fails_nothing_and_its_segmented_table_counts():
    found = asked(recorded("snp-unknown-part"))
    assert the(found, "snp.cpu-model").outcome == UNKNOWN and the(found, "snp.bios-rmp").outcome == PASS
    assert found.identity["snp_vceks"] == []


def test_firmware_that_could_make_the_alias_check_is_told_from_one_that_is_too_old():
    document = recorded("snp-no-alias-check")
    document["sev"]["snp-platform-status"] = "01370101260000000000000000000000040a0000000018db040a0000000018db"
    probe = the(asked(document), "snp.firmware-alias")
    assert "though firmware 1.55.38 can make it" in probe.observed and probe.fix.startswith("Update the BIOS")


def test_the_table_of_generations_is_whole():
    assert {name for _family, _first, _last, name in SILICON} == set(GENERATIONS)
    known = [product_of(*part) for part in ((0x19, 1), (0x19, 0x11), (0x19, 0xA0), (0x1A, 2), (0x1A, 0x50), (0x17, 1))]
    assert known == ["Milan", "Genoa", "Genoa", "Turin", None, None]


def test_offline_cpus_come_with_what_took_them_off():
    document = recorded("snp-good")
    document["files"].update({"/sys/devices/system/cpu/online": "0-47\n", "/sys/devices/system/cpu/smt/control": "off\n"})
    document["files"]["/proc/cmdline"] = "ro nosmt maxcpus=48\n"
    assert the(asked(document), "snp.cpus-online").observed == (
        "present 0-95, online 0-47; nosmt is on the kernel command line; maxcpus is on the kernel command line; SMT is off"
    )


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ("@kvm - memlock unlimited\n", PASS),
        ("alice hard memlock -1\n", PASS),
        ("# @kvm - memlock unlimited\n", FAIL),
        ("@kvm - memlock unlimited\n@kvm - memlock 8192\n", FAIL),
        ("@kvm - nofile unlimited\n", FAIL),
    ],
)
def test_rules_for_locked_memory_count_for_whom_they_name(rules, outcome):
    document = recorded("tdx-good")
    document["files"]["/proc/self/limits"] = "Max locked memory         8388608              8388608              bytes\n"
    document["directories"]["/etc/security/limits.d"] = ["90-x.conf", "notes"]
    document["files"].update({"/etc/security/limits.d/90-x.conf": rules, "/etc/security/limits.d/notes": "* - memlock unlimited\n"})
    assert the(asked(document), "common.memlock").outcome == outcome


@pytest.mark.parametrize(("state", "limit", "outcome"), [("loaded", "infinity", PASS), ("not-found", "infinity", FAIL), ("loaded", "8388608", FAIL)])
def test_a_service_that_starts_guests_may_lift_the_limit(state, limit, outcome):
    document = recorded("tdx-good")
    document["files"]["/proc/self/limits"] = "Max locked memory         8388608              8388608              bytes\n"
    name = "systemctl show --property=Id,LoadState,LimitMEMLOCK virtqemud.service libvirtd.service containerd.service crio.service"
    out = "LimitMEMLOCK=8388608\nId=virtqemud.service\nLoadState=loaded\n\nLimitMEMLOCK=%s\nId=containerd.service\nLoadState=%s\n" % (limit, state)
    document["commands"][name] = {"rc": 0, "out": out}
    assert the(asked(document), "common.memlock").outcome == outcome


@pytest.mark.parametrize(("text", "outcome"), [("none integrity [confidentiality]\n", SKIPPED), ("[none] integrity confidentiality\n", PASS)])
def test_lockdown_is_told_and_decides_nothing_by_itself(text, outcome):
    document = recorded("snp-good")
    document["files"]["/sys/kernel/security/lockdown"] = text
    found = asked(document)
    assert the(found, "common.lockdown").outcome == outcome and found.verdict == "ready" and found.machine["lockdown"]


@pytest.mark.parametrize(("value", "outcome"), [({"hex": "0600000000"}, SKIPPED), ({"hex": "0600000002"}, FAIL)])
def test_secure_boot_that_is_off_is_no_fault(value, outcome):
    document = recorded("snp-good")
    document["files"]["/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"] = value
    assert the(asked(document), "common.secure-boot").outcome == outcome


def test_libvirt_is_not_started_for_a_question():
    document = recorded("tdx-good")
    document["commands"]["systemctl show --property=ActiveState virtqemud.service libvirtd.service"]["out"] = "ActiveState=inactive\n\nActiveState=inactive\n"
    del document["commands"]["virsh --readonly --connect qemu:///system domcapabilities"]
    assert the(asked(document), "tdx.libvirt").outcome == SKIPPED


def test_what_libvirt_says_of_other_things_is_not_recorded():
    from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import Recorder

    document = recorded("tdx-good")
    name = "virsh --readonly --connect qemu:///system domcapabilities"
    document["commands"][name]["out"] = "<domain>secret</domain>\n" + document["commands"][name]["out"]
    recorder = Recorder(RecordedHost(document))
    assert the(survey(recorder), "tdx.libvirt").outcome == PASS
    assert "secret" not in json.dumps(recorder.document())


def test_limits_of_the_kind_of_host_are_told_with_the_findings():
    notes = asked(recorded("tdx-good")).to_dict()["notes"]
    assert any("hibernates" in note for note in notes) and any("kexec" in note for note in notes) and any("Memory" in note for note in notes)
    assert any("offline" in note for note in asked(recorded("snp-good")).notes)
    assert asked(recorded("guest-tdx")).notes == ()


def test_the_certificates_of_every_socket_are_named_for_the_reported_and_the_current_tcb():
    document = recorded("snp-good")
    vceks = asked(document).identity["snp_vceks"]
    assert [vcek["chip_id"][:8] for vcek in vceks] == ["3ac3fe21", "5b5b5b5b"]
    assert vceks[0]["product"] == "genoa" and vceks[0]["tcb"] == {"bootloader": 4, "tee": 10, "snp": 24, "microcode": 219}
    # The second half of one socket's answer is zeros in older kernels, and left out in newer ones.
    for rest in ("", "00" * 64):
        document["sev"]["get-id"] = vceks[0]["chip_id"] + rest
        assert len(asked(document).identity["snp_vceks"]) == 1
    document["sev"]["snp-platform-status"] = "01370103180000000000000000000000040a0000000019db040a0000000018db"
    assert [vcek["tcb"]["snp"] for vcek in asked(document).identity["snp_vceks"]] == [24, 25]
    for broken in ("", "11" * 63, "00" * 128):
        document["sev"]["get-id"] = broken
        assert asked(document).identity["snp_vceks"] == []


def test_turin_has_short_ids_and_a_tcb_with_fmc():
    document = recorded("snp-good")
    document["files"]["/proc/cpuinfo"] = "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n"
    document["sev"]["get-id"] = "1122334455667788" + "00" * 56 + "99" * 8 + "00" * 56
    document["sev"]["snp-platform-status"] = "0137010318000000000000000000000001010004000000490101000400000049"
    vceks = asked(document).identity["snp_vceks"]
    assert [vcek["chip_id"] for vcek in vceks] == ["1122334455667788", "99" * 8]
    assert vceks[0]["tcb"] == {"fmc": 1, "bootloader": 1, "tee": 0, "snp": 4, "microcode": 73}


def test_what_the_kernel_set_up_is_read_in_both_wordings():
    new, old = asked(recorded("snp-good")).identity["snp_kernel"], asked(recorded("snp-old-format")).identity["snp_kernel"]
    assert new["asids"] == {"sev_snp": 255} and new["kvm_secure_tsc"] is True
    assert old["asids"] == {"sev": 410, "sev_es": 99, "sev_snp": 99} and old["rmp_table"].startswith("0x0000000035600000")
    document = recorded("snp-good")
    document["kernel_log"]["lines"].append("ccp 0000:01:00.5: SEV firmware updated from 1.55.21 to 1.55.38")
    assert asked(document).identity["snp_kernel"]["firmware_updated"] == {"from": "1.55.21", "to": "1.55.38"}


@pytest.mark.parametrize("key", ["failures", "issues"])
def test_the_json_of_newer_versions_of_snphost_is_read(key):
    document = {"tests": [{"name": "SME", "status": "pass"}, {"name": "Alias check", "status": "FAIL", "message": {"a": 1}}], key: [], "skipped": ["SNP"]}
    assert parse_ok(json.dumps(document)) == [("pass", "SME", ""), ("fail", "Alias check", "{'a': 1}"), ("skip", "SNP", "")]
    assert parse_ok('{"tests": 3}') == [] and parse_ok("{") == [] and parse_ok('{"tests": [1]}') == []


@pytest.mark.parametrize(("said", "tee"), [("tdx\n", "tdx"), ("sev-snp\n", "sev-snp"), ("sev-es\n", "sev"), ("none\n", "none"), ("", "unknown")])
def test_systemd_is_asked_where_the_log_is_lost(said, tee):
    document = recorded("guest-tdx")
    document["exists"] = {}
    document["files"]["/proc/cpuinfo"] = "vendor_id\t: GenuineIntel\nflags\t: hypervisor\n"
    document["kernel_log"] = {"lines": ["later"], "complete": False, "source": "/dev/kmsg"}
    document["commands"] = {"systemd-detect-virt --cvm": {"rc": 0, "out": said}}
    assert asked(document, scope="guest").tee == tee


def test_a_tdx_guest_is_known_by_cpuid_and_by_the_journal():
    document = recorded("guest-tdx")
    document["exists"] = {}
    document["files"]["/proc/cpuinfo"] = "vendor_id\t: GenuineIntel\nflags\t: hypervisor\n"
    document["kernel_log"]["lines"] = ["Linux version 6.16.0"]
    assert asked(document, scope="guest").tee == "none"
    document["kernel_log"]["lines"].append("systemd[1]: Detected confidential virtualization tdx.")
    assert asked(document, scope="guest").tee == "tdx"
    document["kernel_log"]["lines"].pop()
    document["cpuid"] = {"0x21/0": ["0x0", "0x65746e49", "0x20202020", "0x5844546c"]}
    assert asked(document, scope="guest").tee == "tdx"


def test_bounce_buffers_of_a_guest_are_told():
    assert asked(recorded("guest-snp")).identity["swiotlb"] == {"mib": 512, "asked": "262144", "used_slots": None}
