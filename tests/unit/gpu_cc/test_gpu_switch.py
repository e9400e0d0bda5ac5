# SPDX-License-Identifier: GPL-3.0-or-later
"""Switching modes: what is planned for which machine, faults at every step, going back, quarantine, interruption and repair."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import marker, switch
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.machine import LocalBench
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.switch import SwitchError
from gpu_lab import Inside, Killed, prepared, record, refused, switched

GPU, SECOND = "0000:19:00.0", "0000:2a:00.0"
CC_ON = ["--devices", "0000:3a:00.0", "--set-cc-mode=on", "--reset-after-cc-mode-switch"]


def sets(machine):
    return [call for call in machine.calls() if any(word.startswith("--set") for word in call)]


# what is planned


def test_a_single_gpu_is_set_once_and_then_left_alone(machine):
    one = machine("h100")
    assert switched(one, "on").state == "switched" and set(one.modes().values()) == {"on"} and sets(one) == [CC_ON]
    assert switched(one, "on").state == "as-wanted" and sets(one) == [CC_ON]
    assert record(one).state == "settled" and record(one).devices == {"0000:3a:00.0": "on"}


@pytest.mark.parametrize("name", ["hgx-h100", "hgx-h200"])
def test_eight_hopper_gpus_go_to_ppcie_with_their_switches(machine, name):
    hgx = machine(name)
    outcome = switched(hgx, "ppcie", expect_gpus=8, expect_switches=4)
    assert set(hgx.modes().values()) == {"ppcie"} and len(outcome.devices) == 12 and len(sets(hgx)) == 12


def test_from_cc_to_ppcie_the_other_mode_goes_off_first_with_its_own_reset(machine):
    hgx = machine("hgx-h100")
    switched(hgx, "on")
    assert {device.modes()[GPU] for device in [hgx]} == {"on"} and hgx.modes()["0000:03:00.0"] == "off"
    before = len(sets(hgx))
    switched(hgx, "ppcie")
    assert [call[2] for call in sets(hgx)[before:] if call[1] == GPU] == ["--set-cc-mode=off", "--set-ppcie-mode=on"]
    before = len(sets(hgx))
    switched(hgx, "devtools")
    assert [call[2] for call in sets(hgx)[before:] if call[1] == GPU] == ["--set-ppcie-mode=off", "--set-cc-mode=devtools"]
    assert hgx.modes()[GPU] == "devtools" and hgx.modes()["0000:03:00.0"] == "off"


def test_several_blackwell_gpus_are_on_and_never_ppcie(machine):
    b200 = machine("hgx-b200")
    assert refused(b200, "ppcie").code == "gpu-mode-unsupported" and not sets(b200)
    assert switched(b200, "on").state == "switched" and set(b200.modes().values()) == {"on"}
    assert not any("ppcie" in word for call in b200.calls() for word in call)


@pytest.mark.parametrize(
    ("name", "mode", "code"),
    [
        ("mixed", "on", "gpu-mixed"), ("mixed", "devtools", "gpu-mixed"), ("unknown", "on", "gpu-unknown"), ("a100", "on", "gpu-mode-unsupported"),
        ("none", "on", "gpu-none"), ("h100", "ppcie", "gpu-topology"), ("rtx", "ppcie", "gpu-mode-unsupported"), ("unknown", "off", "gpu-unknown"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_touched(machine, name, mode, code):
    strange = machine(name)
    error = refused(strange, mode)
    assert error.code == code and not sets(strange) and not (strange.root / "var/lib/attested-ai/gpu-cc/state.json").exists()


def test_off_is_the_way_back_for_a_machine_of_several_generations(machine):
    mixed = machine("mixed")
    mixed.change("0000:c1:00.0", cc=1, knobs={"ccm": 1, "ccd": 0, "ppcie": 0})
    assert switched(mixed, "off").state == "switched" and set(mixed.modes().values()) == {"off"}


def test_an_architecture_can_be_named_for_a_device_that_is_not_known(machine):
    new = machine("unknown")
    new.change("0000:41:00.0", architecture="blackwell")
    assert switched(new, "on", architectures={"0x3fff": "blackwell"}).state == "switched"
    assert refused(new, "on", architectures={"0x3fff": "rubin"}).code == "gpu-address"


def test_a_part_of_a_machine_is_set_only_to_where_the_rest_is(machine):
    b200 = machine("hgx-b200")
    assert refused(b200, "on", devices=[GPU]).code == "gpu-partial" and not sets(b200)
    assert switched(b200, "on", devices=[GPU], allow_partial=True).state == "switched" and list(b200.modes().values()).count("on") == 1
    assert switched(b200, "on").state == "switched" and len(sets(b200)) == 8
    b200.change(GPU, cc=0, knobs={"ccm": 0, "ccd": 0, "ppcie": 0})
    assert switched(b200, "on", devices=["19:00.0"]).state == "switched" and set(b200.modes().values()) == {"on"}


@pytest.mark.parametrize("expected", [{"expect_gpus": 7}, {"expect_switches": 5}, {"devices": ["0000:ff:00.0"]}])
def test_a_device_that_should_be_there_is_missed(machine, expected):
    assert refused(machine("hgx-h100"), "ppcie", **expected).code == "gpu-vanished"


def test_seven_of_eight_gpus_are_no_baseboard(machine):
    hgx = machine("hgx-h100")
    hgx.fault(GPU, "start", "vanish")
    Inside(hgx).ask(("--devices", GPU))
    assert refused(hgx, "ppcie").code == "gpu-topology"


def test_a_device_that_fell_off_the_bus_is_named(machine):
    one = machine("h100")
    (one.root / "sys/bus/pci/devices/0000:3a:00.0/config").write_bytes(b"\xff" * 64)
    assert refused(one, "on").code == "gpu-lost"


def test_old_firmware_is_refused(machine):
    hgx = machine("hgx-h100")
    assert refused(hgx, "ppcie", hgx_firmware="1.6.0").code == "gpu-firmware" and not sets(hgx)
    assert refused(hgx, "ppcie", hgx_firmware="new").code == "gpu-firmware"
    assert not prepared(hgx, "ppcie", hgx_firmware="1.10.0").warnings
    one = machine("h100")
    one.put("proc/driver/nvidia/gpus/0000:3a:00.0/information", "Model: H100\nVideo BIOS: \t 96.00.30.00.01\n")
    assert refused(one, "on").code == "gpu-firmware"


# who uses a device, and what the ground is like


def test_a_device_in_use_is_never_touched(machine):
    one = machine("h100")
    one.tenant("0000:3a:00.0")
    error = refused(one, "on")
    assert error.code == "gpu-busy" and "virtual machine tenant (pid 4711)" in str(error) and "s3cr3t" not in str(error) and one.calls() == []


def test_a_machine_that_runs_in_the_right_mode_is_left_running(machine):
    b200 = machine("hgx-b200")
    switched(b200, "on")
    calls = len(b200.calls())
    for device in b200.devices:
        b200.tenant(device.bdf, pid=5000 + int(device.bdf[5:7], 16))
    assert switched(b200, "on").state == "as-wanted" and len(b200.calls()) == calls, "by what was verified last; nobody is disturbed"
    assert refused(b200, "off").code == "gpu-busy" and len(b200.calls()) == calls


@pytest.mark.parametrize("driver", ["nvidia", "nouveau", "nova_core"])
def test_a_driver_of_the_host_is_refused(machine, driver):
    one = machine("h100")
    one.drive("0000:3a:00.0", driver)
    assert refused(one, "on").code == "gpu-driver" and not sets(one)
    assert not any("settings" in word for call in one.calls() for word in call), "the security processor is left to the driver"


def test_kernel_lockdown_is_named(machine):
    one = machine("h100")
    one.put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert refused(one, "on").code == "gpu-lockdown" and not sets(one)
    one.fault("0000:3a:00.0", "start", "lockdown")
    assert refused(one, "on").code == "gpu-lockdown"


def test_a_mode_that_is_locked_to_the_management_controller_is_not_tried(machine):
    one = machine("h100")
    one.change("0000:3a:00.0", inband=0)
    assert refused(one, "on").code == "gpu-out-of-band" and not sets(one)


def test_a_node_whose_mode_the_gpu_operator_owns_is_left_to_it(machine):
    one = machine("h100")
    one.put("run/nvidia/validations/.cc-manager-ctr-ready", "")
    assert refused(one, "on").code == "gpu-owned" and not sets(one)


def test_a_virtual_function_is_refused(machine):
    one = machine("h100")
    one.put("sys/bus/pci/devices/0000:3a:00.0/physfn/vendor", "0x10de\n")
    assert refused(one, "on").code == "gpu-virtual"


def test_two_runs_do_not_meet(machine):
    one = machine("h100")
    with Inside(one).alone():
        assert refused(one, "on").code == "gpu-locked"
    assert switched(one, "on").state == "switched"


# faults, going back, quarantine

FAULTS = [
    ("set", "fsp", "gpu-firmware-refused"), ("reset", "reset-fails", "gpu-reset-failed"), ("after-reset", "no-answer", "gpu-no-answer"),
    ("knob:ccm", "hang", "gpu-tool-hung"), ("knob:ccm", "die", "gpu-tool-failed"), ("after-reset", "die", "gpu-tool-failed"),
    ("reset", "hang", "gpu-tool-hung"),
]  # fmt: skip


@pytest.mark.parametrize(("at", "do", "code"), FAULTS)
@pytest.mark.parametrize("bdf", [GPU, "0000:90:00.0"])
def test_a_fault_takes_all_devices_back(machine, at, do, code, bdf):
    b200 = machine("hgx-b200")
    b200.fault(bdf, at, do)
    error = refused(b200, "on")
    assert isinstance(error, SwitchError) and (error.code, error.state) == (code, "rolled-back")
    assert set(b200.modes().values()) == {"off"} and all(not any(data["knobs"].values()) for data in b200.state.values())
    assert record(b200).state == "settled" and [row["after"] for row in error.devices] == ["off"] * 8
    assert switched(b200, "on").state == "switched"


@pytest.mark.parametrize(("at", "do"), [("set", "fsp"), ("reset", "reset-fails"), ("start", "hang")])
def test_where_going_back_fails_too_the_machine_is_quarantined(machine, at, do):
    hgx = machine("hgx-h100")
    switched(hgx, "on")
    hgx.fault("0000:3b:00.0", at, do, always=True, skip=3 if at == "start" else 1)
    if at == "start":
        # It still answers when it is read and set, and hangs from then on.
        hgx.fault("0000:3b:00.0", "knob:ccm", "die")
    error = refused(hgx, "ppcie")
    assert isinstance(error, SwitchError) and error.state == "quarantined" and "clear_quarantine" in error.fix
    assert record(hgx).state == "quarantined" and record(hgx).devices[GPU] == "on"
    assert len(set(hgx.modes().values())) > 1, "this is why"
    calls = len(hgx.calls())
    for mode in ("on", "ppcie", "off"):
        assert refused(hgx, mode).code == "gpu-quarantined"
    assert len(hgx.calls()) == calls, "no later run touches it"
    hgx.change("0000:3b:00.0", faults=[])
    assert switched(hgx, "ppcie", clear_quarantine=True).state == "repaired" and set(hgx.modes().values()) == {"ppcie"}
    assert record(hgx).state == "settled" and switched(hgx, "ppcie").state == "as-wanted"


def test_a_device_that_resets_and_stays_as_it_was_is_noticed(machine):
    one = machine("h100")
    one.fault("0000:3a:00.0", "reset", "stuck")
    error = refused(one, "on")
    assert (error.code, error.state) == ("gpu-not-switched", "rolled-back") and not any(one.state["0000:3a:00.0"]["knobs"].values())


def test_a_device_that_vanishes_half_way_is_named(machine):
    b200 = machine("hgx-b200")
    b200.fault("0000:5d:00.0", "reset", "vanish")
    error = refused(b200, "on")
    assert error.state == "quarantined" and "0000:5d:00.0" in str(error) and record(b200).state == "quarantined"
    assert [mode for bdf, mode in b200.modes().items()] == ["off"] * 7, "the others are back"
    assert refused(b200, "on", clear_quarantine=True).code == "gpu-vanished", "it is missed as long as it is away"


def test_a_tenant_that_comes_between_the_check_and_the_act_stops_it(machine):
    b200 = machine("hgx-b200")
    b200.change(GPU, tenant=SECOND)
    b200.fault(GPU, "after-reset", "tenant")
    error = refused(b200, "on")
    assert (error.code, error.state) == ("gpu-busy", "rolled-back") and set(b200.modes().values()) == {"off"}
    assert not any(call[1] == SECOND for call in sets(b200)), "the tenant's device was not touched"


def test_a_tenant_on_a_device_that_was_already_set_cannot_be_rolled_back(machine):
    b200 = machine("hgx-b200")
    b200.fault(GPU, "after-reset", "tenant")
    b200.fault(SECOND, "set", "fsp")
    error = refused(b200, "on")
    assert error.state == "quarantined" and "virtual machine tenant" in str(error) and b200.modes()[GPU] == "on"


def test_groups_are_held_open_meanwhile(machine, monkeypatch):
    import errno
    import os

    one = machine("h100")
    real = os.open

    def busy(path, *args, **options):
        if str(path).endswith("dev/vfio/40"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", busy)
    error = refused(one, "on")
    assert error.code == "gpu-busy" and not sets(one) and record(one).state == "settled"


def test_firmware_without_ppcie_is_named(machine):
    hgx = machine("hgx-h100")
    hgx.change("0000:4c:00.0", ppcie_firmware=False)
    error = refused(hgx, "ppcie")
    assert (error.code, error.state) == ("gpu-firmware", "rolled-back") and set(hgx.modes().values()) == {"off"}


# interruption and repair

INTERRUPTIONS = ["start", "set", "knob:ppcie", "knob:ccm", "knob:ccd", "reset", "after-reset"]


@pytest.mark.parametrize("at", INTERRUPTIONS)
@pytest.mark.parametrize("mode", ["on", "devtools"])
def test_a_run_that_was_killed_is_repaired_by_the_next(machine, at, mode):
    b200 = machine("hgx-b200")
    b200.fault("0000:3b:00.0", at, "die-whole", skip=2 if at == "start" else 0)
    with pytest.raises(Killed):
        switched(b200, mode)
    assert record(b200).state == "switching" and record(b200).desired == mode
    assert prepared(b200, mode).change.repair and record(b200).state == "switching", "check mode tells, and leaves the record"
    assert switched(b200, mode).state == "repaired" and set(b200.modes().values()) == {mode}
    assert record(b200).state == "settled" and switched(b200, mode).state == "as-wanted"


@pytest.mark.parametrize("at", ["set", "knob:ccm", "knob:ppcie", "reset", "after-reset"])
def test_a_killed_switch_can_be_taken_back_as_well(machine, at):
    hgx = machine("hgx-h100")
    switched(hgx, "on")
    hgx.fault("0000:3b:00.0", at, "die-whole")
    with pytest.raises(Killed):
        switched(hgx, "ppcie")
    assert switched(hgx, "on").state == "repaired"
    assert {hgx.modes()[device.bdf] for device in hgx.devices if device.kind == "gpu"} == {"on"} and hgx.modes()["0000:03:00.0"] == "off"


def test_a_fault_during_a_repair_goes_back_to_where_it_all_began(machine):
    b200 = machine("hgx-b200")
    b200.fault("0000:3b:00.0", "reset", "die-whole")
    with pytest.raises(Killed):
        switched(b200, "on")
    b200.fault("0000:90:00.0", "set", "fsp")
    error = refused(b200, "on")
    assert error.state == "rolled-back" and set(b200.modes().values()) == {"off"} and record(b200).state == "settled"


@pytest.mark.parametrize("mode", ["on", "off", "devtools"])
def test_the_state_that_an_interrupted_tool_leaves_is_set_again(machine, mode):
    """Only the developer bit (0x2): gpu-admin-tools#7."""
    one = machine("h100")
    one.change("0000:3a:00.0", cc=2, knobs={"ccm": 0, "ccd": 1, "ppcie": 0})
    assert prepared(one, mode).change.devices[0].reading.mode == "invalid"
    assert switched(one, mode).state == "switched" and set(one.modes().values()) == {mode}


