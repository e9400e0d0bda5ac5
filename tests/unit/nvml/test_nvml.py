# SPDX-License-Identifier: GPL-3.0-or-later
"""NVML and NSCQ through ctypes, against real shared objects; and every error that the libraries can give."""

from __future__ import annotations

import ctypes

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats.spdm import parse_spdm_report
from ansible_collections.attested.ai.plugins.module_utils.target import gpu_evidence, nscq, nvml

NONCE = bytes(range(32))


def refused(call):
    with pytest.raises(CollectError) as caught:
        call()
    assert caught.value.fix or caught.value.code == "nonce", "an error must say what to do"
    return caught.value


@pytest.mark.parametrize("arch", ["hopper", "blackwell"])
def test_every_gpu_gives_a_report_over_the_nonce(devices, arch):
    machine = devices.become(arch, gpus=3)
    with nvml.Nvml(devices.nvml) as session:
        assert session.driver_version() == "580.95.05"
        assert session.confidential_state() == nvml.ConfidentialState(True, False, "none")
        reports = session.reports(NONCE)
    assert [one.index for one in reports] == [0, 1, 2] and {one.architecture for one in reports} == {arch}
    assert len({one.uuid for one in reports}) == 3 and all(one.uuid.startswith("GPU-") for one in reports)
    for index, one in enumerate(reports):
        assert parse_spdm_report(one.report).nonce == NONCE
        assert one.certificates == machine.gpu(index).chain_pem
        assert one.vbios == {"hopper": "96.00.9F.00.01", "blackwell": "97.00.88.00.0F"}[arch]


def test_reports_are_new_each_time(devices):
    with nvml.Nvml(devices.nvml) as session:
        first, second = session.reports(NONCE)[0], session.reports(NONCE)[0]
    assert first.report != second.report and first.certificates == second.certificates


def test_switches_give_reports_through_callbacks(devices):
    machine = devices.become(gpus=8, switches=4, mode="ppcie")
    with nscq.Nscq(devices.nscq) as session:
        reports = session.reports(NONCE)
    assert [(one.index, one.architecture) for one in reports] == [(number, "ls10") for number in range(4)]
    assert [one.certificates for one in reports] == [machine.switch(number).chain_pem for number in range(4)]
    assert all(parse_spdm_report(one.report).nonce == NONCE and one.uuid.startswith("SWX-") for one in reports)


def test_no_switches(devices):
    with nscq.Nscq(devices.nscq) as session:
        assert session.reports(NONCE) == []


@pytest.mark.parametrize("size", [0, 31, 33])
def test_nonces_of_another_size(devices, size):
    with nvml.Nvml(devices.nvml) as session:
        assert refused(lambda: session.reports(bytes(size))).code == "nonce"
    with nscq.Nscq(devices.nscq) as session:
        assert refused(lambda: session.reports(bytes(size))).code == "nonce"


@pytest.mark.parametrize("behaviour, code", [("gpu-lost", "gpu-lost"), ("gpu-cc-off", "gpu-not-supported")])
def test_one_gpu_that_fails_fails_all(devices, behaviour, code):
    devices.behaviour = behaviour
    with nvml.Nvml(devices.nvml) as session:
        assert refused(lambda: session.reports(NONCE)).code == code


def test_libraries_that_are_not_there(tmp_path):
    (tmp_path / "text.so").write_text("no library")
    for path in ("libattested-does-not-exist.so", str(tmp_path / "text.so")):
        assert refused(lambda path=path: nvml.Nvml(path)).code == "gpu-no-library"
        assert refused(lambda path=path: nscq.Nscq(path)).code == "switch-no-library"


def test_a_library_without_the_functions():
    """Any other library, for instance C's own."""
    assert refused(lambda: nvml.Nvml("libc.so.6").__enter__()).code == "gpu-not-supported"
    assert refused(lambda: nscq.Nscq("libc.so.6")).code == "switch-no-library"


def test_a_stub_whose_daemon_is_gone(devices, monkeypatch, tmp_path):
    monkeypatch.setenv("SOFTTEE_NVML_SOCKET", str(tmp_path / "gone"))
    assert refused(lambda: nvml.Nvml(devices.nvml).__enter__()).code == "gpu-no-driver"
    assert refused(lambda: nscq.Nscq(devices.nscq).__enter__()).code == "switch-error"


class Faulty:
    """NVML as a table of functions; each gives 0 unless told otherwise."""

    def __init__(self, **numbers):
        self.numbers = numbers
        self.missing = ()

    def __getattr__(self, name):
        if name in self.missing:
            raise AttributeError(name)
        return lambda *arguments: self.answer(name, arguments)

    def answer(self, name, arguments):
        if name == "nvmlDeviceGetCount_v2":
            arguments[0]._obj.value = self.numbers.get("count", 1)
        elif name == "nvmlDeviceGetArchitecture":
            arguments[1]._obj.value = self.numbers.get("architecture", 9)
        elif name == "nvmlDeviceGetConfComputeGpuAttestationReport":
            arguments[1]._obj.attestationReportSize = self.numbers.get("report_size", 5)
        elif name == "nvmlDeviceGetConfComputeGpuCertificate":
            arguments[1]._obj.attestationCertChainSize = self.numbers.get("chain_size", 5)
        return self.numbers.get(name, 0)

    def reports(self):
        with nvml.Nvml("faulty", lambda path: self) as session:
            return session.reports(NONCE)


