# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver's tools say, over recorded outputs: modes, ready state, topologies, and failures by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.conf_compute import parse_query, parse_ready
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.diagnosis import FAILURES, diagnose
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.look import driver_of
from ansible_collections.attested.ai.plugins.module_utils.target.gpu_guest.ready import apply, plan, ready_state, require_attested

from .guests_lab import GRS_NOT_READY, GRS_READY, LOGS, OPEN, PROPRIETARY, SMI_AZURE, SMI_OFF, SMI_PPCIE, SMI_WAITS


def names(found):
    return [one.failure.id for one in found]


def test_the_mode_is_read_as_the_driver_means_it():
    # In protected PCIe mode the feature is off, and that is right.
    ppcie = parse_query(SMI_PPCIE)
    assert (ppcie.mode, ppcie.feature, ppcie.ready, ppcie.cpu) == ("ppcie", False, True, "INTEL TDX")
    azure = parse_query(SMI_AZURE)
    assert (azure.mode, azure.devtools, azure.multi_gpu, azure.cpu) == ("on", False, "none", "AMD SEV-SNP(vTOM Mode)")
    assert parse_query(SMI_AZURE.replace("DevTools Mode : OFF", "DevTools Mode : ON")).mode == "devtools"
    assert (parse_query(SMI_OFF).mode, parse_query(SMI_WAITS).mode, parse_query(SMI_WAITS).ready) == ("off", "on", False)
    assert parse_query("").mode is None and parse_query("CC State : maybe\n").mode is None
    # A word that nobody has seen yet is kept and decides nothing.
    assert parse_query(SMI_AZURE.replace("Mode : None", "Mode : NVLE", 1)).multi_gpu == "NVLE"


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        (GRS_READY, True),
        (GRS_NOT_READY, False),
        ("Confidential Compute GPUs Ready state: Ready\n", True),
        ("CC GPUs Ready State : Not Ready\n", False),
        ("", None),
        ("Confidential Compute GPUs Ready state: perhaps\n", None),
        ("No CC capable devices found\n", None),
    ],
)
def test_the_ready_state_is_read_in_all_its_spellings(text, ready):
    assert parse_ready(text) is ready


@pytest.mark.parametrize(
    ("thread", "first", "others"),
    [
        ("nvtrust#128", "gsp-offload-off", ["session-lost", "adapter"]),
        ("nvtrust#124", "switch-links", ["adapter"]),
        ("nvtrust#58", "fsp-boot", ["adapter"]),
        ("nvtrust#54", "gsp-decrypt", []),
        ("nvtrust#67", "unsupported-driver", []),
        ("aleph-vm#1271", "lkca-stubs", []),
    ],
)
def test_recorded_logs_are_named_cause_first(thread, first, others):
    found = diagnose(log=["systemd[1]: Started a service", *LOGS[thread]])
    assert names(found) == [first, *others]
    assert found[0].line in LOGS[thread] and found[0].failure.fix and thread.split("#")[1] in found[0].failure.source


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        ({"application": "RuntimeError: CUDA error: system not yet initialized"}, "error-802"),
        ({"application": "cuInit failed with error 802"}, "error-802"),
        ({"application": "CUDA_ERROR_SYSTEM_NOT_READY"}, "error-802"),
        ({"smi": "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.126\n"}, "version-mismatch"),
        ({"smi": "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure"}, "no-driver"),
        ({"smi": "No devices were found"}, "no-devices"),
        ({"smi": "No CC capable devices found."}, "not-capable"),
        ({"smi": "Could not Enable UVM Persistence mode becausethe NVLink fabric is not ready"}, "fabric-not-ready"),
        ({"log": ["NVRM: nvAssertOkFailedNoLog: returned NV_ERR_NVLINK_FABRIC_NOT_READY"]}, "fabric-not-ready"),
        ({"log": ["fabric manager NVIDIA GPU driver interface version 550.90.07 don't match with driver version 550.107.02."]}, "fabric-manager-version"),
        ({"log": ["failed with error:WARNING Nothing to do [NV_WARN_NOTHING_TO_DO]"]}, "fabric-nothing"),
        ({"log": ["NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus."]}, "fallen-off"),
    ],
)
def test_single_messages_are_named(texts, name):
    assert names(diagnose(**texts)) == [name]


def test_a_good_machine_has_no_findings():
    assert (
        diagnose(
            ["nvidia: loading out-of-tree module taints kernel.", "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05"], SMI_PPCIE + GRS_READY
        )
        == []
    )
    # Words of an application are not looked for in the log, where others may have written them.
    assert diagnose(log=["system not yet initialized"]) == []


