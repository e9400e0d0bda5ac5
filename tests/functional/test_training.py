# SPDX-License-Identifier: GPL-3.0-or-later
"""Training over data of several owners: the demonstration as users run it, and the program of an image without a login as a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time

import pytest
from ansible_collections.attested.ai.plugins.action import training_program
from ansible_collections.attested.ai.plugins.module_utils.formats.der import spki_of_certificate
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.training import result
from ansible_collections.attested.ai.plugins.module_utils.training.options import SETTINGS

REPO = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tests" / "unit" / name) for name in ("kbs", "training")] + [str(REPO / "tools" / "softtee")]

import kbs_lab  # noqa: E402  after the path
from training_lab import Lab  # noqa: E402  after the path

OWNERS = ("clinic-a", "clinic-b", "clinic-c")
RESOURCE = "kbs:///default/training-key/count"


def softtee(*arguments, check=True):
    environment = {**os.environ, "PYTHONPATH": str(REPO / "tools" / "softtee")}
    subprocess.run([sys.executable, "-m", "softtee", *arguments], env=environment, check=check, capture_output=True)


def test_three_owners_train_one_model(tmp_path):
    if importlib.util.find_spec("sklearn") is None:
        pytest.fail("scikit-learn is missing: it is one of the requirements of the tests")
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(REPO / "playbooks" / "demo_train.yml"), "-e", f"train_dir={tmp_path}/demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "Traceback" not in output, output[-4000:]
    refused = re.findall(r"^(.+?) {2,}(training-\S+|kbs-\S+|model-\S+)$", output, re.MULTILINE)
    assert [code for _title, code in refused] == ["training-code", "training-launch", "kbs-policy-denied", "kbs-policy-denied", "model-tag"]
    demo = tmp_path / "demo"
    metrics = json.loads((demo / "opened" / "clinic-c" / "metrics" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.9 and sum(metrics["records"].values()) == 569 and sorted(metrics["records"]) == list(OWNERS)
    # The model is that of the two who agreed on it.
    models = [path.parent.parent.name for path in demo.glob("opened/*/model/model.json")]
    assert sorted(models) == ["clinic-a", "clinic-b"]
    model = (demo / "opened" / "clinic-a" / "model" / "model.json").read_bytes()
    # What guest and controller keep holds neither records nor the model.
    weights, record = model[:60], (demo / "records" / "clinic-b" / "records.csv").read_bytes()[:60]
    kept = [path for folder in ("guest", "results") for path in (demo / folder).rglob("*") if path.is_file()]
    assert len(kept) > 8 and not any(text in path.read_bytes() for path in kept for text in (weights, record))
    assert record.decode() not in output and weights.decode() not in output


class Clinic:
    """A guest with the image of one job: a Soft TEE and two brokers of its own, the built program, disks as files."""

    def __init__(self, folder, brokers):
        self.lab, self.folder, self.brokers = Lab(folder, pathlib.Path(tempfile.mkdtemp(dir="/dev/shm", prefix="attested-test-"))), folder, brokers
        self.state = folder / "softtee"
        softtee("serve", "--state", str(self.state), "--mount", str(folder / "tsm"), "--daemon")
        self.launch()
        self.store()

    def launch(self, digest=None):
        softtee("launch", "--state", str(self.state), digest or self.lab.agreement.digest)

    def sources(self, **changes):
        given = []
        for name, broker in self.brokers.items():
            der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(broker.address.parts[1:3]))
            pin = "sha256:" + hashlib.sha256(spki_of_certificate(der)).hexdigest()
            given.append({"party": name, "url": broker.url, "pins": [pin], "ca": broker.ca, "resource": RESOURCE, **changes})
        return {"schema": "attested.ai/training-sources/1", "sources": given}

    def chosen(self):
        return {"isolation": "process", "method": "configfs", "tsm_path": str(self.folder / "tsm" / "report"), "directory": str(self.lab.memory / "jobs"),
                "session_directory": str(self.lab.memory / "sessions"), "seconds": 60}  # fmt: skip

    def build(self, play):
        """What was said by check mode, the first and the second run."""
        chosen = self.chosen()
        task = {"name": "Program", "attested.ai.training_program": {"dest": str(self.folder / "image"), **chosen}}
        there = {"name": "Nothing is written", "ansible.builtin.stat": {"path": str(self.folder / "image")}, "register": "there"}
        done = play([{**task, "check_mode": True, "register": "tried"}, there, {**task, "register": "made"}, {**task, "register": "again"}])
        assert done.status == 0 and not done["there"]["stat"]["exists"], done.output
        return done["tried"], done["made"], done["again"]

    def volume(self, job, **files):
        """As the documentation says it."""
        place = self.folder / "volume"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name in ("code", "data"):
            shutil.copytree(self.lab.folder / name, place / name)
        shutil.copy(self.lab.folder / "agreement.json", place)
        (place / "job.json").write_text(json.dumps(job))
        for name, text in files.items():
            (place / name.replace("__", "/")).write_text(text)
        command = re.search(r"^tar --format=ustar .*$", (REPO / "docs" / "training.md").read_text(), re.MULTILINE)
        subprocess.run(["sh", "-euc", command[0]], cwd=self.folder, check=True)

    def agree(self, program, **members):
        """On another program. The brokers have the keys for it, and the guest is launched for it."""
        (self.lab.folder / "code" / "go.py").write_text(program)
        self.lab.agree(**members)
        self.store()
        self.launch()

    def store(self):
        for name, broker in self.brokers.items():
            owner, manifest = self.lab.owners[name], self.lab.manifests[name]
            key = bytes(unwrap_dek(manifest.dek, owner.kek))
            stored = ModelKey(manifest.model_id, manifest.release, 1, manifest.key_id, public_jwk(owner.signer), key, self.lab.agreement.digest,
                              self.lab.tag_keys()[name])  # fmt: skip
            broker.admin().set_resource(Resource.parse(RESOURCE), stored.to_json())

    def start(self, program, size=1 << 20):
        """The line for the console, and what lies on the disk of results."""
        (self.folder / "results.raw").write_bytes(bytes(size))
        done = subprocess.run(self.command(program), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=self.folder)
        assert "Traceback" not in done.stderr, done.stderr
        shutil.rmtree(self.folder / "found", ignore_errors=True)
        (self.folder / "found").mkdir()
        subprocess.run(["tar", "-xf", "results.raw", "-C", "found"], cwd=self.folder, check=True)
        status = json.loads((self.folder / "found" / "status.json").read_text())
        assert (done.returncode == 0) == (status["error"] == "")
        assert done.stdout == f"attested.ai: job {status['job'] or 'unknown'}: {status['error'] or 'done'}\n", done.stdout + done.stderr
        assert [path for path in self.lab.memory.rglob("*") if path.is_file() and path.name != ".lock" and path.suffix != ".done"] == []
        return status, done.stderr

    def command(self, program):
        made = {one["dest"]: one["src"] for one in program["files"]}
        disks = [word for name in ("job", "results", "checkpoints") for word in ("--" + name, str(self.folder / (name + ".raw")))]
        return [sys.executable, "-I", made["/usr/lib/attested-ai/training.pyz"], "--settings", made["/etc/attested-ai/training.json"], *disks]

    def close(self):
        softtee("stop", "--state", str(self.state), check=False)
        self.lab.close()


@pytest.fixture
def clinic(tmp_path):
    with contextlib.ExitStack() as stack:
        brokers = {}
        for name in "ab":
            (tmp_path / ("broker-" + name)).mkdir()
            brokers[name] = stack.enter_context(kbs_lab.soft_peer(tmp_path / ("broker-" + name)))
            kbs_lab.trust_soft_guests(brokers[name].server.kbs)
        made = Clinic(tmp_path, brokers)
        stack.callback(made.close)
        yield made


def test_image_without_a_login_runs_the_job_by_itself(clinic, play):
    tried, program, again = clinic.build(play)
    assert tried["changed"] and program["changed"] and not again["changed"] and tried["digests"] == program["digests"] == again["digests"]
    # The program is all there is of the collection.
    alone = subprocess.run([sys.executable, "-I", "-c", "import ansible_collections.attested"], capture_output=True, check=False, cwd=clinic.folder)
    assert alone.returncode == 1

    clinic.volume(clinic.sources())
    status, told = clinic.start(program)
    assert status["error"] == "", told
    found, lab = clinic.folder / "found" / "results", clinic.lab
    for output in ("log", "metrics", "model"):
        statement = result.Statement.parse((found / output / result.STATEMENT).read_bytes())
        statement.check(lab.agreement, output, "here")
        result.verify_all([statement], lab.agreement, lab.tag_keys(), "here")
    key = lab.folder / "result.pem"
    kbs_lab.secret(key, kbs_lab.private_pem(lab.owners["a"].result))
    given = {"agreement": str(lab.folder / "agreement.json"), "party": "a", "output": "model", "src": str(found), "dest": str(lab.folder / "opened")}
    opened = play([{"name": "Open", "attested.ai.training_result": {**given, "key": str(key)}}])
    assert opened.status == 0 and (lab.folder / "opened" / "n").read_text() == "model of 1 2\na1 2\nb", opened.output

    other = type(lab.agreement).of({**lab.members(), "job": "other"}).to_bytes().decode()
    weaker = {**clinic.sources(), "isolation": "process"}
    cases = (
        ("training-launch", clinic.sources(), {"agreement.json": other}),
        ("training-code", clinic.sources(), {"code__go.py": "print('all records')\n"}),
        ("training-job", weaker, {}),
        ("kbs-pin", clinic.sources(pins=["sha256:" + "00" * 32]), {}),
    )
    for code, job, files in cases:
        clinic.volume(job, **files)
        status, told = clinic.start(program)
        assert status["error"] == code, told
    clinic.volume(clinic.sources())
    status, told = clinic.start(program, size=8192)
    assert status["error"] == "training-volume-full", told
    clinic.brokers["b"].server.kbs.policy = kbs_lab.DENY
    assert clinic.start(program)[0]["error"] == "kbs-policy-denied"
    whole = (clinic.folder / "job.raw").read_bytes()
    (clinic.folder / "job.raw").write_bytes(whole[: len(whole) // 2])
    status, told = clinic.start(program)
    assert status == {"schema": "attested.ai/training-status/1", "job": "", "agreement": "", "error": "training-volume"}, told


# A program as the documentation shows it: each checkpoint is renamed when it is whole, and gone when it is taken.
KEEPS = """import os, pathlib, sys, time
out = pathlib.Path(sys.argv[2])
for number in range(1, 4):
    new = out / "checkpoints" / "new"
    new.mkdir()
    (new / "state").write_text("weights %d" % number)
    new.rename(out / "checkpoints" / str(number))
    while (out / "checkpoints" / str(number)).exists():
        time.sleep(0.05)