FUNCTIONS = (
    "nvmlInit_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetArchitecture",
    "nvmlDeviceGetConfComputeGpuCertificate",
    "nvmlDeviceGetConfComputeGpuAttestationReport",
)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("number", [*sorted(nvml.ERRORS), 31, 1000, -1])
def test_every_error_of_every_function_is_told(function, number):
    error = refused(Faulty(**{function: number}).reports)
    assert "%s: error %d" % (function, number) in error.what and error.code


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_is_missing(function):
    faulty = Faulty()
    faulty.missing = (function,)
    assert refused(faulty.reports).code == "gpu-not-supported"


@pytest.mark.parametrize(
    "numbers, code",
    [
        ({"count": 0}, "gpu-not-found"),
        ({"count": 65}, "gpu-not-found"),
        ({"architecture": 8}, "gpu-not-supported"),
        ({"architecture": 0xFFFFFFFF}, "gpu-not-supported"),
        ({"report_size": 0}, "gpu-error"),
        ({"report_size": 0x2001}, "gpu-error"),
        ({"chain_size": 0}, "gpu-error"),
        ({"chain_size": 0x1401}, "gpu-error"),
    ],
)
def test_answers_that_make_no_sense(numbers, code):
    assert refused(Faulty(**numbers).reports).code == code


def test_the_largest_answers_fit():
    (found,) = Faulty(report_size=0x2000, chain_size=0x1400).reports()
    assert len(found.report) == 0x2000 and found.certificates == b"", "zeros behind a chain are no part of it"


def test_an_unreadable_vbios_does_not_matter():
    assert Faulty(nvmlDeviceGetVbiosVersion=3).reports()[0].vbios is None


def test_older_drivers_have_no_settings():
    faulty = Faulty(nvmlSystemGetConfComputeSettings=3)
    assert nvml.Nvml("old", lambda path: faulty).confidential_state() == nvml.ConfidentialState(False, False, None)
    faulty.missing = ("nvmlSystemGetConfComputeSettings",)
    assert nvml.Nvml("older", lambda path: faulty).confidential_state() == nvml.ConfidentialState(False, False, None)
    faulty.missing = ("nvmlSystemGetConfComputeSettings", "nvmlSystemGetConfComputeState")
    assert refused(nvml.Nvml("oldest", lambda path: faulty).confidential_state).code == "gpu-not-supported"
    assert refused(nvml.Nvml("lost", lambda path: Faulty(nvmlSystemGetConfComputeSettings=15)).confidential_state).code == "gpu-lost"


def test_the_structures_have_nvidias_sizes():
    """nvml.h: 12 + 0x20 + 0x2000 + 0x1000, 8 + 0x1000 + 0x1400; nvmlSystemConfComputeSettings_v1 is 0x1000014."""
    assert ctypes.sizeof(nvml._Report) == 12332 and ctypes.sizeof(nvml._Certificate) == 9224
    assert ctypes.sizeof(nvml._Settings) | 1 << 24 == 0x1000014
    assert ctypes.sizeof(nscq._ReportValue) == 8196 and ctypes.sizeof(nscq._CertificateValue) == 5124


class FaultySwitches:
    """NSCQ with one switch: ``status`` by function or path, ``answers`` how many callbacks, ``size`` what they announce."""

    def __init__(self, status=None, answers=1, size=7, label=b"SWX-1", arch=2, session=True):
        self.status, self.answers, self.size, self.label, self.arch = status or {}, answers, size, label, arch
        self.destroyed = 0
        functions = ("nscq_session_create", "nscq_session_destroy", "nscq_session_set_input", "nscq_session_path_observe", "nscq_uuid_to_label")
        for name in functions:
            setattr(self, name, self.function(name, session))

    def function(self, name, session):
        def call(*arguments):
            if name == "nscq_session_create":
                return nscq._SessionResult(self.status.get(name, 0), 16 if session else None)
            if name == "nscq_session_destroy":
                self.destroyed += 1
            if name == "nscq_uuid_to_label":
                arguments[1]._obj.data = self.label
            if name == "nscq_session_path_observe":
                self.observe(arguments[1], arguments[2])
            return self.status.get(name, 0)

        return call

    def observe(self, path, callback):
        name = path.decode().rsplit("/", 1)[-1]
        kind, value = {
            "uuid": (nscq._UUID_CALLBACK, ctypes.pointer(nscq._Uuid())),
            "arch": (nscq._NUMBER_CALLBACK, self.arch),
            "certificate": (nscq._CERTIFICATE_CALLBACK, nscq._CertificateValue(size=self.size)),
            "attestation_report": (nscq._REPORT_CALLBACK, nscq._ReportValue(size=self.size)),
        }[name]
        for _number in range(self.answers if name in ("certificate", "attestation_report") else 1):
            kind(callback.value)(ctypes.pointer(nscq._Uuid()), self.status.get(name, 0), value, None)

    def reports(self):
        with nscq.Nscq("faulty", lambda path: self) as session:
            return session.reports(NONCE)


