# SPDX-License-Identifier: GPL-3.0-or-later
"""Registration as a whole: what is saved before what, what is refused, what is noticed, and that a run may end anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import pckid
from ansible_collections.attested.ai.plugins.plugin_utils.registration_store import Store
from quoting_lab import ADMIN, HOST, USER, Killed, Lab


def network(pccs, tmp_path: Path) -> dict:
    (tmp_path / "ca.pem").write_bytes(pccs.authority)
    ca = str(tmp_path / "ca.pem")
    return {"service_url": pccs.url, "ca_path": ca, "pccs_url": pccs.url, "pccs_ca_path": ca, "pccs_user_token": USER, "pccs_admin_token": ADMIN}


def code(lab: Lab, variant: str, **given) -> str:
    with pytest.raises(AttestedError) as caught:
        lab.bring(variant, **given)
    assert caught.value.fix, str(caught.value)
    return caught.value.code


VARIANTS = {
    "direct_manual": ["register", "collect"],
    "indirect_pccs": ["collect", "deliver"],
    "indirect_offline": ["collect"],
    "indirect_local_cache": ["collect"],
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("sender", ["host", "controller"])
def test_a_platform_is_registered_once(pccs, tmp_path, variant, sender):
    lab, given = Lab(tmp_path), {**network(pccs, tmp_path), "send_from": sender}
    digest = pckid.digest(lab.platform.manifest)
    planned = lab.bring(variant, check=True, **given)
    assert planned["changed"] and lab.taken == ["look"] and lab.files() == {} and lab.platform.pending and planned["verdict"] == "unregistered"

    done = lab.bring(variant, **given)
    assert done["changed"] and done["verdict"] == "registered" and done["manifest"] == digest and not lab.platform.pending
    # Saved and noted before anything else.
    assert lab.taken[:3] == ["look", "keep", "record"] and set(lab.files().values()) == {0o600}
    assert lab.store.manifest(digest) == lab.platform.manifest and (lab.state / f"manifest-{digest}.bin").read_bytes() == lab.platform.manifest
    acts = [act for act in lab.taken if act in ("register", "collect", "deliver")]
    assert acts == (VARIANTS[variant] if sender == "host" else ["collect"])
    assert (len(pccs.manifests), len(pccs.platforms)) == (int(variant == "direct_manual"), int(variant == "indirect_pccs"))
    assert done["identity"]["qe_id"] == lab.platform.qe_id.hex() and done["ppid"] == ("".join(pccs.manifests) if variant == "direct_manual" else "")
    if "platform_list" in done["files"]:
        (entry,) = json.loads(Path(done["files"]["platform_list"]).read_text())
        assert entry["platform_manifest"] == lab.platform.manifest.hex()

    lab.platform.boot()
    for check in (False, True):
        again = lab.bring(variant, check=check, manifest_confirm="", **given)
        assert not again["changed"] and again["verdict"] == "registered" and set(lab.taken) == {"look"}


def test_the_agent_registers_only_after_the_manifest_is_saved(tmp_path):
    lab = Lab(tmp_path, agent_enabled=True)
    first = lab.bring("direct_automatic")
    assert first["waits_for"] == "agent" and first["verdict"] == "in-progress" and lab.platform.pending and lab.store.manifest(first["manifest"])
    lab.run_agent()
    done = lab.bring("direct_automatic", agent_ran=True, manifest_confirm="")
    assert done["changed"] and done["verdict"] == "registered" and done["waits_for"] == ""
    assert not lab.bring("direct_automatic", manifest_confirm="")["changed"]


def test_an_agent_that_fails_is_told_with_its_own_words(tmp_path):
    lab = Lab(tmp_path, agent_enabled=True)
    lab.platform.behave("agent", "fails")
    lab.bring("direct_automatic")
    lab.run_agent()
    with pytest.raises(AttestedError, match="Failed to send request"):
        lab.bring("direct_automatic", agent_ran=True)
    lab.platform.behave("agent", "good")
    lab.run_agent()
    assert lab.bring("direct_automatic", agent_ran=True)["verdict"] == "registered"


def test_nothing_is_used_up_without_the_machines_name(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    for confirm in ("", "yes", "true", "host2.example.org"):
        assert code(lab, "direct_manual", **given, manifest_confirm=confirm) == "confirm-needed"
    assert lab.platform.pending and not pccs.requests and lab.store.record() is None
    # Saved it is, on both sides.
    assert set(lab.files()) == {f"manifest-{pckid.digest(lab.platform.manifest)}.bin"}
    refused = lab.bring("direct_manual", check=True, **given, manifest_confirm="")
    assert "tdx_quoting_manifest_confirm" in refused["refused"]


def test_looking_changes_nothing(tmp_path):
    lab = Lab(tmp_path)
    found = lab.bring("none")
    assert not found["changed"] and found["verdict"] == "unregistered" and lab.files() == {} and found["identity"]["qe_id"] == lab.platform.qe_id.hex()


@pytest.mark.parametrize("variant", ["direct_manual", "indirect_pccs", "indirect_offline"])
@pytest.mark.parametrize("late", [False, True])
def test_a_run_may_end_at_any_step(pccs, tmp_path, variant, late):
    given = network(pccs, tmp_path)
    whole = Lab(tmp_path / "whole")
    whole.bring(variant, **given)
    expected = whole.store.record()
    for number in range(len(whole.taken)):
        lab = Lab(tmp_path / f"killed-{number}")
        lab.killed_at, lab.late = number, late
        with pytest.raises(Killed):
            lab.bring(variant, **given)
        # Whatever was taken from the firmware is on the controller's disk.
        assert lab.platform.pending or lab.store.manifest(pckid.digest(lab.platform.manifest)) == lab.platform.manifest
        lab.killed_at = -1
        lab.platform.boot()
        done = lab.bring(variant, **given)
        assert done["verdict"] == "registered" and lab.store.record() == expected == lab.machine().record()
        assert not lab.bring(variant, **given)["changed"]


@pytest.mark.parametrize("moment", ["write_record", "csv", "platform_list"])
def test_the_controllers_disk_may_fail_at_any_time(pccs, tmp_path, monkeypatch, moment):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    write = Store.write

    def failing(self, name, data):
        if {"write_record": "record.json", "csv": ".csv", "platform_list": "platform_list"}[moment] in name:
            raise Killed
        return write(self, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", failing)
        with pytest.raises(Killed):
            lab.bring("indirect_offline", **given)
    assert lab.store.manifest(pckid.digest(lab.platform.manifest))
    assert lab.bring("indirect_offline", **given)["verdict"] == "registered"


def test_a_full_disk_on_the_controller_stops_before_the_manifest_is_used(pccs, tmp_path, monkeypatch):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    (tmp_path / "controller").write_text("no folder")
    assert code(lab, "direct_manual", **given) == "controller-file"
    assert lab.platform.pending and not pccs.requests


@pytest.mark.parametrize("how", ["fails", "silent", "killed"])
def test_a_tool_that_dies_with_the_manifest_costs_nothing(pccs, tmp_path, how):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.platform.behave("tool", how)
    assert code(lab, "indirect_pccs", **given) in ("tool-failed", "pckid-invalid")
    assert lab.platform.pending == (how == "fails")
    lab.platform.boot()
    lab.platform.behave("tool", "good")
    assert lab.bring("indirect_pccs", **given)["verdict"] == "registered"
    assert pccs.platforms[lab.platform.qe_id.hex().upper()]["platform_manifest"] == lab.platform.manifest.hex()


def test_the_tool_is_never_run_where_it_would_send_by_itself(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    (lab.platform.folder / "network_setting.conf").write_text("# x\n pccs_url = https://pccs.example.com\n")
    assert code(lab, "indirect_pccs", **given) == "tool-uploads" and lab.platform.pending
    (lab.platform.folder / "network_setting.conf").write_text("#PCCS_URL=https://localhost\nUSE_SECURE_CERT=TRUE\n")
    (lab.platform.folder / "PCKIDRetrievalTool").unlink()
    assert code(lab, "indirect_pccs", **given) == "tool-missing" and lab.platform.pending


@pytest.mark.parametrize(("before", "after"), [("indirect_pccs", "direct_manual"), ("indirect_offline", "direct_automatic")])
def test_after_indirect_there_is_no_direct_until_factory_reset(pccs, tmp_path, before, after):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.bring(before, **given)
    for confirm in ("", HOST):
        assert code(lab, after, **given, variant_confirm=confirm) == "variant-conflict"
    assert lab.bring(before, check=True, **given)["changed"] is False
    lab.platform.reset("second", agent_enabled=after == "direct_automatic")
    assert code(lab, after, **given) == "variant-conflict"
    # A choice that was confirmed anew is about a manifest that is new, too.
    assert code(lab, after, **given, variant_confirm=HOST) == "reregistration-needed"
    result = lab.bring(after, **given, variant_confirm=HOST, reregister_ok=True)
    assert result["variant"] == after and result["manifest"] == pckid.digest(lab.platform.manifest) and len(lab.store.record().previous) == 1


def test_another_indirect_way_needs_a_word_and_no_reset(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.bring("indirect_offline", **given)
    assert code(lab, "indirect_pccs", **given) == "variant-conflict"
    assert lab.bring("indirect_pccs", **given, variant_confirm=HOST)["verdict"] == "registered" and len(pccs.platforms) == 1
    # From direct to indirect the manifest that was saved serves.
    other = Lab(tmp_path / "other")
    other.bring("direct_manual", **given)
    assert other.bring("indirect_pccs", **given, variant_confirm=HOST)["verdict"] == "registered" and len(pccs.platforms) == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_changed_choice_may_end_at_any_step(pccs, tmp_path, late):
    given = network(pccs, tmp_path)
    for number in range(5):
        lab = Lab(tmp_path / f"killed-{number}")
        lab.bring("direct_manual", **given)
        lab.killed_at, lab.late = number, late
        try:
            lab.bring("indirect_pccs", **given, variant_confirm=HOST)
        except Killed:
            lab.killed_at = -1
            if lab.store.record().variant != lab.machine().record().variant:
                # Not without the word that allowed it, and in no other direction.
                assert code(lab, "indirect_pccs", **given) == code(lab, "indirect_offline", **given, variant_confirm=HOST) == "record-conflict"
        done = lab.bring("indirect_pccs", **given, variant_confirm=HOST)
        assert done["verdict"] == "registered" and lab.store.record() == lab.machine().record() and lab.store.record().variant == "indirect_pccs"
    assert len(lab.taken) < 5


def test_what_two_records_say_is_judged_from_the_machines(pccs, tmp_path):
    """A controller's record of a direct choice does not lead around the Factory Reset."""
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.bring("indirect_pccs", **given)
    lab.store.write("record.json", lab.store.record().text().replace("indirect_pccs", "direct_manual").replace("deliver", "register").encode())
    assert code(lab, "direct_manual", **given, variant_confirm=HOST) == "variant-conflict" and not pccs.manifests
    # Nor does a confirmation join what is about two manifests.
    other = lab.store.record().text().replace(lab.store.record().manifest, "0" * 64)
    lab.store.write("record.json", other.encode())
    assert code(lab, "direct_manual", **given, variant_confirm=HOST) == "record-conflict" and lab.store.record().text() == other


