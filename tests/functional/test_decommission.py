# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/decommission.yml and site.yml: nothing without a confirmation, a proof of each step that can fail, and a failure where there is none."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.fleet.reaction import Memory
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

REPO = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "unit" / "kbs"))

import kbs_lab  # noqa: E402

KEY, GONE = "default/key/model-7", "default/key/model-8"
# Units are files of three lines: ActiveState, UnitFileState, TriggeredBy. One that is called stubborn says that it stops, and does not.
SYSTEMCTL = """#!/bin/sh
units="$(dirname "$0")/../units"
verb="$1"; for last; do :; done
case "$verb" in list-units) cd "$units" && for one in attested-model-*; do [ -e "$one" ] && echo "$one loaded $(head -n1 "$one") x"; done; exit 0;; esac
case "$last" in -l) last="$2";; esac
case "$last" in *.service|*.socket) ;; *) last="$last.service";; esac
unit="$units/$last"
line() { sed -n "$1p" "$unit"; }
if ! [ -e "$unit" ]; then
  case "$*" in *--value*) echo inactive;; *show*) printf 'LoadState=not-found\\nActiveState=inactive\\n';; esac; [ "$verb" = show ]; exit
fi
case "$verb" in
  show) printf 'LoadState=loaded\\nActiveState=%s\\nUnitFileState=%s\\nTriggeredBy=%s\\n' "$(line 1)" "$(line 2)" "$(line 3)";;
  is-enabled) line 2; [ "$(line 2)" = enabled ];;
  disable) sed -i 2s/.*/disabled/ "$unit";;
  stop) case "$last" in stubborn*) ;; *) sed -i 1s/.*/inactive/ "$unit";; esac;;
esac
"""
# A cluster is a context of a kubeconfig. Whoever does not name both has none.
KUBERNETES = """#!/usr/bin/python
import json
from ansible.module_utils.basic import AnsibleModule
names = ("kubeconfig", "context", "api_version", "kind", "namespace", "name", "state")
module = AnsibleModule({name: {"type": "str"} for name in names}, supports_check_mode=True)
given = module.params
try:
    whole = json.load(open(given["kubeconfig"]))
    there = whole[given["context"]]
except (TypeError, OSError, KeyError):
    module.fail_json(msg="the default cluster was asked, and there is none")
mine = [one for one in there if one["kind"] == given["kind"] and given["name"] in (None, one["metadata"]["name"])
        and one["metadata"]["namespace"] == given["namespace"]]
if given["state"] == "absent" and mine and not module.check_mode:
    ends = [one for one in there if one["kind"] == "Pod" and given["kind"] == "Deployment" and one["metadata"]["name"].startswith(given["name"] + "-6")]
    whole[given["context"]] = [one for one in there if one not in mine + ends]
    json.dump(whole, open(given["kubeconfig"], "w"))
module.exit_json(changed=given["state"] == "absent" and bool(mine), resources=mine)
"""


