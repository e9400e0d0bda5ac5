# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes over recorded machines: what works is ready, and each fault is named by its own probe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.probes import tdx_modules
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable, parameter
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.module_utils.target.probes.probe import FAIL, OUTCOMES, PASS, SKIPPED, UNKNOWN
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recording import SECTIONS, RecordedHost, Recorder
from ansible_collections.attested.ai.plugins.module_utils.target.probes.survey import survey
from hypothesis import given
from hypothesis import strategies as st

RECORDED = Path(__file__).parent / "recorded"
NAMES = sorted(path.stem for path in RECORDED.glob("*.json"))


def recorded(name):
    return json.loads((RECORDED / (name + ".json")).read_text())


def asked(document, **options):
    return survey(RecordedHost(document), **options)


def outcomes(found):
    return {probe.id: probe.outcome for probe in found.probes}


def the(found, name):
    return next(probe for probe in found.probes if probe.id == name)


def failed(found):
    return {probe.id for probe in found.probes if probe.outcome == FAIL}


@pytest.mark.parametrize("name", ["tdx-good", "snp-good", "snp-old-format", "guest-tdx"])
def test_a_good_machine_is_ready(name):
    found = asked(recorded(name))
    assert found.verdict == "ready"
    assert set(outcomes(found).values()) == {PASS}


def test_the_module_is_identified_by_its_build():
    module = asked(recorded("tdx-good")).identity["tdx_module"]
    assert (module["version"], module["build"], module["date"], module["svn"]) == ("1.5.08", 784, "20240725", 7)
    assert module["mrseam"].startswith("49b66faa451d19eb")


def test_the_newer_line_of_the_module_is_read_too():
    document = recorded("tdx-good")
    lines = document["kernel_log"]["lines"]
    lines[3] = "virt/tdx: TDX module 2.0.08, build number 882, build date 20250402"
    found = asked(document)
    assert found.identity["tdx_module"]["version"] == "2.0.08"
    # A module for another line of CPUs is odd, and not known to be wrong.
    assert the(found, "tdx.module-version").outcome == UNKNOWN


def test_the_table_of_modules_is_whole():
    assert len(tdx_modules.BY_BUILD) == 17
    for build, module in tdx_modules.BY_BUILD.items():
        assert module.build == build and len(bytes.fromhex(module.mrseam)) == 48 and module.cpus
    assert set(tdx_modules.NEWEST.values()) <= {module.version for module in tdx_modules.BY_BUILD.values()}
    assert len({module.mrseam for module in tdx_modules.BY_BUILD.values()}) == 17


def test_a_missing_module_is_told_from_a_missing_bios_setting():
    found = asked(recorded("tdx-module-not-loaded"))
    assert found.verdict == "not-ready"
    assert failed(found) == {"tdx.kvm-param", "tdx.module-loaded", "tdx.module-initialized", "tdx.qgs-service"}
    assert "TDX-SEAM.so" in the(found, "tdx.module-loaded").fix
    assert the(found, "tdx.kvm-param").fix == "See the other findings"


def test_hibernation_is_named_as_the_cause():
    found = asked(recorded("tdx-hibernation"))
    assert {"tdx.kernel-nohibernate", "tdx.module-initialized"} <= failed(found)
    assert "nohibernate" in the(found, "tdx.module-initialized").fix


def test_a_broken_snp_host_names_every_cause():
    found = asked(recorded("snp-broken"))
    assert failed(found) == {
        "snp.bios-snp",
        "snp.bios-rmp",
        "snp.bios-asid",
        "snp.iommu-translation",
        "snp.firmware-initialized",
        "snp.kvm-param",
        "snp.cpus-online",
    }
    assert "UEFI" in the(found, "snp.firmware-initialized").fix


def test_without_root_nothing_fails_and_nothing_passes_by_guess():
    found = asked(recorded("snp-not-root"))
    assert found.verdict == "unknown" and not failed(found)
    unknown = [probe for probe in found.probes if probe.outcome == UNKNOWN]
    assert len(unknown) == 10 and all("root" in probe.fix for probe in unknown)