def test_every_failure_names_cause_step_and_source_once():
    assert len({failure.id for failure in FAILURES}) == len(FAILURES)
    for failure in FAILURES:
        assert failure.what and failure.fix and failure.source and failure.where, failure.id
        # No report at hand is said, not hidden.
        assert failure.mark or not failure.source.startswith("NVIDIA's"), failure.id


@given(st.lists(st.text(max_size=80), max_size=5), st.text(max_size=200), st.text(max_size=200))
def test_no_text_stops_them(log, smi, application):
    for one in diagnose(log, smi, application):
        assert len(one.line) <= 200
    parse_query(smi), parse_ready(smi)


def test_the_driver_is_told_open_from_proprietary():
    assert driver_of(OPEN) == {"version": "580.95.05", "open": True}
    assert driver_of(PROPRIETARY) == {"version": "550.135", "open": False}
    assert driver_of("something else") == {"version": "", "open": False}


# --- ready state ---
GPU = {"tee": "nvidia-gpu", "accepted": True}
RESULT = {"accepted": True, "authentic": True, "nonce": "bm9uY2U=", "submods": {"cpu0": {"tee": "tdx", "accepted": True}, "gpu0": GPU}}


@pytest.mark.parametrize(
    ("result", "gpus", "words"),
    [
        (None, 1, "only after they were attested"),
        ({**RESULT, "accepted": False}, 1, "was refused"),
        ({**RESULT, "accepted": "yes"}, 1, "was refused"),
        ({**RESULT, "authentic": None}, 1, "was refused"),
        ({**RESULT, "nonce": None}, 1, "no nonce"),
        (RESULT, 8, "of 1 GPUs, and the guest has 8"),
        (RESULT, 0, "of 1 GPUs, and the guest has 0"),
        ({**RESULT, "submods": {"cpu0": {"tee": "tdx", "accepted": True}}}, 1, "of 0 GPUs"),
        ({**RESULT, "submods": {"gpu0": {**GPU, "accepted": False}}}, 1, "of 0 GPUs"),
        ({**RESULT, "submods": []}, 1, "of 0 GPUs"),
    ],
)
def test_no_gpu_is_set_ready_without_an_attestation_of_all(result, gpus, words):
    with pytest.raises(HostError, match=words) as error:
        require_attested(result, gpus)
    assert error.value.code == "gpu-not-attested"


def test_an_attestation_of_all_is_enough():
    require_attested(RESULT, 1)
    require_attested({**RESULT, "submods": {f"gpu{index}": GPU for index in range(8)}}, 8)


class Smi:
    """nvidia-smi with a state. ``stuck`` takes the command and does nothing."""

    def __init__(self, ready=False, stuck=False, output=None, rc=0):
        self.ready, self.stuck, self.output, self.rc, self.set = ready, stuck, output, rc, []

    def __call__(self, argv):
        assert argv[:2] == ("smi", "conf-compute")
        if argv[2] == "-srs":
            self.set.append(argv[3])
            self.ready = self.ready if self.stuck else argv[3] == "1"
            return 0, ""
        if self.output is not None:
            return self.rc, self.output
        return 0, (GRS_READY if self.ready else GRS_NOT_READY) if argv[2] == "-grs" else ""


def test_the_state_is_set_once_and_read_again():
    smi = Smi()
    change = plan(smi, "smi", True)
    assert change.needed and not smi.set
    apply(smi, "smi", change)
    assert smi.set == ["1"] and not plan(smi, "smi", True).needed
    apply(smi, "smi", plan(smi, "smi", False))
    assert smi.set == ["1", "0"] and not smi.ready


def test_a_state_that_does_not_come_is_a_failure():
    smi = Smi(stuck=True)
    with pytest.raises(HostError, match="did not become ready"):
        apply(smi, "smi", plan(smi, "smi", True))


@pytest.mark.parametrize(
    ("output", "rc", "words"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", 18, "different versions"),
        ("No CC capable devices found", 6, "none of the GPUs"),
        ("", 1, "it says nothing"),
        ("GPUs Ready state: ready", 1, "cannot be told"),
    ],
)
def test_an_unknown_state_is_no_state(output, rc, words):
    with pytest.raises(HostError, match=words) as error:
        ready_state(Smi(output=output, rc=rc), "smi")
    assert error.value.code == "gpu-state"


def test_a_missing_tool_is_named():
    def run(_argv):
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(HostError) as error:
        ready_state(run, "nvidia-smi")
    assert error.value.code == "gpu-no-driver" and "nvidia-smi" in str(error.value)
