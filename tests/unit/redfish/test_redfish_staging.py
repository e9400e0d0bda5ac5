# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs against the service: every vendor, interruption at every request, lost answers, and what the firmware does not take."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from bmc_support import REBOOTS, Clock, Interrupted, bring, desired, killed_after, service, state_of
from bmc.server import Service


@pytest.mark.parametrize("model", sorted(REBOOTS))
def test_every_vendor_comes_to_its_goal_in_stages_and_stays_there(model: str, tmp_path: Path) -> None:
    with service(model) as running:
        wish = desired(state_of(model))
        planned = bring(running, tmp_path, wish, check=True)
        assert planned.changed and planned.needs_reboot and running.machine.resets == 0 and not running.machine.pending
        assert all(method in ("GET", "DELETE") or path.endswith("/Sessions") for method, path in running.requests)
        made = bring(running, tmp_path, wish)
        assert made.changed and not made.needs_reboot
        assert made.reboots == running.machine.resets == REBOOTS[model]
        assert {want.attribute: running.machine.current[want.attribute] for want in made.wants} == {want.attribute: want.value for want in made.wants}
        count = len(running.requests)
        again = bring(running, tmp_path, wish)
        assert not again.changed and not again.needs_reboot and not again.trace and not again.before
        assert {method for method, path in running.requests[count:] if "/Sessions" not in path} == {"GET"}
        assert running.sessions == {}


@pytest.mark.parametrize("model", ["asrock-snp", "dell-snp", "dell-tdx", "hpe-snp", "lenovo-snp", "supermicro-tdx"])
def test_a_run_that_was_killed_at_any_request_is_finished_by_the_next(model: str) -> None:
    running = Service(model)
    bring(running, None, desired(state_of(model)))
    total, goal = len(running.requests), dict(running.machine.current)
    for number in range(total):
        running = Service(model)
        with pytest.raises(Interrupted):
            bring(running, None, desired(state_of(model)), wrap=killed_after(number))
        made = bring(running, None, desired(state_of(model)))
        assert running.machine.current == goal and not running.machine.pending and not made.needs_reboot, number
        # A kill in the middle of a boot may cost one more where the machine does not tell that it boots, never a loop.
        assert running.machine.resets <= REBOOTS[model] + (not running.machine.model.tells_boot), number
        assert not bring(running, None, desired(state_of(model)), check=True).changed, number


@pytest.mark.parametrize("model", ["asrock-snp", "dell-snp"])
@pytest.mark.parametrize("action", ["drop-before", "drop-after", "throttle", "busy", "forget-sessions"])
def test_each_answer_may_be_lost_or_late_once(model: str, action: str) -> None:
    running = Service(model)
    bring(running, None, desired(state_of(model)))
    goal, asked = dict(running.machine.current), list(running.requests)
    for number, (method, path) in enumerate(asked, 1):
        # What opens a session or resets is never sent twice: see below.
        if path.endswith(("/Sessions", "ComputerSystem.Reset")) and action.startswith("drop"):
            continue
        running = Service(model)
        running.faults.add(action, nth=number)
        bring(running, None, desired(state_of(model)))
        assert running.machine.current == goal, (number, method, path)
        assert running.machine.resets == REBOOTS[model], (number, method, path)


def test_a_connection_that_breaks_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        for number in (3, 8, 12):
            running.faults.add("cut", "GET", nth=number)
        bring(running, tmp_path, desired("snp"))
        assert running.machine.resets == 2