def test_tdp_mmu_off_is_taken_from_the_log():
    document = recorded("tdx-hibernation")
    document["kernel_log"]["lines"][-1] = "TDX requires TDP MMU.  Please enable TDP MMU for TDX."
    assert the(asked(document), "tdx.kvm-tdp-mmu").outcome == FAIL


def test_a_lost_log_does_not_fail_what_the_parameter_says():
    document = recorded("tdx-good")
    document["kernel_log"] = {"lines": ["later"], "complete": False, "source": "/dev/kmsg"}
    found = asked(document)
    assert found.verdict == "ready" and the(found, "tdx.module-version").outcome == SKIPPED


def test_a_lost_log_is_unknown_where_nothing_else_tells():
    document = recorded("tdx-module-not-loaded")
    document["kernel_log"] = {"lines": ["later"], "complete": False, "source": "/dev/kmsg"}
    found = asked(document)
    assert the(found, "tdx.module-loaded").outcome == UNKNOWN and the(found, "tdx.module-initialized").outcome == UNKNOWN


def test_an_old_kernel_with_a_backport_passes_and_without_fails():
    document = recorded("snp-good")
    document["kernel"] = "5.14.0-503.el9"
    document["exists"]["/sys/module/kvm_amd/parameters/sev_snp"] = True
    assert the(asked(document), "common.kernel-version").outcome == PASS
    document["exists"]["/sys/module/kvm_amd/parameters/sev_snp"] = False
    assert the(asked(document), "common.kernel-version").outcome == FAIL


def test_an_unknown_generation_is_unknown_and_an_old_one_fails():
    document = recorded("snp-good")
    document["files"]["/proc/cpuinfo"] = document["files"]["/proc/cpuinfo"].replace("model\t\t: 17", "model\t\t: 144")
    assert the(asked(document), "snp.cpu-model").outcome == UNKNOWN
    document["files"]["/proc/cpuinfo"] = document["files"]["/proc/cpuinfo"].replace("cpu family\t: 25", "cpu family\t: 23")
    assert the(asked(document), "snp.cpu-model").outcome == FAIL


def test_registers_of_another_vendor_are_not_judged():
    found = asked(recorded("snp-good"), scope="host", tee="tdx")
    assert the(found, "tdx.cpu-model").outcome == FAIL
    assert failed(found) == {"tdx.cpu-model"}
    assert the(found, "tdx.bios-tme").outcome == SKIPPED and the(found, "tdx.kvm-param").outcome == SKIPPED


def test_no_setting_is_asked_for_where_the_cpu_has_no_snp():
    document = recorded("snp-broken")
    document["cpuid"]["0x8000001f/0"] = ["0x0", "0x0", "0x0", "0x0"]
    found = asked(document)
    assert "snp.cpu-support" in failed(found)
    assert the(found, "snp.bios-asid").outcome == SKIPPED and the(found, "snp.bios-snp").outcome == SKIPPED
    # The kernel complains of these by itself.
    assert {"snp.bios-rmp", "snp.iommu-translation"} <= failed(found)


def test_areas_choose():
    found = asked(recorded("tdx-good"), areas=["sgx"])
    assert [probe.id for probe in found.probes] == ["tdx.sgx-devices", "tdx.sgx-rights"]


def test_nothing_asked_is_not_ready():
    assert asked(recorded("tdx-good"), areas=["guest"]).verdict == "unknown"


def test_a_guest_with_sev_but_without_snp_is_refused():
    document = recorded("guest-tdx")
    document["files"]["/proc/cpuinfo"] = "vendor_id\t: AuthenticAMD\nflags\t: hypervisor\n"
    document["exists"] = {}
    document["kernel_log"]["lines"] = ["Linux version 6.16.0", "Memory Encryption Features active: AMD SEV"]
    found = asked(document)
    assert found.tee == "sev" and failed(found) == {"guest.tee"}
    document["kernel_log"]["lines"][1] += " SEV-ES SEV-SNP"
    assert asked(document).tee == "sev-snp"


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_of_a_recording_says_the_same(name):
    recorder = Recorder(RecordedHost(recorded(name)))
    found = survey(recorder).to_dict()
    again = json.loads(json.dumps(recorder.document()))
    assert survey(RecordedHost(again)).to_dict() == found