def test_the_faultless_switch():
    library = FaultySwitches()
    (found,) = library.reports()
    assert (found.report, found.certificates, found.uuid) == (bytes(7), b"", "SWX-1") and library.destroyed == 1


@pytest.mark.parametrize("place", ["nscq_session_create", "nscq_session_set_input", "nscq_session_path_observe", "nscq_uuid_to_label", "uuid", "arch",
                                   "certificate", "attestation_report"])  # fmt: skip
@pytest.mark.parametrize("status", [*nscq.ERRORS, -9])
def test_every_error_of_nscq_is_told(place, status):
    assert refused(FaultySwitches({place: status}).reports).code.startswith(("switch-", "no-permission"))


def test_warnings_of_nscq_are_no_errors():
    assert len(FaultySwitches({"nscq_session_create": 1, "attestation_report": 1}).reports()) == 1


@pytest.mark.parametrize(
    "options",
    [{"answers": 0}, {"answers": 2}, {"size": 0}, {"size": 0x2001}, {"label": b""}, {"label": b"../x"}, {"label": b"\xff"}, {"arch": 1}, {"session": False}],
)
def test_answers_of_nscq_that_make_no_sense(options):
    assert refused(FaultySwitches(**options).reports).code in ("switch-error", "switch-not-supported")


def collect(devices, gpus="required", switches="auto", **options):
    return gpu_evidence.collect(NONCE, gpus, switches, devices.nvml, devices.nscq, **options)


def test_nothing_is_loaded_unless_asked():
    def never(path):
        raise AssertionError("loaded")

    assert gpu_evidence.collect(NONCE, open_nvml=never, open_nscq=never) == gpu_evidence.DeviceEvidence()
    assert refused(lambda: gpu_evidence.collect(NONCE, "none", "required", open_nvml=never, open_nscq=never)).code == "argument"


def test_items_of_a_system_in_protected_pcie_mode(devices):
    devices.become(gpus=8, switches=4, mode="ppcie")
    found = collect(devices, "auto")
    assert [item.type for item in found.items] == ["nvidia-gpu"] * 8 + ["nvidia-switch"] * 4
    assert [item.provider for item in found.items] == ["hopper"] * 8 + ["ls10"] * 4
    assert all(set(item.auxiliary) == {"certificates"} for item in found.items)
    assert [one["type"] for one in found.devices] == [item.type for item in found.items] and found.devices[0]["driver"] == "580.95.05"


def test_switches_are_asked_only_where_they_matter(devices):
    devices.become(switches=4, mode="spt")
    assert [item.type for item in collect(devices).items] == ["nvidia-gpu"]
    assert len(collect(devices, switches="required").items) == 5
    devices.become(gpus=8, switches=4, mode="ppcie")
    assert len(collect(devices, switches="none").items) == 8


def test_switches_that_are_missing_are_no_small_matter(devices):
    devices.become(gpus=8, switches=0, mode="ppcie")
    assert refused(lambda: collect(devices, "auto")).code == "switch-not-found"


def test_auto_and_required_where_there_is_nothing(devices):
    devices.behaviour = "gpu-cc-off"
    assert collect(devices, "auto").items == ()
    assert refused(lambda: collect(devices)).code == "gpu-cc-off"
    for number, code in ((9, "gpu-no-driver"), (28, "gpu-not-found")):
        faulty = Faulty(nvmlInit_v2=number)
        assert collect(devices, "auto", open_nvml=lambda path, faulty=faulty: nvml.Nvml(path, lambda name: faulty)).items == ()
        assert refused(lambda faulty=faulty: collect(devices, open_nvml=lambda path: nvml.Nvml(path, lambda name: faulty))).code == code
    assert gpu_evidence.collect(NONCE, "auto", nvml_library="libattested-does-not-exist.so").items == ()


@pytest.mark.parametrize("number", [4, 10, 15, 16, 18])
def test_auto_does_not_hide_a_device_that_fails(devices, number):
    faulty = Faulty(nvmlInit_v2=number)
    refused(lambda: collect(devices, "auto", open_nvml=lambda path: nvml.Nvml(path, lambda name: faulty)))


def test_old_gpus_are_none_for_auto(devices):
    faulty = Faulty(nvmlSystemGetConfComputeSettings=3, nvmlSystemGetConfComputeState=3)
    assert collect(devices, "auto", open_nvml=lambda path: nvml.Nvml(path, lambda name: faulty)).items == ()
    assert refused(lambda: collect(devices, open_nvml=lambda path: nvml.Nvml(path, lambda name: faulty))).code == "gpu-not-supported"
