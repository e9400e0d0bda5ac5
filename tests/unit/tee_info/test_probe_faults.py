# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault at a time in a recording of a good machine: its own probe finds it, and names the step; and what is told beside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, PASS, SKIPPED, UNKNOWN
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import RecordedHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey

RECORDED = Path(__file__).parent / "recorded"


def recorded(name):
    return json.loads((RECORDED / (name + ".json")).read_text())


def asked(document):
    return survey(RecordedHost(document))


def the(found, name):
    return next(probe for probe in found.probes if probe.id == name)


def failed(found):
    return {probe.id for probe in found.probes if probe.outcome == FAIL}


SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOCKDOWN = "/sys/kernel/security/lockdown"
VIRSH = "virsh --readonly --connect qemu:///system domcapabilities"

# What is changed in a good recording, and the one or more probes that must notice. 'drop' takes a member away.
FAULTS = [
    ("tdx-good", ["msr", "0x982"], "0x1", {"tdx.bios-tme"}),
    ("tdx-good", ["msr", "0x1401"], "0x400", {"tdx.bios-seamrr"}),
    ("tdx-good", ["msr", "0x87"], "0x100000020", {"tdx.bios-keys"}),
    ("tdx-good", ["msr", "0xa0"], "0x745", {"tdx.bios-mcheck"}),
    ("tdx-good", ["msr", "0xa0"], "0x1", {"tdx.bios-mcheck"}),
    ("tdx-good", ["msr", "0xce"], "0x8000000", {"tdx.production"}),
    ("tdx-good", ["msr", "0x503"], "0x1", {"tdx.production"}),
    ("tdx-good", ["msr", "0x8b"], "0x8000000000000000", {"tdx.production"}),
    ("tdx-good", ["exists", "/sys/firmware/efi"], False, {"common.uefi"}),
    ("tdx-good", ["exists", "/dev/kvm"], False, {"common.kvm"}),
    ("tdx-good", ["exists", "/dev/sgx_provision"], False, {"tdx.sgx-devices"}),
    ("tdx-good", ["files", "/sys/module/kvm/parameters/tdp_mmu"], "N\n", {"tdx.kvm-tdp-mmu"}),
    ("tdx-good", ["files", "/etc/qgs.conf"], "port = all\n", {"tdx.qgs-transport"}),
    ("tdx-good", ["files", "/etc/sgx_default_qcnl.conf"], "{", {"tdx.pccs-certificate"}),
    ("tdx-good", ["files", "/etc/sgx_default_qcnl.conf"], '{"pccs_url": "https://pccs.example.com/", "use_secure_cert": false}', {"tdx.pccs-certificate"}),
    ("tdx-good", ["files", "/var/log/mpa_registration.log"], "[x] ERROR: Registration Flow failed\n", {"tdx.registration"}),
    ("tdx-good", ["commands", "systemctl show --property=LoadState,ActiveState qgsd.service", "out"], "ActiveState=failed\n", {"tdx.qgs-service"}),
    ("snp-good", ["msr", "0xc0010010"], "0x1740000", {"snp.bios-sme"}),
    ("snp-good", ["msr", "0xc0010132"], "0x0", {"snp.bios-rmp"}),
    ("snp-good", ["cpuid", "0x8000001f/0"], ["0x2f", "0x0", "0x1fd", "0x64"], {"snp.cpu-support"}),
    ("snp-good", ["sev", "snp-platform-status"], "0132010118" + "00" * 27, {"snp.firmware-version", "snp.firmware-alias"}),
    ("snp-good", ["sev", "snp-platform-status"], "0137000318" + "00" * 27, {"snp.firmware-initialized"}),
    ("snp-good", ["sev", "snp-platform-status"], "0137010318" + "00" * 19 + "01" * 8, {"snp.tcb-match"}),
    ("snp-good", ["sev", "snp-platform-status"], "01370103180000000100000000000000040a0000000018db040a0000000018db", {"snp.firmware-chip-id"}),
    ("snp-good", ["msr", "0xc0010133"], "0x1fff", {"snp.bios-rmp"}),
    ("snp-good", ["files", "/proc/cmdline"], "ro iommu.passthrough=on\n", {"snp.iommu-translation"}),
    ("snp-good", ["commands", "qemu-system-x86_64 -object help", "out"], "  rng-random\n", {"snp.qemu-object"}),
    ("snp-good", ["kvm", "version"], 11, {"common.kvm"}),
    ("tdx-good", ["commands", "qemu-system-x86_64 -object help", "out"], "  tdx-guest-other\n", {"tdx.qemu-object"}),
    ("snp-good", ["exists", "/dev/sev"], False, {"snp.device"}),
    ("snp-good", ["files", "/proc/cmdline"], "ro iommu=nofullflush,pt\n", {"snp.iommu-translation"}),
    ("snp-good", ["files", "/proc/cmdline"], "ro amd_iommu=pgtbl_v2\n", {"snp.iommu-translation"}),
    ("snp-good", ["files", "/sys/devices/system/cpu/online"], "0-94\n", {"snp.cpus-online"}),
    ("snp-good", ["directories", "/sys/kernel/iommu_groups"], [], {"common.iommu"}),
    ("snp-good", ["kernel"], "6.1.0-13-amd64", set()),
    ("snp-good", ["cpuid", "0x8000001f/0"], ["0x11f", "0x4173", "0x1fd", "0x100"], {"snp.cpu-support"}),
    ("snp-good", ["cpuid", "0x8000001f/0"], ["0x13e", "0x4173", "0x1fd", "0x100"], {"snp.cpu-support"}),
    ("snp-good", ["cpuid", "0x8000001f/0"], ["0x13f", "0x4173", "0x1fd", "0x1"], {"snp.bios-asid"}),
    ("snp-good", ["files", "/sys/module/kvm_amd/parameters/sev_snp"], "N\n", {"snp.kvm-param"}),
    ("snp-good", ["commands", VIRSH, "out"], "<launchSecurity supported='no'/>", {"snp.libvirt"}),
    ("snp-good", ["commands", VIRSH, "out"], "<enum name='model'><value>sev-snp</value></enum>", {"snp.libvirt"}),
    ("snp-good", ["files", LOCKDOWN], "strange\n", {"common.lockdown"}),
    ("tdx-good", ["commands", VIRSH, "out"], "<enum name='sectype'>\n<value>sev</value>\n</enum>", {"tdx.libvirt"}),
    ("tdx-good", ["commands", VIRSH, "out"], "<tdx supported='no'/>", {"tdx.libvirt"}),
    ("tdx-good", ["files", SECURE_BOOT], {"hex": "06000000"}, {"common.secure-boot"}),
    ("tdx-good", ["files", "/proc/self/limits"], "Max locked memory         8388608              8388608              bytes\n", {"common.memlock"}),
    ("tdx-good", ["files", "/proc/cpuinfo"], "vendor_id: GenuineIntel\ncpu family: 6\nmodel: 143\nflags: sgx tdx_host_platform\n", {"tdx.bios-x2apic"}),
    ("tdx-good", ["files", "/proc/cpuinfo"], "vendor_id: GenuineIntel\ncpu family: 6\nmodel: 143\nflags: x2apic tdx_host_platform\n", {"tdx.bios-sgx"}),
    ("tdx-good", ["files", "/proc/cpuinfo"], "vendor_id: GenuineIntel\ncpu family: 6\nmodel: 85\nflags: sgx x2apic\n", {"tdx.cpu-model"}),
    ("tdx-good", ["owners", "/dev/sgx_provision"], ["0600", "root", "root"], {"tdx.sgx-rights"}),
    ("tdx-good", ["owners", "/dev/sgx_enclave"], ["0640", "root", "sgx"], {"tdx.sgx-rights"}),
    ("tdx-good", ["files", "/sys/module/kvm_intel/parameters/tdx"], "N\n", {"tdx.kvm-param"}),
    (
        "tdx-good",
        ["kernel_log", "lines"],
        [
            "Linux version 6.17",
            "virt/tdx: frame pointer (RBP) clobber bug present, upgrade TDX module",
            "virt/tdx: TDX module 1.5.01, build number 595, build date 20231008",
        ],
        {"tdx.module-version"},
    ),
    ("guest-snp", ["kernel_log", "lines"], ["Linux version 6.8.0"], set()),
    ("guest-tdx", ["exists", "/sys/kernel/config/tsm/report"], False, {"guest.report-interface"}),
    ("guest-tdx", ["exists", "/sys/firmware/acpi/tables/data/CCEL"], False, {"guest.event-log"}),
    ("guest-tdx", ["directories", "/sys/devices/virtual/misc/tdx_guest/measurements"], ["mrtd:sha384"], {"guest.rtmrs"}),
]