def test_a_damaged_copy_on_the_machine_is_none(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    assert code(lab, "indirect_pccs", **given, manifest_confirm="") == "confirm-needed"
    kept = lab.state / ("manifest-%s.bin" % pckid.digest(lab.platform.manifest))
    kept.write_bytes(b"half")
    # The tool would take the manifest from the firmware.
    with pytest.raises(AttestedError, match="not kept yet"):
        lab.machine().collect(pckid.digest(lab.platform.manifest))
    assert lab.platform.pending
    pccs.faults.add("500", "POST", "platforms", times=99)
    assert code(lab, "indirect_pccs", **given) == "pccs-refused" and kept.read_bytes() == lab.platform.manifest
    lab.platform.boot()
    kept.write_bytes(b"half")
    pccs.faults.clear()
    # The controller has it still.
    assert lab.bring("indirect_pccs", **given)["verdict"] == "registered" and kept.read_bytes() == lab.platform.manifest


def test_new_keys_are_noticed_and_registered_when_that_is_allowed(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    first = lab.bring("direct_manual", **given)
    lab.platform.reset("second")
    assert lab.bring("none")["verdict"] == "changed"
    assert code(lab, "direct_manual", **given) == "reregistration-needed"
    # Even so the new manifest is saved.
    assert lab.store.manifest(pckid.digest(lab.platform.manifest)) and len(pccs.manifests) == 1
    assert code(lab, "direct_manual", **given, reregister_ok=True, manifest_confirm="") == "confirm-needed"
    second = lab.bring("direct_manual", **given, reregister_ok=True)
    assert second["verdict"] == "registered" and second["ppid"] != first["ppid"] and len(pccs.manifests) == 2
    assert lab.store.record().previous == (first["manifest"],) and lab.store.manifest(first["manifest"])


def test_another_machine_under_the_same_name_is_noticed(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.bring("indirect_pccs", **given)
    lab.platform.boot()
    (lab.platform.folder / "keys").write_text("another")
    assert lab.bring("none")["verdict"] == "changed" and code(lab, "indirect_pccs", **given) == "platform-changed"
    lab.answers = False  # QGS does not answer: nothing is claimed
    assert not lab.bring("indirect_pccs", **given)["changed"]


@pytest.mark.parametrize(("variant", "again"), [("indirect_pccs", True), ("indirect_offline", True), ("direct_manual", False)])
def test_a_new_tcb_level_is_told_to_who_needs_it(pccs, tmp_path, variant, again):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.bring(variant, **given)
    lab.platform.boot()
    (lab.platform.folder / "tcb").write_text("7")
    assert lab.bring("none")["verdict"] == "tcb-changed"
    result = lab.bring(variant, **given, manifest_confirm="")
    assert result["changed"] is again and ("collect" in lab.taken) is again
    assert not lab.bring(variant, **given)["changed"]
    if variant == "indirect_pccs":
        assert pccs.platforms[lab.platform.qe_id.hex().upper()]["cpu_svn"] == lab.platform.cpu_svn.hex()


def test_what_others_took_is_told(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    manifest = lab.platform.manifest
    saved = tmp_path / "by-hand.csv"
    saved.write_text(lab.platform.csv(manifest))
    lab.platform.set_status(True)
    lab.platform.boot()
    assert lab.bring("none")["verdict"] == "consumed"
    for variant in ("direct_manual", "indirect_pccs", "direct_automatic"):
        assert code(lab, variant, **given) == "manifest-consumed"
    assert code(lab, "direct_manual", **given, manifest_file=str(saved), manifest_confirm="") == "confirm-needed"
    assert lab.bring("direct_manual", **given, manifest_file=str(saved))["verdict"] == "registered" and list(pccs.manifests.values()) == [manifest]


def test_what_the_agent_registered_is_taken_over_and_nothing_else(pccs, tmp_path):
    lab, given = Lab(tmp_path, agent_enabled=True), network(pccs, tmp_path)
    lab.run_agent()
    assert lab.bring("none")["verdict"] == "registered" and code(lab, "indirect_pccs", **given) == "variant-conflict"
    assert lab.bring("direct_automatic", manifest_confirm="")["verdict"] == "registered"
    assert code(lab, "indirect_pccs", **given, variant_confirm=HOST) == "variant-conflict"


@pytest.mark.parametrize(
    ("enabled", "variant", "expected"),
    [(True, "direct_manual", "agent-enabled"), (True, "indirect_pccs", "agent-enabled"), (False, "direct_automatic", "agent-disabled")],
)
def test_the_bios_must_fit_the_choice(pccs, tmp_path, enabled, variant, expected):
    lab = Lab(tmp_path, agent_enabled=enabled)
    assert code(lab, variant, **network(pccs, tmp_path)) == expected and lab.platform.pending and not pccs.requests


def break_firmware(lab: Lab, how: str) -> None:
    status, request = (next(lab.platform.efivars.glob(f"{name}-*")) for name in ("SgxRegistrationStatus", "SgxRegistrationServerRequest"))
    if how == "none":
        status.unlink()
    elif how == "mcheck":
        lab.platform.set_status(False, 0x21)
    elif how == "refused":
        lab.platform.set_status(True, 0xA3)
    elif how == "no-manifest":
        request.unlink()
    elif how == "damaged":
        status.write_bytes(b"x")
    else:
        request.write_bytes(b"\x07\0\0\0\x02\0\x20\0" + bytes.fromhex("696519ca73c14785a0f64d289d37e995") + bytes(16))


@pytest.mark.parametrize(
    ("how", "expected", "verdict"),
    [
        ("none", "registration-unsupported", "unsupported"),
        ("mcheck", "registration-failed", "failed"),
        ("refused", "registration-failed", "failed"),
        ("no-manifest", "manifest-missing", "in-progress"),
        ("add", "add-package", "unregistered"),
        ("damaged", "uefi-variable", ""),
    ],
)
def test_firmware_in_every_state(pccs, tmp_path, how, expected, verdict):
    lab = Lab(tmp_path)
    break_firmware(lab, how)
    assert code(lab, "direct_manual", **network(pccs, tmp_path)) == expected and not pccs.requests
    if verdict:
        assert lab.bring("none")["verdict"] == verdict


def test_variables_that_cannot_be_written_do_not_loop(pccs, tmp_path):
    """The tool warns that it could not set the status: the manifest stays, and was registered all the same."""
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.bring("direct_manual", **given)
    lab.platform.set_status(False)
    assert lab.platform.pending and not lab.bring("direct_manual", **given)["changed"] and len(pccs.manifests) == 1


def test_either_record_may_be_lost_and_comes_back(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    lab.bring("indirect_pccs", **given)
    expected = lab.store.record()
    for path in (lab.state / "record.json", lab.directory / HOST / "record.json"):
        path.unlink()
        assert code(lab, "direct_manual", **given) == "variant-conflict"
        assert lab.bring("indirect_pccs", **given)["changed"] and lab.store.record() == lab.machine().record() == expected
    (lab.state / "record.json").write_text("{}")
    assert code(lab, "indirect_pccs", **given) == "record-invalid"


def test_a_new_disk_gets_the_manifest_from_the_controller(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    pccs.faults.add("500", "POST", "platforms", times=99)
    assert code(lab, "indirect_pccs", **given) == "pccs-refused"
    for path in lab.state.iterdir():
        path.unlink()
    pccs.faults.clear()
    lab.platform.boot()
    # It was collected, but the machine has no trace of it: told, not guessed.
    assert code(lab, "indirect_pccs", **given) == "tool-failed"
    assert lab.bring("indirect_pccs", **given, send_from="controller")["verdict"] == "registered"


def test_collateral_is_given_once(pccs, tmp_path):
    lab, given = Lab(tmp_path), network(pccs, tmp_path)
    pccs.mode = "OFFLINE"
    lab.bring("indirect_offline", **given)
    path = tmp_path / "platform_collaterals.json"
    document = {"platforms": [], "collaterals": {"version": 4, "pck_certs": [{"qe_id": lab.platform.qe_id.hex(), "certs": []}]}}
    path.write_text(json.dumps(document))
    assert lab.bring("indirect_offline", check=True, **given, collateral_file=str(path))["changed"] and not pccs.collateral
    assert lab.bring("indirect_offline", **given, collateral_file=str(path))["changed"] and pccs.collateral
    assert not lab.bring("indirect_offline", **given, collateral_file=str(path))["changed"]
    path.write_text("[]")
    assert code(lab, "indirect_offline", **given, collateral_file=str(path)) == "collateral-invalid"


def test_names_that_leave_the_folder_are_refused(tmp_path):
    for name in ("../x", "a/b", "", ".", "..", "a\n", "ä"):
        with pytest.raises(AttestedError, match="no name of a folder"):
            Store(str(tmp_path), name)
    assert Store(str(tmp_path), "host-1_2.example.org:22@x").folder
