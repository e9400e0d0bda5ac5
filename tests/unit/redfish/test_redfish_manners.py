# SPDX-License-Identifier: GPL-3.0-or-later
"""What controllers do between right and wrong: long job queues, jobs of others, values that they forget or spell otherwise, licences, slow answers."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish import maps
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client, Credentials, Patience
from ansible_collections.attested.ai.plugins.module_utils.redfish.planner import plan
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import closed_by, parse_registry, same
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Goal, Want, choose_value, resolve
from ansible_collections.attested.ai.plugins.module_utils.redfish.wire import Address, Request, Response, make_opener
from bmc.machine import Refused
from bmc.server import Service
from bmc_support import REBOOTS, bring, desired, state_of

SUPERMICRO, DELL, HPE = (maps.load_vendor(key) for key in ("supermicro", "dell", "hpe"))


def answering(running: Service, change: Callable[[str, dict], dict | None]) -> Service:
    """The service with its resources changed on the way out."""
    real = running.resource

    def resource(path: str) -> dict | None:
        found = real(path)
        return change(path, found) if found is not None else None

    running.resource = resource
    return running


def entry(name: str, *values: str, **more: object) -> dict:
    return {"AttributeName": name, "Type": "Enumeration", "Value": [{"ValueName": value} for value in values or ("Disabled", "Enabled")], **more}


def registry(*entries: dict, rules: tuple[dict, ...] = ()):
    return parse_registry({"RegistryEntries": {"Attributes": list(entries), "Dependencies": list(rules)}}, "here")


# jobs


def test_a_long_queue_of_old_jobs_is_read_to_its_end_and_each_of_them_once() -> None:
    running = Service("dell-snp")
    running.machine.jobs += [{"Id": f"JID_{number}", "JobType": "FirmwareUpdate", "JobState": "Completed"} for number in range(120)]
    assert bring(running, None, desired("snp")).reboots == REBOOTS["dell-snp"]
    made = [job for job in running.machine.jobs if job["JobType"] == "BIOSConfiguration"]
    assert len(made) == 3 and all(job["JobState"] == "Completed" for job in made)
    for number in (0, 60, 119):
        assert sum(path.endswith(f"/JID_{number}") for _method, path in running.requests) == 1


@pytest.mark.parametrize("model", ["dell-tdx", "dell-snp"])
def test_a_job_of_somebody_else_is_applied_first(model: str) -> None:
    running = Service(model)
    attr = running.machine.attributes["AssetTag" if model == "dell-tdx" else "ProcX2Apic"]
    running.machine.write({attr.name: "rack 7" if not attr.values else "Disabled"}, "OnReset")
    with pytest.raises(RedfishError, match="a job waits.*Restart the machine") as caught:
        bring(running, None, desired(state_of(model)), reboot_ok=False)
    assert caught.value.code == "redfish-job" and running.machine.resets == 0
    made = bring(running, None, desired(state_of(model)))
    assert running.machine.resets == REBOOTS[model] + 1 and not running.machine.pending
    assert not bring(running, None, desired(state_of(model))).changed and made.changed
    assert running.machine.current["ProcX2Apic"] == "Enabled" and running.machine.current.get("AssetTag", "rack 7") == "rack 7"


def test_a_job_that_is_at_work_is_waited_for_and_not_cut_off_by_a_reset() -> None:
    running = Service("dell-snp")
    running.machine.write({"Sme": "Enabled"}, "OnReset")
    running.machine.jobs[0]["JobState"] = "Running"
    looks = 0

    def look(path: str, found: dict) -> dict:
        nonlocal looks
        if path.endswith("/System.Embedded.1"):
            looks += 1
            if looks == 4:
                running.machine.jobs[0]["JobState"] = "Completed"
                running.machine.current["Sme"] = "Enabled"
                running.machine.pending = {}
            assert running.machine.resets == 0 or looks > 4
        return found

    bring(answering(running, look), None, desired("snp"))
    assert running.machine.resets == 2 and running.machine.current["Rmp"] == "Enabled"


# what was written


def test_a_value_that_was_accepted_and_forgotten_is_not_called_pending() -> None:
    running = Service("lenovo-snp")
    running.machine.deaf = {"Memory_SMEE"}
    with pytest.raises(RedfishError, match="Memory_SMEE.*not shown as pending") as caught:
        bring(running, None, desired("snp"), reboot_ok=False)
    assert caught.value.code == "redfish-not-taken"
    with pytest.raises(RedfishError, match="did not take Memory_SMEE=Enabled"):
        bring(running, None, desired("snp"))


def test_a_value_that_is_shown_as_pending_late_is_waited_for() -> None:
    running = Service("lenovo-snp")
    late = {"looks": 0}

    def hold(path: str, found: dict) -> dict:
        if path.endswith("/Pending") and running.machine.pending:
            late["looks"] += 1
            return {**found, "Attributes": {}} if late["looks"] < 3 else found
        return found

    made = bring(answering(running, hold), None, desired("snp"), reboot_ok=False)
    assert made.needs_reboot and late["looks"] >= 3


def test_immediate_resets_for_what_an_earlier_run_left_pending_and_needs_to_be_offered() -> None:
    running = Service("dell-tdx")
    bring(running, None, desired("tdx"), reboot_ok=False)
    made = bring(running, None, desired("tdx"), apply_time="immediate")
    assert running.machine.resets == made.reboots == 3 and not bring(running, None, desired("tdx")).changed
    running = Service("nvidia-tdx")
    with pytest.raises(RedfishError, match="does not offer.*OnReset") as caught:
        bring(running, None, desired("tdx"), apply_time="immediate")
    assert caught.value.code == "redfish-apply-time" and not running.machine.pending and running.machine.resets == 0


def test_a_reset_that_the_machine_does_not_know_is_refused_before_anything_is_written() -> None:
    running = Service("hpe-snp")
    running.machine.model = dataclasses.replace(running.machine.model, resets=("On", "ForceOff", "ForceRestart"))
    with pytest.raises(RedfishError, match="no GracefulRestart, but On, ForceOff, ForceRestart.*reset_type"):
        bring(running, None, desired("snp"))
    assert not running.machine.pending


def test_a_machine_whose_bios_is_gone_while_it_is_off_is_switched_on_again() -> None:
    running = Service("hpe-snp")
    running.machine.model = dataclasses.replace(running.machine.model, resets=("On", "ForceOff", "ForceRestart"))
    answering(running, lambda path, found: None if "/Bios" in path and running.machine.power == "Off" else found)
    assert bring(running, None, desired("snp"), reset_type="power_cycle").reboots == 2 and running.machine.power == "On"


@pytest.mark.parametrize("told", [{"Enabled": "enabled", "Disabled": "disabled"}, {"Enabled": "On, please", "Disabled": "Off"}], ids=["case", "title"])
def test_a_bios_that_spells_its_values_otherwise_than_its_registry_comes_to_rest(told: dict) -> None:
    running = Service("lenovo-snp")

    def spell(path: str, found: dict) -> dict:
        if path.endswith("/Bios"):
            return {**found, "Attributes": {name: told.get(value, value) for name, value in found["Attributes"].items()}}
        for attribute in found.get("RegistryEntries", {}).get("Attributes", ()):
            for value in attribute.get("Value", ()):
                value["ValueDisplayName"] = told[value["ValueName"]]
        return found

    made = bring(answering(running, spell), None, desired("snp"))
    assert made.reboots == REBOOTS["lenovo-snp"] and running.machine.current["Memory_SMEE"] == "Enabled"
    assert not bring(running, None, desired("snp")).changed


def test_what_was_hidden_before_is_recorded_when_it_shows() -> None:
    running = Service("dell-tdx")
    untouched = dict(running.machine.current)
    made = bring(running, None, desired("tdx"))
    assert made.before["GlbMemIntegrity"] == "Enabled" and made.after["GlbMemIntegrity"] == "Disabled"
    writes = [event for event in made.trace if event["step"] == "write"]
    assert {name: value for event in writes for name, value in event["before"].items()} == {name: untouched[name] for name in made.before}
    bring(running, None, desired("none", attributes=made.before))
    assert running.machine.current == untouched


def test_a_service_that_would_restart_the_machine_by_itself_is_not_written_to_without_leave() -> None:
    running = Service("lenovo-snp")
    answering(running, lambda path, found: {**found, "@Redfish.SettingsApplyTime": {"ApplyTime": "Immediate"}} if path.endswith("/Pending") else found)
    with pytest.raises(RedfishError, match="at once, with a restart.*nothing was written") as caught:
        bring(running, None, desired("snp"), reboot_ok=False)
    assert caught.value.code == "redfish-apply-time" and not running.machine.pending
    real = running.machine.write
    running.machine.write = lambda values, _apply_time="": real(values) or running.machine.reset("GracefulRestart") or ""
    assert bring(running, None, desired("snp")).reboots == running.machine.resets == 3
    assert not [path for _method, path in running.requests if "ComputerSystem.Reset" in path], "no second restart in the middle of the first"


def test_a_registry_that_calls_open_what_is_closed_is_told() -> None:
    def lie(path: str, found: dict) -> dict:
        if "RegistryEntries" in found:
            found["RegistryEntries"]["Dependencies"] = []
        return found

    running = answering(Service("lenovo-snp"), lie)
    with pytest.raises(RedfishError, match="Processors_SEV_SNPSupport is read-only.*contradicts its own registry"):
        bring(running, None, desired("snp"))
    assert not running.machine.pending and running.machine.resets == 0


# who answers


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (403, "Not licensed to perform this request. The following licenses DCMS were needed", "licence"),
        (403, "Insufficient privilege", "ConfigureComponents"),
        (400, "The BIOS administrator password is required.", "does not send"),
        (403, "The system is in lockdown mode.", "Take the controller out"),
    ],
)
def test_why_a_controller_refuses_is_told_with_the_next_step(status: int, said: str, words: str) -> None:
    running = Service("supermicro-snp")

    def refuse(*_arguments: object) -> str:
        raise Refused(status, said)

    running.machine.write = refuse
    with pytest.raises(RedfishError) as caught:
        bring(running, None, desired("snp"))
    assert said in str(caught.value) and words in str(caught.value).partition(said)[2] and running.machine.resets == 0


def test_two_systems_behind_one_controller_are_named() -> None:
    running = Service("nvidia-tdx")
    other = {"@odata.id": "/redfish/v1/Systems/HGX_Baseboard_0"}
    answering(running, lambda path, found: {**found, "Members": [*found["Members"], other]} if path.endswith("/Systems") else found)
    with pytest.raises(RedfishError, match="2 systems.*system_id.*DGX, HGX_Baseboard_0"):
        bring(running, None, desired("tdx"))


@pytest.mark.parametrize("place", ["https://[", "//[x"])
def test_a_location_that_is_none_is_no_traceback(place: str) -> None:
    def send(request: Request) -> Response:
        return Response(201 if request.method == "POST" else 200, {"location": place, "x-auth-token": "t"}, b"{}")

    with Client(send, Credentials("admin", "x"), "bmc:443", "session", Patience(1), sleep=lambda seconds: None) as client:
        assert client.get("/redfish/v1/").location == ""


def test_a_redirection_to_the_same_address_written_out_is_followed() -> None:
    said = [Response(308, {"location": "https://bmc7:443/redfish/v1/"}, b""), Response(200, {}, b'{"Id": "1"}')]
    client = Client(lambda request: said.pop(0), Credentials("admin", "x"), "bmc7:443", "basic", Patience(1))
    assert client.get("/redfish/v1").body == {"Id": "1"}
    for elsewhere in ("https://bmc8/redfish/v1/", "http://bmc7:443/redfish/v1/", "https://bmc7@bmc8/redfish/v1/", "https://bmc7:8443/"):
        client = Client(lambda request, place=elsewhere: Response(308, {"location": place}, b""), Credentials("admin", "x"), "bmc7:443", "basic", Patience(1))
        with pytest.raises(RedfishError, match="points to"):
            client.get("/redfish/v1")


def trickle(listener: socket.socket, end: threading.Event, head: bytes) -> None:
    connection, _address = listener.accept()
    with connection:
        connection.sendall(head)
        while not end.wait(0.1):
            try:
                connection.sendall(b"X")
            except OSError:
                return


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["status", "headers", "body"])
def test_an_answer_that_trickles_anywhere_ends_with_the_time_for_one_answer(head: bytes) -> None:
    end = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener, end, head), daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(OSError):
            make_opener(Address("http", *listener.getsockname()), None, 0.5)(Request("GET", "/redfish/v1/"))
        assert time.monotonic() - began < 5
        end.set()
        thread.join()


# registries


def test_rules_that_lead_to_each_other_many_times_are_decided_in_time() -> None:
    term = {"MapFromAttribute": "A", "MapFromProperty": "Hidden", "MapFromCondition": "EQU", "MapFromValue": True}
    rule = {"DependencyFor": "A", "Dependency": {"MapFrom": [term] * 20, "MapToAttribute": "A", "MapToProperty": "Hidden", "MapToValue": True}}
    known = registry(entry("A"), rules=(rule,) * 200)
    began = time.monotonic()
    closed_by(known, "A", {"A": "Disabled"})
    assert time.monotonic() - began < 2


def test_names_and_values_that_would_move_a_terminal_are_left_out() -> None:
    known = registry(entry("A\x1b[2J"), entry("B", "On", "Off\x07"))
    assert list(known.attributes) == ["B"] and [name for name, _title in known.attributes["B"].values] == ["On"]

    def colour(path: str, found: dict) -> dict:
        return {**found, "Attributes": {**found["Attributes"], "x\x1b[2J": "y"}} if "Attributes" in found else found

    running = answering(Service("hpe-snp"), colour)
    assert not bring(running, None, desired("snp"), check=True).foreign


def test_a_password_that_somebody_else_left_pending_is_not_shown() -> None:
    known = registry(entry("A"), {"AttributeName": "SetupPassword", "Type": "Password"})
    found = plan(known, {"A": "Disabled"}, {"SetupPassword": "hidden-one"}, [Want("A", "Enabled")])
    assert "hidden-one" not in repr(found) and list(found.foreign) == ["SetupPassword"]
    with pytest.raises(RedfishError, match="it is a password") as caught:
        resolve(registry({"AttributeName": "SetupPassword", "Type": "String"}), {}, DELL, desired(None, attributes={"SetupPassword": "hidden-one"}))
    assert "hidden-one" not in str(caught.value)


def test_a_password_that_a_job_of_somebody_else_applies_is_not_told() -> None:
    running = Service("dell-tdx")
    running.machine.attributes["SetupPassword"] = dataclasses.replace(running.machine.attributes["AssetTag"], name="SetupPassword")
    running.machine.current["SetupPassword"] = ""
    running.machine.write({"SetupPassword": "hidden-one"}, "OnReset")
    made = bring(running, None, desired("tdx"))
    assert running.machine.current["SetupPassword"] == "hidden-one" and made.trace[0]["step"] == "earlier job"
    assert any("SetupPassword" in event["attributes"] for event in made.trace) and "hidden-one" not in repr(made)


def test_each_attribute_of_a_board_may_have_a_suffix_of_its_own() -> None:
    # As NVIDIA's cloud-native-stack reads them from one board.
    ends = {"SEV-ESASIDSpaceLimit": "#700C", "SEV-SNPSupport": "#01A7", "SMEE": "#003E", "IOMMU": "#0196", "SNPMemory(RMPTable)Coverage": "#003C"}
    known = registry(*(entry(name + end, *(("1", "100") if "Limit" in name else ())) for name, end in ends.items()))
    wants, _missing = resolve(known, {}, SUPERMICRO, desired("snp"))
    assert {want.attribute for want in wants if want.how == "suffixed"} == {name + end for name, end in ends.items()}


@pytest.mark.parametrize("name", ["SGXFactoryReset#700C", "SgxFactoryReset_2", "Processors_SGXAutoMPRegistrationAgent", "X9"])
def test_keys_are_guarded_under_whatever_name(name: str) -> None:
    known = registry(entry("SGXFactoryReset"), entry(name, DisplayName="SGX Factory Reset" if name == "X9" else ""))
    for vendor in (SUPERMICRO, HPE):
        with pytest.raises(RedfishError, match="keys_confirm"):
            resolve(known, {}, vendor, desired(None, attributes={name: "Enabled"}))
        assert resolve(known, {}, vendor, desired(None, attributes={name: "Disabled"}))[0]


@pytest.mark.parametrize(("values", "given", "expected"), [(("On", "Off"), True, "On"), (("On", "Off"), False, "Off"), (("No", "Yes"), True, "Yes"),
                                                           (("Disabled", "Enabled"), False, "Disabled")])  # fmt: skip
def test_yaml_that_reads_on_as_true_is_understood(values: tuple[str, ...], given: bool, expected: str) -> None:
    known = registry(entry("IntelTxt", *values))
    assert resolve(known, {}, DELL, desired(None, attributes={"IntelTxt": given}))[0][0].value == expected
    with pytest.raises(RedfishError, match="quotes"):
        resolve(registry({"AttributeName": "AssetTag", "Type": "String"}), {}, DELL, desired(None, attributes={"AssetTag": given}))


def test_at_least_takes_the_next_number_that_there_is() -> None:
    def limit(**more: object):
        return registry({"AttributeName": "Limit", "Type": "Integer", **more}).attributes["Limit"]

    assert choose_value(limit(LowerBound=128, UpperBound=509), Goal(at_least="100"), 64) == (128, "")
    assert choose_value(limit(LowerBound=1, ScalarIncrement=8), Goal(at_least="100"), 1) == (105, "")
    assert choose_value(limit(UpperBound=50), Goal(at_least="100"), 1)[1]


def test_numbers_are_one_value_and_texts_of_digits_are_not() -> None:
    assert same("-1", -1) and same("10", 10) and not same("007", "7") and not same("0x10", 16)