@pytest.mark.parametrize(("name", "path", "value", "expected"), FAULTS, ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:60])
def test_each_fault_is_found_by_its_own_probe(name, path, value, expected):
    document = recorded(name)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    found = asked(document)
    assert failed(found) == expected
    assert all(the(found, code).fix for code in expected)


MESSAGES = [
    ("virt/tdx: initialization failed: too few private KeyIDs available", "key split"),
    ("virt/tdx: initialization failed: TDMRs exhausted", "newer kernel"),
    ("virt/tdx: module initialization failed (-5)", "too old"),
    ("virt/tdx: frame pointer (RBP) clobber bug present, upgrade TDX module", "Update the TDX module"),
    ("virt/tdx: SEAMCALL (0x8000000000000021) failed: 0x8000020300000000", "other findings"),
]


@pytest.mark.parametrize(("line", "fix"), MESSAGES)
def test_what_the_kernel_says_when_it_gives_up_leads_to_a_step(line, fix):
    document = recorded("tdx-hibernation")
    document["kernel_log"]["lines"][-1] = line
    assert fix in the(asked(document), "tdx.module-initialized").fix


def test_a_default_of_the_kernel_is_told_from_its_command_line():
    document = recorded("snp-good")
    document["kernel_log"]["lines"][2] = "iommu: Default domain type: Passthrough"
    found = the(asked(document), "snp.iommu-translation")
    assert found.outcome == FAIL and "iommu=nopt" in found.fix