@pytest.fixture
def run(tmp_path):
    def run(playbook, *arguments, inventory=None, **variables):
        (tmp_path / "hosts.json").write_text(json.dumps(inventory or {"all": {"hosts": {}}}))
        (tmp_path / "vars.json").write_text(json.dumps(variables))
        book = playbook if playbook.endswith(".yml") else f"attested.ai.{playbook}"
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", book, "-e", "@vars.json", *arguments]
        environment = {**os.environ, "PWD": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0"}
        environment.update(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", ANSIBLE_PIPELINING="1", COLUMNS="600")
        known = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or os.pathsep.join(path for path in sys.path if path)
        environment["ANSIBLE_COLLECTIONS_PATH"] = f"{tmp_path / 'collections'}:{known}"
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


def steps_of(path):
    """(host, step) -> {what: (outcome, proof)}."""
    found = {}
    for one in json.loads(path.read_text())["steps"]:
        found.setdefault((one["host"], one["step"]), {})[one["what"]] = (one["outcome"], one["proof"])
    return found


def remember(folder, *hosts):
    state = {"schema": "attested.ai/fleet-state/1", "hosts": {host: Memory().to_dict() for host in hosts}}
    (folder / "kept/state.json").write_text(json.dumps(state))


@pytest.fixture
def broker(tmp_path):
    """A key broker that gives the keys of two models to whom it trusts, and how it is administered."""
    (tmp_path / "kbs").mkdir()
    with kbs_lab.soft_peer(tmp_path / "kbs") as peer:
        peer.server.kbs.policy = kbs_lab.ALLOW
        peer.server.kbs.resources.update({KEY: b"k" * 32, "default/key/other": b"o"})
        kbs_lab.secret(tmp_path / "kbs" / "admin.pem", kbs_lab.private_pem(peer.admin_key))
        (tmp_path / "kbs" / "ca.pem").write_text(peer.ca)
        yield peer


@pytest.fixture
def rack(tmp_path, broker):
    """Two machines: one that ends well, and one on which something holds what shall go; a broker, a cluster, a ledger, and what the monitor kept."""
    private = ec.generate_private_key(ec.SECP256R1())
    entry = {name: "x" for name in ("who", "key_id", "model_id", "evidence_digest", "policy_id", "policy_digest", "guest_key_thumbprint")}
    given = ledger.Entry(**{**entry, "key_id": "kek-7"}, at="2026-01-31T12:00:00Z", release=1, decision="released", host="fe80::1")
    ledger.append(str(tmp_path / "ledger"), private, given)
    spki = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ledger.pub.pem").write_bytes(spki)
    for name in ("results/fe80%3A%3A1.jws", "results/other.jws", "evidence/fe80%3A%3A1.json"):
        (tmp_path / "kept" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kept" / name).write_text("x")
    remember(tmp_path, "fe80::1", "other")
    for name, text in (("nginx.service", "active enabled "), ("web.socket", "active enabled "), ("stubborn.service", "active enabled "),
                       ("woken.service", "active disabled web.socket")):  # fmt: skip
        (tmp_path / "units").mkdir(exist_ok=True)
        (tmp_path / "units" / name).write_text("\n".join(text.split(" ")) + "\n")
    modules = tmp_path / "collections/ansible_collections/kubernetes/core/plugins/modules"
    modules.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for path, text in ((modules / "k8s.py", KUBERNETES), (modules / "k8s_info.py", KUBERNETES), (tmp_path / "bin" / "systemctl", SYSTEMCTL)):
        path.write_text(text)
        path.chmod(0o755)
    labels = {"app.kubernetes.io/managed-by": "attested.ai", "app.kubernetes.io/instance": "llama"}
    there = [("Deployment", "llama", labels), ("Pod", "llama-6d9f8b6c57-abcde", {}), ("Pod", "llama-guard-6d9f8b6c57-abcde", {})]
    cluster = [{"kind": kind, "metadata": {"name": name, "namespace": "inference", "labels": marks}} for kind, name, marks in there]
    (tmp_path / "kubeconfig").write_text(json.dumps({"gpus": cluster}))
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    hosts = {}
    for name, services in (("fe80::1", ["nginx", "web.socket"]), ("dirty", ["stubborn"])):
        (tmp_path / name).mkdir()
        # What ends with a slash has no last part.
        hosts[name] = {**common, "decommission_models": [f"{tmp_path / name / 'model[1]'}/"], "decommission_services": services}
    (tmp_path / "vms" / "vm-1").mkdir(parents=True)
    # No name of a guest: the one after it goes all the same.
    hosts["fe80::1"]["decommission_vms"], hosts["dirty"]["decommission_vms"] = ["vm 0", "vm-1"], []
    (tmp_path / "fe80::1" / "model[1].complete").write_text("{}")
    return {"all": {"children": {"rack": {"hosts": hosts}}}}


@pytest.fixture
def variables(tmp_path, broker):
    pod = {"description": {"name": "llama", "namespace": "inference"}, "kubeconfig": str(tmp_path / "kubeconfig"), "context": "gpus", "wait_seconds": 0}
    folder = str(tmp_path / "kbs")
    kbs = {"url": broker.url, "ca_path": folder + "/ca.pem", "admin_key": folder + "/admin.pem", "issuer": kbs_lab.ISSUER, "state_path": folder + "/state.json"}
    return {
        "target": "rack", "decommission_document": str(tmp_path / "proof.json"), "decommission_kbs": kbs, "decommission_resources": [KEY],
        "decommission_ledger": {"path": str(tmp_path / "ledger"), "public_key": str(tmp_path / "ledger.pub.pem")},
        "decommission_pods": [pod], "attestation_monitor_directory": str(tmp_path / "kept"),
        "confidential_vm_directory": str(tmp_path / "vms"), "confidential_vm_driver": "qemu",
    }  # fmt: skip


def test_each_step_is_proven_or_the_run_fails(run, rack, variables, broker, tmp_path):
    guest = broker.guest()
    guest.attest("sample", kbs_lab.sample)
    assert guest.resource(KEY) == b"k" * 32
    status, said = run("decommission", inventory=rack, **variables)
    assert status == 2 and "give -e decommission_confirm=rack" in said and KEY in broker.server.kbs.resources, said

    light = {"decommission_steps": ["keys", "services", "models", "monitor"]}
    status, said = run("decommission", "--check", inventory=rack, **{**variables, **light, "target": "fe80::1"})
    assert status == 0 and said.count("check mode: nothing was done, and nothing read again") == 5, said
    assert "systemd says" not in said and "asked again" not in said and "no record of them" not in said and "no mark beside it" not in said, said
    assert KEY in broker.server.kbs.resources and (tmp_path / "kept/results/fe80%3A%3A1.jws").exists() and not (tmp_path / "proof.json").exists()
    assert (tmp_path / "units/nginx.service").read_text().startswith("active")

    # What lies in the way cannot be taken for a model, so that it is not wiped, and the run says so.
    (tmp_path / "dirty" / "model[1]").write_text("not a directory")
    status, said = run("decommission", inventory=rack, decommission_confirm="rack", **variables)
    steps, here = steps_of(tmp_path / "proof.json"), ("fe80::1", "localhost")
    assert status == 2, said
    outcome, proof = steps["localhost", "keys"][KEY]
    assert outcome == "ok" and "asked again" in proof and set(broker.server.kbs.resources) == {"default/key/other"}
    with pytest.raises(AttestedError, match="default/key/model-7"):
        guest.resource(KEY)
    outcome, proof = steps["localhost", "keys"]["keys that were given out"]
    assert outcome == "listed" and "listed, not revoked" in proof and "kek-7 are still known to the guests" in proof
    assert steps["localhost", "pods"]["inference/llama"][0] == "ok" and "llama-guard-6d9" in (tmp_path / "kubeconfig").read_text(), said
    assert steps[here[0], "services"] == {name: ("ok", "systemd says: inactive, disabled") for name in ("nginx", "web.socket")}, said
    assert [one[0] for one in steps[here[0], "models"].values()] == ["ok"] and not (tmp_path / "fe80::1" / "model[1].complete").exists()
    assert [path.name for path in (tmp_path / "kept/results").iterdir()] == ["other.jws"] and not list((tmp_path / "kept/evidence").iterdir())
    assert [one[0] for one in steps["localhost", "monitor"].values()] == ["ok"]
    assert list(json.loads((tmp_path / "kept/state.json").read_text())["hosts"]) == ["other"]
    # The role asks for root before it looks.
    guests = {name: one[0] for name, one in steps[here[0], "vms"].items()}
    assert guests == {"vm 0": "failed", "vm-1": "ok" if os.geteuid() == 0 else "failed"} and "vms on fe80::1: vm 0: " in said, said
    assert (tmp_path / "vms/vm-1").exists() == (os.geteuid() != 0)
    assert steps["dirty", "services"] == {"stubborn": ("failed", "systemd still says: active, disabled")}, said
    assert [one[0] for one in steps["dirty", "models"].values()] == ["failed"], said
    assert steps["dirty", "vms"] == {"none": ("nothing", "decommission_vms is empty")}

    # Again: what was done before is told as that, and what never was there is no success. The memory alone is something, too.
    remember(tmp_path, "fe80::1", "other")
    status, said = run("decommission", inventory=rack, **{**variables, "target": "fe80::1", "decommission_confirm": "fe80::1",
                       "decommission_steps": ["keys", "monitor"], "decommission_resources": [KEY, GONE]})  # fmt: skip
    steps = steps_of(tmp_path / "proof.json")
    assert steps["localhost", "keys"][KEY][0] == "ok" and "done before, says the document of" in steps["localhost", "keys"][KEY][1], said
    assert steps["localhost", "keys"][GONE][0] == "absent" and "compare the name" in steps["localhost", "keys"][GONE][1] and status == 0, said
    assert steps["localhost", "monitor"]["records and memory of fe80::1"] == ("ok", "no record of them, no memory; the history keeps what happened"), said
    # What the run before proved, and this one says nothing of, is still there.
    assert steps["localhost", "pods"]["inference/llama"][0] == "ok" and steps["localhost", "monitor"]["records and memory of fe80::1, dirty"][0] == "ok"


def blunted(folder, stands_for=()):
    """The playbook without the tasks that take something away: whatever it reads afterwards is as before. ``stands_for`` has names, and others to call."""
    shutil.copytree(REPO / "playbooks", folder / "plays")
    doing = {"Take them out of the key broker": None, "Remove it": None, "Stop services, and keep them stopped": None, "Wipe what was opened": None,
             "Remove the guest, and its files": None, "Forget them": None}  # fmt: skip

    def without(tasks):
        for one in tasks:
            if one.get("name") in doing:
                doing[one["name"]] = True
                yield {**one, "when": False}
            elif "block" in one:
                yield {**one, "block": list(without(one["block"]))}
            else:
                yield one

    for path in (folder / "plays/tasks/decommission").glob("*.yml"):
        text = yaml.safe_dump(list(without(yaml.safe_load(path.read_text()))))
        for name, instead in stands_for:
            text = text.replace(name, instead)
        path.write_text(text)
    assert all(doing.values()), doing
    return str(folder / "plays/decommission.yml")


def test_what_is_read_again_fails_each_step_that_did_nothing(run, rack, variables, tmp_path):
    hosts = rack["all"]["children"]["rack"]["hosts"]
    del hosts["dirty"]
    hosts["fe80::1"].update(decommission_services=["nginx", "woken"], decommission_vms=["vm-1"])
    process = subprocess.Popen([sys.executable, "-c", "input()", str(tmp_path / "vms/vm-1/disk")], stdin=subprocess.PIPE)
    try:
        status, said = run(blunted(tmp_path), inventory=rack, decommission_confirm="rack", **variables)
    finally:
        process.communicate(b"\n")
    steps = steps_of(tmp_path / "proof.json")
    # Keys that are out are told also where none could be revoked.
    assert steps["localhost", "keys"].pop("keys that were given out")[0] == "listed", said
    assert status == 2 and len(steps) == 6 and all(one == "failed" for found in steps.values() for one, _text in found.values()), said
    for key, what, words in (
        (("localhost", "keys"), KEY, "still had, after they were deleted: " + KEY),
        (("localhost", "pods"), "inference/llama", "deployment llama, pod llama-6d9f8b6c57-abcde"),
        (("localhost", "monitor"), "Stop while something is kept", "fe80%3A%3A1.jws"),
        (("fe80::1", "services"), "nginx", "active, enabled"), (("fe80::1", "services"), "woken", "active, disabled, may be started by web"),
        (("fe80::1", "models"), f"{tmp_path}/fe80::1/model[1]/", "model[1].complete"),
        (("fe80::1", "vms"), "vm-1", str(tmp_path / "vms/vm-1") + ", processes %d " % process.pid),
    ):  # fmt: skip
        assert words in steps[key][what][1], (steps, said)


# Stand-ins for roles that would change the machine that runs the tests, and for what reads its boot loader: of TDX it still has something.
BACK = [{"name": "Take it back", "ansible.builtin.set_fact": {"tee_host_result": {"reboot_required": False}}}]
ROLES = {"tdx_host": BACK, "snp_host": BACK, "model_server": [{"name": "Take it away", "ansible.builtin.fail": {"msg": "no such server"}}]}
CMDLINE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"owner": {}, "state": {}}, supports_check_mode=True)
module.exit_json(changed=module.check_mode and module.params["owner"] == "tdx_host", reboot_required=False, running="quiet")
"""


def test_one_that_fails_hides_none_of_the_others(run, rack, variables, tmp_path):
    peer = tmp_path / "collections/ansible_collections/lab/peer"
    for name, tasks in ROLES.items():
        (peer / "roles" / name / "tasks").mkdir(parents=True)
        (peer / "roles" / name / "tasks/main.yml").write_text(yaml.safe_dump(tasks))
    (peer / "plugins/modules").mkdir(parents=True)
    (peer / "plugins/modules/kernel_cmdline.py").write_text(CMDLINE)
    del rack["all"]["children"]["rack"]["hosts"]["dirty"], variables["decommission_kbs"]["url"]
    rack["all"]["children"].update({group: {"hosts": {"fe80::1": {}}} for group in ("tdx_hosts", "snp_hosts", "model_servers")})
    # The records are gone, the memory is not.
    for path in (tmp_path / "kept").glob("*/fe80*"):
        path.unlink()
    playbook = blunted(tmp_path, [(f"attested.ai.{name}", f"lab.peer.{name}") for name in (*ROLES, "kernel_cmdline")])
    variables["decommission_steps"] = ["keys", "services", "hosts", "monitor"]
    status, said = run(playbook, inventory=rack, decommission_confirm="rack", **variables)
    steps, what = steps_of(tmp_path / "proof.json"), "%s: kernel command line, parameters of modules"
    assert status == 2, said
    assert steps["localhost", "keys"][KEY][0] == "failed" and "needs url" in steps["localhost", "keys"][KEY][1], said
    assert steps["localhost", "keys"]["keys that were given out"][0] == "listed", said
    assert steps["fe80::1", "services"] == {
        "model servers": ("failed", "Take it away: no such server"), "nginx": ("failed", "systemd still says: active, enabled"),
        "web.socket": ("failed", "systemd still says: active, enabled"),
    }, said  # fmt: skip
    outcome, proof = steps["fe80::1", "hosts"][what % "tdx_host"]
    assert outcome == "failed" and proof.endswith("still there: what it set on the kernel command line, by the boot loader"), said
    assert steps["fe80::1", "hosts"][what % "snp_host"] == ("ok", "the boot loader and modprobe.d have nothing of ours; runs with: quiet"), said
    ((outcome, proof),) = steps["localhost", "monitor"].values()
    assert outcome == "failed" and f"still has something of fe80::1 in {tmp_path}/kept" in proof, said


def test_nothing_named_is_no_success(run, rack, variables, tmp_path):
    rack["all"]["children"]["rack"]["hosts"].pop("dirty")
    host = rack["all"]["children"]["rack"]["hosts"]["fe80::1"]
    del variables["decommission_resources"], host["decommission_models"]
    # As the AWX template revoke starts it: the ledger is read, and no key is revoked.
    status, said = run("decommission", inventory=rack, decommission_confirm="rack", decommission_steps=["keys", "models", "bios"], **variables)
    steps = steps_of(tmp_path / "proof.json")
    assert steps["localhost", "keys"]["none"] == ("failed", "none was named: set decommission_resources (empty, if there is none)")
    assert steps["fe80::1", "models"]["none"][0] == "failed" and steps["fe80::1", "bios"]["none"][0] == "nothing"
    assert status == 2 and "bios was asked for, and nothing was done: put the host into the group bios_hosts" in said, said
    # A name that nobody reads, and tags: refused before anything is done.
    for words, more, expected in (
        ((), {"decommission_resource": [KEY]}, "no step of decommission reads decommission_resource"), (("--tags", "keys"), {}, "knows no tags"),
        (("--skip-tags", "always"), {}, "knows no tags"),
    ):  # fmt: skip
        status, said = run("decommission", *words, inventory=rack, decommission_confirm="rack", **{**variables, **more})
        assert status == 2 and expected in said and "Begin the step" not in said, said
    assert (tmp_path / "units/nginx.service").read_text().startswith("active")


def test_a_machine_that_is_not_reached_is_not_proven(run, tmp_path):
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_common_args": "-F none -o ConnectTimeout=3"}
    gone["decommission_models"] = ["/x/y"]
    status, said = run(
        "decommission", inventory={"all": {"hosts": {"gone": gone}}}, target="gone", decommission_confirm="gone", decommission_steps=["models"],
        decommission_document=str(tmp_path / "proof.json"),
    )  # fmt: skip
    assert status != 0, said
    assert json.loads((tmp_path / "proof.json").read_text())["not_reached"] == ["gone"], said


def test_site_asks_first(run):
    status, said = run("site", inventory={"all": {"children": {"tdx_hosts": {"hosts": {"one": {}}}}}})
    steps = "bios, hosts, quoting, gpu, trustee, runtimes, confidential_vm, guests, deploy, monitor"
    assert status == 2 and f"1 machines (steps {steps})" in said and "site_confirm=true" in said, said
    status, said = run("site", "-e", "target=all", "-e", "site_confirm=true")
    assert status == 2 and "each step has its own groups" in said


def test_site_orders_what_exists(run):
    status, said = run("site", "--list-tasks", "-e", "site_confirm=true")
    assert status == 0
    order = (
        "Ask before anything", "Look at the machines", "Set the BIOS", "Set up the hosts", "Set up the PCCS for others", "Set up hosts with GPUs",
        "Run the key broker", "Nodes of the cluster", "Start the guest", "Set up the guests", "Attest the guests", "Serve the model", "Judge the round",
    )  # fmt: skip
    assert [said.index(name) for name in order] == sorted(said.index(name) for name in order)
    assert run("site", "--syntax-check")[0] == 0