"""


def test_checkpoints_outlive_a_guest_that_is_gone_at_once(clinic, play):
    lab, folder = clinic.lab, clinic.folder
    chosen = {**{name: spec.get("default") for name, spec in SETTINGS.items()}, **clinic.chosen()}
    files = []
    for path, data in training_program.contents(chosen).items():
        files.append({"dest": path, "src": str(folder / os.path.basename(path))})
        (folder / os.path.basename(path)).write_bytes(data)
    kept = {"outputs": {"log": "all"}, "checkpoints": {"recipients": ["a"], "keep": 2}}
    key = lab.folder / "result.pem"
    kbs_lab.secret(key, kbs_lab.private_pem(lab.owners["a"].result))

    # The guest is gone from one moment to the next, while its program runs.
    clinic.agree(KEEPS + "time.sleep(600)\n", **kept)
    clinic.volume(clinic.sources())
    for name in ("results", "checkpoints"):
        (folder / (name + ".raw")).write_bytes(bytes(3 << 18))
    guest = subprocess.Popen(clinic.command({"files": files}), stdin=subprocess.DEVNULL, cwd=folder)
    try:
        # The first block of a slot comes last.
        wait_for(lambda: guest.poll() is not None or (folder / "checkpoints.raw").read_bytes()[2 << 18] != 0)
        children = pathlib.Path(f"/proc/{guest.pid}/task/{guest.pid}/children").read_text().split()
        for process in (guest.pid, *map(int, children)):
            os.kill(process, signal.SIGKILL)
    finally:
        guest.kill()
        guest.wait()
    shutil.rmtree(lab.memory / "jobs")
    said = re.search(r"^keep=2 .*\nfor slot in .*$", (REPO / "docs" / "training.md").read_text(), re.MULTILINE)
    subprocess.run(["sh", "-euc", said[0]], cwd=folder, check=True)

    given = {"agreement": str(lab.folder / "agreement.json"), "party": "a", "output": "checkpoints", "src": str(folder), "key": str(key)}
    done = play([{"name": "Open", "attested.ai.training_result": {**given, "dest": str(folder / "opened")}, "register": "told"}])
    assert done.status == 0 and done["told"]["checkpoint"] == 3 and (folder / "opened" / "state").read_text() == "weights 3", done.output
    # What is started again with the same disks does not begin anew over them.
    status, told = clinic.start({"files": files})
    assert status["error"] == "training-volume", told


def wait_for(ready, seconds=60):
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.1)