def test_a_setting_that_waits_for_its_reset_is_seen(machine):
    one = machine("h100")
    one.change("0000:3a:00.0", knobs={"ccm": 1, "ccd": 0, "ppcie": 0})
    plan = prepared(one, "off").change
    assert plan.needed and "on after the next reset" in plan.text(after=False)
    assert switched(one, "off").state == "switched" and one.state["0000:3a:00.0"]["knobs"]["ccm"] == 0


def test_a_half_switched_machine_is_made_whole(machine):
    hgx = machine("hgx-h100")
    for device in hgx.devices[:6]:
        hgx.change(device.bdf, ppcie=1, knobs={"ccm": 0, "ccd": 0, "ppcie": 1})
    assert switched(hgx, "ppcie").state == "switched" and set(hgx.modes().values()) == {"ppcie"} and len(sets(hgx)) == 6


def test_a_run_that_is_killed_for_real_leaves_the_record_and_the_tool_keeps_the_lock(machine):
    """With real processes: the run dies, the tool does, and the next run repairs."""
    one = machine("h100")
    one.fault("0000:3a:00.0", "reset", "die-whole")
    process = multiprocessing.get_context("fork").Process(target=lambda: switched(one, "on", LocalBench(str(one.tool), 20, str(one.root))))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL and record(one).state == "switching" and set(one.modes().values()) == {"off"}
    assert once_free(one, "on") == "repaired" and set(one.modes().values()) == {"on"}