def test_a_chip_id_may_be_masked_where_vlek_is_in_use():
    document = recorded("snp-good")
    document["sev"]["snp-platform-status"] = "01370103180000000500000000000000040a0000000018db040a0000000018db"
    found = asked(document)
    assert the(found, "snp.firmware-chip-id").outcome == PASS and found.identity["snp_firmware"]["vlek"] is True


def test_a_segmented_table_has_no_end():
    document = recorded("snp-good")
    document["msr"]["0xc0010133"] = "0x0"
    assert the(asked(document), "snp.bios-rmp").outcome == PASS


def test_a_crash_kernel_on_a_cpu_with_the_erratum_is_told_and_closes_nothing():
    document = recorded("tdx-good")
    document["files"]["/proc/cpuinfo"] += "bugs\t\t: spectre_v2 tdx_pw_mce\n"
    assert the(asked(document), "tdx.kernel-kexec").outcome == PASS
    document["files"]["/sys/kernel/kexec_crash_loaded"] = "1\n"
    found = asked(document)
    assert the(found, "tdx.kernel-kexec").outcome == SKIPPED and found.verdict == "ready"


def test_facts_that_decide_nothing_are_told():
    platform = asked(recorded("tdx-good")).identity["tdx_platform"]
    assert (platform["private_keyids"], platform["other_keyids"], platform["pamt_kib"]) == (32, 32, 8396820)
    assert (platform["seamldr_svn"], platform["kvm_sgx"], platform["update_node"]) == (31, True, None)
    assert asked(recorded("snp-good")).identity["snp_cpu"] == {
        "c_bit": 51,
        "address_reduction": 5,
        "vmpls": 4,
        "guests": 509,
        "least_sev_asid": 256,
        "secure_tsc": True,
        "page_flush_msr": True,
    }


@pytest.mark.parametrize("names", [("/sys/class/firmware/tdx_module", "seamldr_version"), ("/sys/class/firmware/seamldr_upload", "seamldr/version")])
def test_updates_at_run_time_are_found_under_both_names(names):
    document = recorded("tdx-good")
    document["exists"][names[0]] = True
    document["files"].update({"/sys/devices/faux/tdx_host/" + names[1]: "1.5.11\n", "/sys/devices/faux/tdx_host/num_remaining_updates": "7\n"})
    platform = asked(document).identity["tdx_platform"]
    assert (platform["update_node"], platform["seamldr_version"], platform["updates_remaining"]) == (names[0], "1.5.11", 7)


def test_a_host_without_the_usual_qemu_is_no_fault():
    document = recorded("tdx-good")
    del document["commands"]["qemu-system-x86_64 -object help"]
    assert the(asked(document), "tdx.qemu-object").outcome == SKIPPED
    document["commands"]["/usr/libexec/qemu-kvm -object help"] = {"rc": 0, "out": "  tdx-guest\n"}
    assert the(asked(document), "tdx.qemu-object").outcome == PASS
    document["commands"]["/usr/libexec/qemu-kvm -object help"]["rc"] = 127
    assert the(asked(document), "tdx.qemu-object").outcome == UNKNOWN
