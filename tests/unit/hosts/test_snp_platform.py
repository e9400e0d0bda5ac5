# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of AMD's firmware: what is planned, what snphost is given, what is believed of it afterwards, and the module around it."""

from __future__ import annotations

import importlib
import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.snp.acting import Tools, carry_out, look
from ansible_collections.attested.ai.plugins.module_utils.target.snp.platform import Wish, plan
from ansible_collections.attested.ai.plugins.modules import snp_platform
from hypothesis import given
from hypothesis import strategies as st
from snp_lab import SnpHost

NEW = {"bootloader": 4, "tee": 0, "snp": 25, "microcode": 219}
OLD = {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 213}


def run(host, wish, record=None):
    """(changed, record afterwards)."""
    noted = dict(record or {})
    _now, changed = carry_out(host, plan(look(host), wish, noted), wish, Tools(host.snphost, noted.update), noted)
    return changed, noted


def test_what_is_committed_is_not_committed_again():
    host = SnpHost()
    assert run(host, Wish(commit=True)) == (False, {}) and host.ran == []
    assert "is committed" in plan(look(host), Wish(commit=True), {}).notes[0]


def test_new_firmware_is_committed_once_and_noted():
    host = SnpHost(current=NEW, committed=OLD)
    changed, record = run(host, Wish(commit=True))
    assert changed and host.ran == [["commit"]] and host.committed == NEW
    assert (record["committed"], record["committed_tcb"]["snp"], len(record["chips"])) == ("1.55.38", 25, 2)
    assert run(host, Wish(commit=True), record) == (False, record) and len(host.ran) == 1


def test_another_build_at_the_same_tcb_is_committed_where_the_record_shows_it():
    host = SnpHost()
    assert run(host, Wish(commit=True), {"committed": "1.55.37"})[0] and host.ran == [["commit"]]


def test_a_tcb_set_back_on_purpose_after_the_commit_is_left_alone():
    host = SnpHost(current=NEW, committed=OLD)
    wish = Wish(commit=True, config="set", tcb=OLD)
    changed, record = run(host, wish)
    assert changed and [line[0] for line in host.ran] == ["commit", "config"] and host.reported() == OLD
    assert run(host, wish, record) == (False, record)


@pytest.mark.parametrize(
    ("product", "fmc", "arguments"), [("genoa", {}, ["4", "0", "24", "213", "1"]), ("turin", {"fmc": 1}, ["4", "0", "24", "213", "1", "1"])]
)
def test_numbers_stand_in_the_order_of_the_tool_with_fmc_last(product, fmc, arguments):
    host = SnpHost(product)
    wish = Wish(config="set", tcb={**OLD, **fmc}, mask_chip_id=True)
    assert run(host, wish)[0] and host.ran == [["config", "set", *arguments]] and host.masks == 1
    assert not run(host, wish)[0]


def test_masks_stay_unless_they_are_named():
    host = SnpHost()
    host.masks = 2
    run(host, Wish(config="set", tcb=OLD))
    assert host.masks == 2
    run(host, Wish(config="set", mask_chip_key=False))
    assert host.masks == 0 and host.reported() == OLD


@pytest.mark.parametrize(
    ("product", "tcb", "said"),
    [
        ("genoa", {**OLD, "fmc": 1}, "this CPU has no fmc"),
        ("turin", OLD, "missing: fmc"),
        ("genoa", NEW, "snp would be higher"),
        ("genoa", {**OLD, "tee": -1}, "0 to 255"),
        ("genoa", {**OLD, "microcode": 256}, "0 to 255"),
        ("genoa", {"bootloader": 4}, "missing: microcode, snp, tee"),
    ],
)
def test_a_tcb_that_cannot_be_is_refused_before_anything_runs(product, tcb, said):
    host = SnpHost(product)
    with pytest.raises(HostError, match=said):
        run(host, Wish(commit=True, config="set", tcb=tcb))
    assert host.ran == []


def test_a_reset_is_done_once_and_tells_the_truth_where_it_changes_nothing():
    host = SnpHost()
    assert not run(host, Wish(config="reset"))[0] and host.ran == []
    host.config, host.masks = OLD, 1
    assert run(host, Wish(config="reset"))[0] and host.reported() == host.current and host.masks == 0
    host = SnpHost(current=NEW, committed=OLD)
    assert not run(host, Wish(config="reset"))[0] and host.ran == [["config", "reset"]]


def test_a_vlek_is_loaded_once_and_again_after_other_settings():
    host = SnpHost(current=NEW, committed=OLD)
    wish = Wish(vlek="/stick", vlek_digest="aa")
    changed, record = run(host, wish)
    assert changed and host.loaded == "/stick" and record["vlek_sha256"] == "aa"
    assert run(host, wish, record) == (False, record)
    assert run(host, Wish(vlek="/other", vlek_digest="bb"), record)[0] and host.loaded == "/other"
    assert [act.kind for act in plan(look(host), Wish(commit=True, vlek="/stick", vlek_digest="bb"), {"vlek_sha256": "bb"}).acts] == ["commit", "vlek"]
    # Without a record nobody knows which one it is, so it stays, and that is said.
    assert "does not tell" in plan(look(host), wish, {}).notes[0]