def once_free(machine, mode):
    """What a switch comes to as soon as the tool of the run that was killed has let go of the lock."""
    for _attempt in range(600):
        try:
            return switched(machine, mode, LocalBench(str(machine.tool), 20, str(machine.root))).state
        except HostError as error:
            assert error.code == "gpu-locked"
            time.sleep(0.05)
    raise AssertionError("the lock is still held")


def test_a_tool_that_outlives_its_run_ends_what_it_began_and_keeps_others_out(machine):
    """The run is killed while the tool is at work: nothing of what the tool does is lost, and no other run meets it."""
    one = machine("h100")
    one.fault("0000:3a:00.0", "reset", "orphan")
    process = multiprocessing.get_context("fork").Process(target=lambda: switched(one, "on", LocalBench(str(one.tool), 20, str(one.root))))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert refused(one, "on", LocalBench(str(one.tool), 20, str(one.root))).code == "gpu-locked"
    (one.folder / "go").touch()
    assert once_free(one, "on") == "repaired" and set(one.modes().values()) == {"on"}
    assert len([call for call in one.calls() if any("--set" in word for word in call)]) == 1, "the tool had done it all"


def test_a_tool_that_really_hangs_is_ended(machine):
    one = machine("h100")
    one.fault("0000:3a:00.0", "set", "hang")
    error = refused(one, "on", LocalBench(str(one.tool), 6, str(one.root)))
    assert (error.code, error.state) == ("gpu-tool-hung", "rolled-back")