@pytest.mark.parametrize("scope", ["host", "guest"])
@pytest.mark.parametrize("tee", ["auto", "tdx", "snp", "cca"])
def test_this_machine_is_answered_and_told_the_same_from_its_recording(scope, tee):
    recorder = Recorder(LocalHost())
    found = survey(recorder, scope, tee)
    assert all(probe.outcome in OUTCOMES and probe.observed for probe in found.probes)
    assert all(probe.fix for probe in found.probes if probe.outcome in (FAIL, UNKNOWN))
    assert survey(RecordedHost(json.loads(json.dumps(recorder.document()))), scope, tee).to_dict() == found.to_dict()


@pytest.mark.parametrize("scope", ["host", "guest"])
def test_an_empty_machine_is_never_ready(scope, tmp_path):
    for tee in ("tdx", "snp", "cca"):
        assert survey(LocalHost(root=str(tmp_path)), scope, tee).verdict != "ready"


class BlindHost(Host):
    def kernel(self):
        return "strange"

    def architecture(self):
        return "x86_64"

    def _no(self, *_arguments):
        return Unreadable("denied", "it may not be read")

    read = listdir = exists = owner = msr = cpuid = sev = kvm = kvm_attribute = kernel_log = command = _no


@pytest.mark.parametrize("tee", ["tdx", "snp"])
def test_a_machine_that_answers_nothing_is_unknown_throughout(tee):
    found = survey(BlindHost(), "host", tee)
    assert found.verdict == "unknown"
    # What snphost thinks is not needed, so that its silence decides nothing.
    assert {probe.outcome for probe in found.probes if probe.id != "snp.snphost-agrees"} == {UNKNOWN}


TEXT = st.text(max_size=200) | st.sampled_from(["Y", "N", "", "port = 1\nport = 2", '{"pccs_url": 1}', "vendor_id: GenuineIntel\ncpu family: 6\nmodel: 143"])
SAID = ["virt/tdx: initialization failed: TDMRs exhausted", "virt/tdx: module initialization failed (-5)", "kvm [1]: RMI ABI version 1.0"]
LINES = st.lists(TEXT | st.sampled_from(SAID + recorded("tdx-good")["kernel_log"]["lines"]), max_size=6)
VALUES = {"files": TEXT, "msr": st.integers(0, 2**64 - 1).map(hex), "sev": st.binary(max_size=40).map(bytes.hex)}


@given(st.sampled_from(NAMES), st.data())
def test_no_recording_crashes_the_probes(name, data):
    document = recorded(name)
    for section in ("files", "msr", "sev"):
        for key in document.get(section, {}):
            if data.draw(st.booleans()):
                document[section][key] = data.draw(VALUES[section])
    document["kernel_log"] = {"lines": data.draw(LINES), "complete": data.draw(st.booleans()), "source": "x"}
    for tee in ("tdx", "snp", "cca"):
        found = asked(document, scope="host", tee=tee)
        assert all(probe.outcome in OUTCOMES for probe in found.probes)
        json.dumps(found.to_dict())
    asked(document, scope="guest")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(JSON, st.sampled_from([*SECTIONS, "kernel_log", "kernel"]))
def test_a_damaged_recording_is_refused_by_name(value, section):
    document = recorded("snp-good")
    document[section] = value
    try:
        asked(document)
    except FormatError as error:
        assert error.code == "recording-invalid"


def test_what_is_no_recording_is_refused():
    with pytest.raises(FormatError):
        RecordedHost({"schema": "other"})


def test_the_command_line_ends_where_init_begins():
    document = recorded("snp-good")
    document["files"]["/proc/cmdline"] = "ro -- iommu=pt\n"
    assert the(asked(document), "snp.iommu-translation").outcome == PASS


def test_dashes_and_underscores_are_alike_in_parameters():
    assert parameter(["kvm-intel.tdx=1"], "kvm_intel.tdx") == "1"
    assert parameter(["a=1", "a=2"], "a") == "2" and parameter([], "a") is None
