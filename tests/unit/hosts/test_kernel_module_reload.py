# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of loaded modules, and which modules are loaded anew."""

from __future__ import annotations

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.kmod import load_anew, look
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost
from ansible_collections.attested.ai.plugins.modules import kernel_module_reload

WANTED = {"kvm_intel": ["tdx=1"]}


def put(root, value="N", users="0", module="kvm_intel", name="tdx"):
    place = root / "sys" / "module" / module
    (place / "parameters").mkdir(parents=True, exist_ok=True)
    (place / "parameters" / name).write_text(value + "\n")
    (place / "refcnt").write_text(users + "\n")
    return LocalHost(root=str(root))


@pytest.mark.parametrize(
    ("value", "asked", "holds"), [("Y", "1", True), ("1", "on", True), ("N", "1", False), ("N", "0", True), ("64", "64", True), ("64", "32", False)]
)
def test_booleans_have_many_spellings(tmp_path, value, asked, holds):
    assert look(put(tmp_path, value), {"kvm_intel": ["tdx=" + asked]}).holds is holds


def test_what_is_not_shown_does_not_hold(tmp_path):
    found = look(LocalHost(root=str(tmp_path)), WANTED)
    assert not found.holds and found.unknown == ("kvm_intel tdx=1",) and found.idle == found.busy == ()
    assert look(put(tmp_path, module="kvm_amd", name="sev_snp", value="Y"), {"kvm-amd": ["sev_snp=1"]}).holds


@pytest.mark.parametrize("modules", [{"../x": []}, {"a b": []}, {"kvm": ["tdx"]}, {"kvm": ["../tdx=1"]}, {"kvm": ["tdx=1 2"]}])
def test_what_is_no_name_is_refused(tmp_path, modules):
    with pytest.raises(HostError):
        look(LocalHost(root=str(tmp_path)), modules)


def test_a_module_that_does_not_come_back_is_told():
    asked = []

    def run(argv):
        asked.append(argv)
        return (1, "modprobe: ERROR: could not insert 'kvm_intel'") if len(asked) == 2 else (0, "")

    with pytest.raises(HostError, match="could not insert"):
        load_anew(run, "kvm_intel")
    assert load_anew(lambda _argv: (1, "in use"), "kvm_intel") is False


def module(monkeypatch, root, check=False, reload=("kvm_intel",), refuses=False):
    ran, ended = [], {}

    def run_command(_self, argv, **_more):
        ran.append(argv[1:])
        if refuses:
            return 1, "", "modprobe: FATAL: Module kvm_intel is in use."
        if "--remove" not in argv:
            put(root, "Y")
        return 0, "", ""

    def stop(_self, **result):
        ended.update(result)
        raise SystemExit

    monkeypatch.setattr(kernel_module_reload, "LocalHost", lambda: LocalHost(root=str(root)))
    monkeypatch.setattr(kernel_module_reload.AnsibleModule, "get_bin_path", lambda _self, name, **_more: "/sbin/" + name)
    monkeypatch.setattr(kernel_module_reload.AnsibleModule, "run_command", run_command)
    monkeypatch.setattr(kernel_module_reload.AnsibleModule, "exit_json", stop)
    monkeypatch.setattr(kernel_module_reload.AnsibleModule, "fail_json", lambda self, **result: stop(self, failed=True, **result))
    with patch_module_args({"modules": WANTED, "reload": list(reload), "_ansible_check_mode": check}), pytest.raises(SystemExit):
        kernel_module_reload.main()
    return ended, ran


def test_an_idle_module_is_loaded_anew_once(monkeypatch, tmp_path):
    put(tmp_path)
    ended, ran = module(monkeypatch, tmp_path, check=True)
    assert ended["changed"] and ended["reloaded"] == ["kvm_intel"] and ran == [] and not ended["holds"]
    ended, ran = module(monkeypatch, tmp_path)
    assert ended["changed"] and ended["holds"] and ran == [["--remove", "kvm_intel"], ["kvm_intel"]]
    ended, ran = module(monkeypatch, tmp_path)
    assert not ended["changed"] and ended["holds"] and ran == []


@pytest.mark.parametrize(("users", "options"), [("1", {}), ("0", {"reload": ()}), ("0", {"refuses": True})])
def test_a_module_in_use_or_without_leave_stays(monkeypatch, tmp_path, users, options):
    put(tmp_path, users=users)
    ended, ran = module(monkeypatch, tmp_path, **options)
    assert not ended["changed"] and not ended["holds"] and ended["wrong"] == ["kvm_intel tdx=1"]
    assert ran == ([["--remove", "kvm_intel"]] if options.get("refuses") else [])
    assert ended["busy"] == (["kvm_intel"] if users == "1" else [])