# the record


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": "x"}', '{"schema": "attested.ai/gpu-cc-state/1", "state": "settled"}', "[" * 5000,
             json.dumps({"schema": marker.SCHEMA, "state": "switching", "devices": {"x": "on"}})],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_a_quarantine(machine, text):
    one = machine("h100")
    one.put("var/lib/attested-ai/gpu-cc/state.json", text)
    assert refused(one, "on").code == "gpu-quarantined" and one.calls() == []
    assert switched(one, "on", clear_quarantine=True).state == "repaired" and record(one).state == "settled"


def test_a_record_comes_back_as_it_was_written():
    written = marker.Marker("switching", "on", "2026-11-27T18:00:00Z", "because", {"0000:3a:00.0": "off"})
    assert marker.parse(written.dump()) == written and marker.parse(None) == marker.Marker()


def test_a_full_disk_stops_before_anything_is_set(machine, monkeypatch):
    import os

    one = machine("h100")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refused(one, "on").code in ("gpu-state-file", "gpu-denied") and not sets(one)


@pytest.mark.parametrize(("mode", "fault", "state"), [("on", "", "unrecorded"), ("on", "fsp", "rolled-back")])
def test_a_disk_that_fills_up_half_way_is_told_and_repaired(machine, monkeypatch, mode, fault, state):
    import os

    pair, calls = machine("rtx"), []

    def full(_descriptor):
        calls.append(1)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")

    if fault:
        pair.fault("0000:2a:00.0", "set", fault)
    monkeypatch.setattr(os, "fsync", full)
    error = refused(pair, mode)
    assert error.state == state and "No space left on device" in str(error) and record(pair).state == "switching"
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    assert switched(pair, mode).state == "repaired" and record(pair).state == "settled"


def test_check_mode_keeps_out_of_the_way_of_a_run(machine):
    one = machine("h100")
    bench = Inside(one)
    with bench.alone(create=False):
        assert not (one.root / "var/lib").exists(), "nothing is made"
    with Inside(one).alone(), pytest.raises(Exception, match="another run"), bench.alone(create=False):
        pass


def test_a_device_that_is_not_asked_for_may_be_in_use(machine):
    pair = machine("rtx")
    pair.tenant("0000:19:00.0")
    assert refused(pair, "on", devices=["0000:2a:00.0"]).code == "gpu-busy"
    assert switched(pair, "on", devices=["0000:2a:00.0"], allow_partial=True).state == "switched"


def test_the_plan_tells_what_apply_does(machine):
    b200 = machine("hgx-b200")
    plan = prepared(b200, "on").change
    assert switch.planned(plan).state == "switched" and plan.text(after=True).count(": on\n") == 8 and not sets(b200)
    assert [row["after"] for row in switch.planned(plan).devices] == [row["after"] for row in switched(b200, "on").devices]