def test_a_reset_whose_answer_is_lost_is_not_sent_again(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        running.faults.add("drop-after", "POST", "ComputerSystem.Reset")
        made = bring(running, tmp_path, desired("snp"))
        assert running.machine.resets == 2 and made.reboots == 2
        assert "GracefulRestart, not answered" in [event["detail"] for event in made.trace]


def test_a_reset_that_never_arrived_ends_with_the_next_step_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        running.faults.add("drop-before", "POST", "ComputerSystem.Reset")
        with pytest.raises(RedfishError, match="not applied after 1800 seconds.*run it again") as caught:
            bring(running, tmp_path, desired("snp"))
        assert caught.value.code == "redfish-timeout" and running.machine.resets == 0
        made = bring(running, tmp_path, desired("snp"))
        assert running.machine.resets == 2 and [event["step"] for event in made.trace][0] == "reset"


@pytest.mark.parametrize("model", sorted(REBOOTS))
def test_without_reboot_ok_the_first_stage_waits_and_is_written_once(model: str, tmp_path: Path) -> None:
    with service(model) as running:
        first = bring(running, tmp_path, desired(state_of(model)), reboot_ok=False)
        assert first.changed and first.needs_reboot and first.before == first.after and running.machine.resets == 0
        assert first.pending_after == running.machine.pending
        again = bring(running, tmp_path, desired(state_of(model)), reboot_ok=False)
        assert not again.changed and again.needs_reboot and again.pending_before == again.pending_after == first.pending_after
        assert not bring(running, tmp_path, desired(state_of(model)), reboot_ok=False, check=True).changed
        # The user restarts the machine, and so on, until nothing is left.
        for _restart in range(REBOOTS[model]):
            running.machine.reset("ForceRestart")
            while running.machine.booting:
                running.machine.look()
            last = bring(running, tmp_path, desired(state_of(model)), reboot_ok=False)
        assert not last.changed and not last.needs_reboot and running.machine.resets == REBOOTS[model]


def test_none_takes_back_the_feature_and_leaves_the_rest(tmp_path: Path) -> None:
    with service("lenovo-tdx") as running:
        bring(running, tmp_path, desired("tdx"))
        made = bring(running, tmp_path, desired("none"))
        assert made.before == {"Processors_TrustDomainExtensionTDX": "Enabled"} and made.after == {"Processors_TrustDomainExtensionTDX": "Disabled"}
        assert running.machine.current["Processors_TotalMemoryEncryption"] == "Enabled"


def test_pending_values_of_somebody_else_are_told_and_one_that_would_undo_is_set_back(tmp_path: Path) -> None:
    with service("lenovo-snp") as running:
        bring(running, tmp_path, desired("snp"))
        running.machine.write({"Memory_SMEE": "Disabled"})
        planned = bring(running, tmp_path, desired("snp"), check=True)
        assert planned.changed and planned.stages[0].patch == {"Memory_SMEE": "Enabled"}
        bring(running, tmp_path, desired("snp"))
        assert running.machine.current["Memory_SMEE"] == "Enabled" and not running.machine.pending
    with service("dell-tdx") as running:
        running.machine.pending["AssetTag"] = "rack 7"
        assert bring(running, tmp_path, desired("tdx"), check=True).foreign == {"AssetTag": "rack 7"}


def test_what_the_firmware_drops_is_named_with_the_attribute(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        running.machine.stubborn = {"AmdSecureNestedPaging"}
        with pytest.raises(RedfishError, match="did not take AmdSecureNestedPaging=Enabled") as caught:
            bring(running, tmp_path, desired("snp"))
        assert caught.value.code == "redfish-not-taken"


def test_an_attribute_that_is_closed_for_good_stops_before_or_after_the_first_reboot(tmp_path: Path) -> None:
    import dataclasses

    with service("dell-tdx") as running:
        sgx = running.machine.attributes["IntelSgx"]
        stuck = dataclasses.replace(sgx, closed=(), stuck=True)
        running.machine.attributes["IntelSgx"] = stuck
        running.machine.model = dataclasses.replace(
            running.machine.model, attributes=tuple(stuck if attr is sgx else attr for attr in running.machine.model.attributes)
        )
        with pytest.raises(RedfishError, match="IntelSgx is read-only.*empty DIMM slots") as caught:
            bring(running, tmp_path, desired("tdx"))
        assert caught.value.code == "redfish-blocked"


@pytest.mark.parametrize(("kind", "count"), [("force", 2), ("power_cycle", 2)])
def test_the_kind_of_reset_is_the_users(kind: str, count: int, tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        made = bring(running, tmp_path, desired("snp"), reset_type=kind)
        assert running.machine.resets == count and made.reboots == 2
    with service("hpe-snp") as running:
        object.__setattr__(running.machine.model, "resets", running.machine.model.resets)
        running.machine.power = "Off"
        bring(running, tmp_path, desired("snp"), reset_type=kind)
        assert running.machine.power == "On"


def test_a_machine_that_knows_no_power_cycle_is_switched_off_and_on(tmp_path: Path) -> None:
    import dataclasses

    with service("hpe-snp") as running:
        running.machine.model = dataclasses.replace(running.machine.model, resets=("On", "ForceOff", "ForceRestart"))
        made = bring(running, tmp_path, desired("snp"), reset_type="power_cycle")
        assert [event["detail"] for event in made.trace if event["step"] == "reset"] == ["ForceOff", "On"] * 2
        with pytest.raises(RedfishError, match="no GracefulRestart, but On, ForceOff, ForceRestart.*reset_type"):
            bring(running, tmp_path, desired("none"))


def test_immediate_needs_leave_to_reboot(tmp_path: Path) -> None:
    with service("dell-tdx") as running:
        with pytest.raises(RedfishError, match="Set reboot_ok"):
            bring(running, tmp_path, desired("tdx"), reboot_ok=False, apply_time="immediate")
        assert not running.machine.pending
        bring(running, tmp_path, desired("tdx"), apply_time="immediate")
        assert running.machine.resets == 3 and running.machine.current["EnableTdxSeamldr"] == "Enabled"
        assert not [path for method, path in running.requests if "ComputerSystem.Reset" in path]


def test_settings_that_changed_meanwhile_are_planned_anew(tmp_path: Path) -> None:
    with service("nvidia-tdx") as running:

        def meddle(opener):
            def send(request):
                if request.method == "PATCH" and running.machine.version == 0:
                    running.machine.version += 1
                return opener(request)

            return send

        made = bring(running, tmp_path, desired("tdx"), wrap=meddle)
        assert made.trace[0]["step"] == "changed meanwhile" and running.machine.resets == 4


def test_the_session_that_a_restarted_controller_forgot_is_opened_anew(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        running.faults.add("forget-sessions", "GET", "/Bios", nth=6)
        bring(running, tmp_path, desired("snp"))
        assert running.logins == 2 and not running.sessions


def test_basic_authentication_where_there_are_no_sessions(tmp_path: Path) -> None:
    with service("hpe-snp", sessions=False) as running:
        bring(running, tmp_path, desired("snp"))
        assert running.machine.resets == 2
    with service("hpe-snp") as running:
        bring(running, tmp_path, desired("snp"), auth="basic")
        assert running.logins == 0


def test_a_controller_that_is_gone_while_the_machine_boots_is_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    with service("hpe-snp") as running:
        running.faults.add("drop-before", "GET", "/Systems/1", nth=12, times=9)
        bring(running, tmp_path, desired("snp"), clock=clock)
        assert running.machine.resets == 2


@pytest.mark.parametrize("model", sorted(REBOOTS))
def test_back_again_with_the_values_from_before(model: str) -> None:
    running = Service(model)
    assert not bring(running, None, desired("none")).changed, "there is nothing to turn off"
    untouched = dict(running.machine.current)
    # With a reboot by hand after each stage what is hidden at first is recorded as well.
    before: dict[str, object] = {}
    for _stage in range(REBOOTS[model]):
        planned = bring(running, None, desired(state_of(model)), reboot_ok=False, check=True)
        before = {**{name: value for name, value in running.machine.shown().items() if name in dict(planned.stages[0].changes)}, **before}
        bring(running, None, desired(state_of(model)), reboot_ok=False)
        running.machine.reset("ForceRestart")
        while running.machine.booting:
            running.machine.look()
    assert bring(running, None, desired(state_of(model)), check=True).stages == ()
    bring(running, None, desired("none", attributes=before))
    assert running.machine.current == untouched
    assert not bring(running, None, desired("none", attributes=before)).changed and not bring(running, None, desired("none")).changed


def test_check_mode_knows_of_a_job_that_is_missing() -> None:
    running = Service("dell-snp")
    running.machine.pending["Sme"] = "Enabled"
    assert bring(running, None, desired("snp"), reboot_ok=False, check=True).changed
    made = bring(running, None, desired("snp"), reboot_ok=False)
    assert made.changed and [event["step"] for event in made.trace] == ["job"]
    assert not bring(running, None, desired("snp"), reboot_ok=False, check=True).changed and not bring(running, None, desired("snp"), reboot_ok=False).changed


def test_the_next_stage_waits_for_the_end_of_the_boot_and_of_the_job() -> None:
    running = Service("dell-snp")
    real = running.resource
    slow = {"boot": 0, "job": 0}

    def resource(path: str) -> dict | None:
        found = real(path)
        if (
            found
            and path.endswith("/System.Embedded.1")
            and "BootProgress" in found
            and running.machine.resets == 1
            and running.machine.current["Sme"] == "Enabled"
            and slow["boot"] < 4
        ):
            slow["boot"] += 1
            found["BootProgress"] = {"LastState": "PCIResourceConfigStarted"}
        if found and "/Jobs/" in path and found["JobState"] == "Completed" and slow["job"] < 3:
            slow["job"] += 1
            return {**found, "JobState": "Running"}
        return found

    running.resource = resource
    made = bring(running, None, desired("snp"))
    assert running.machine.resets == made.reboots == 3 and slow == {"boot": 4, "job": 3}