@pytest.mark.parametrize("name", ["commit", "config", "vlek-load"])
def test_what_the_tool_refuses_and_what_it_only_pretends_fail(name):
    wish = Wish(
        commit=name == "commit", config="set" if name == "config" else "keep", tcb=OLD if name == "config" else None, vlek="/s" if name == "vlek-load" else ""
    )
    for fault in ("fails", "ignores"):
        host = SnpHost(current=NEW, committed=OLD)
        host.config = {**OLD, "microcode": 200}
        setattr(host, fault, {name: "the firmware says no"} if fault == "fails" else {name})
        with pytest.raises(HostError) as caught:
            run(host, wish)
        assert caught.value.code == ("snphost-failed" if fault == "fails" else "snp-not-applied")
        assert "backtrace" not in str(caught.value) and "somewhere" not in str(caught.value)
        assert fault != "fails" or str(caught.value).count("the firmware says no") == 1


def test_what_was_done_before_a_failure_is_noted():
    host, noted = SnpHost(current=NEW, committed=OLD), {}
    host.fails = {"config": "INVALID_PARAM"}
    wish = Wish(commit=True, config="set", tcb=OLD)
    with pytest.raises(HostError):
        carry_out(host, plan(look(host), wish, {}), wish, Tools(host.snphost, noted.update), {})
    assert noted["committed"] == "1.55.38"


def test_firmware_that_is_not_ready_or_not_known_is_left_alone():
    host = SnpHost()
    host.state = 0
    with pytest.raises(HostError, match="not initialized"):
        look(host)
    host = SnpHost()
    host._document["files"]["/proc/cpuinfo"] = "vendor_id: AuthenticAMD\ncpu family: 26\nmodel: 80\n"
    with pytest.raises(HostError, match="no layout of the TCB"):
        look(host)
    host._document["files"]["/proc/cpuinfo"] = "vendor_id: GenuineIntel\n"
    with pytest.raises(HostError):
        look(host)


TCB = st.fixed_dictionaries({name: st.integers(0, 255) for name in ("bootloader", "tee", "snp", "microcode")})


@given(TCB, TCB, st.booleans(), st.sampled_from(["keep", "set", "reset"]), st.none() | TCB, st.sampled_from([None, False, True]), st.integers(0, 3))
def test_a_second_run_never_changes_anything(current, committed, commit, config, tcb, mask, masks):
    host = SnpHost(current=current, committed={name: min(value, current[name]) for name, value in committed.items()})
    host.masks = masks
    wish = Wish(commit, config, tcb if config == "set" else None, mask, None)
    try:
        _changed, record = run(host, wish)
    except HostError as error:
        assert error.code in ("snp-tcb", "snphost-failed")
        return
    assert run(host, wish, record) == (False, record)


def module(monkeypatch, host, check=False, **options):
    """Exit of the module itself over ``host``."""
    monkeypatch.setattr(snp_platform, "LocalHost", lambda: host)
    monkeypatch.setattr(snp_platform.AnsibleModule, "get_bin_path", lambda _self, name, **_more: "/usr/bin/" + name)
    monkeypatch.setattr(snp_platform.AnsibleModule, "run_command", lambda _self, argv, **_more: host.snphost(argv[1:]))
    ended = {}

    def stop(_self, **result):
        ended.update(result)
        raise SystemExit

    monkeypatch.setattr(snp_platform.AnsibleModule, "exit_json", stop)
    monkeypatch.setattr(snp_platform.AnsibleModule, "fail_json", lambda self, **result: stop(self, failed=True, **result))
    with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        snp_platform.main()
    return ended


def test_the_module_runs_notes_and_is_idempotent(monkeypatch, tmp_path):
    host, record = SnpHost(current=NEW, committed=OLD), tmp_path / "state" / "snp.json"
    options = {"commit": True, "record": str(record), "config": "set", "reported_tcb": OLD}
    planned = module(monkeypatch, host, check=True, **options)
    assert planned["changed"] and [act["act"] for act in planned["acts"]] == ["commit", "config"] and host.ran == [] and not record.exists()
    assert "snp=24" in planned["diff"]["after"] and planned["after"]["reported_tcb"] == OLD
    done = module(monkeypatch, host, **options)
    assert done["changed"] and done["after"] == planned["after"] and json.loads(record.read_text())["committed"] == "1.55.38"
    again = module(monkeypatch, host, **options)
    assert not again["changed"] and again["acts"] == [] and again["notes"]


def test_the_record_of_another_machine_counts_for_nothing(monkeypatch, tmp_path):
    record = tmp_path / "snp.json"
    record.write_text(json.dumps({"chips": ["11" * 64], "committed": "1.55.37"}))
    assert not module(monkeypatch, SnpHost(), commit=True, record=str(record))["changed"]
    record.write_text("{")
    assert not module(monkeypatch, SnpHost(), commit=True, record=str(record))["changed"]


@pytest.mark.parametrize("data", [b"", b"x" * 431, b"x" * 433, bytes(432)])
def test_a_file_that_is_no_hashstick_is_refused(monkeypatch, tmp_path, data):
    (tmp_path / "stick").write_bytes(data)
    host = SnpHost()
    ended = module(monkeypatch, host, vlek=str(tmp_path / "stick"), commit=True)
    assert ended["failed"] and ended["code"] == "snp-vlek" and host.ran == []
    assert module(monkeypatch, host, vlek=str(tmp_path / "none"))["code"] == "snp-vlek"


def test_the_missing_tool_is_named_only_where_it_is_needed(monkeypatch):
    host = SnpHost(current=NEW, committed=OLD)
    monkeypatch.setattr(snp_platform, "LocalHost", lambda: host)
    module_class = importlib.import_module("ansible.module_utils.basic").AnsibleModule
    monkeypatch.setattr(module_class, "get_bin_path", lambda *_a, **_k: None)
    with patch_module_args({}):
        tools = snp_platform.tools_of(module_class(argument_spec=snp_platform.ARGUMENT_SPEC))
    with pytest.raises(HostError, match="not installed"):
        tools.snphost(["commit"])
