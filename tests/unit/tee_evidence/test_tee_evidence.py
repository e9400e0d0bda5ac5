# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module and the library against the soft TEE: real files, real directories, a real FUSE mount with configfs-tsm's manners."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.target import tsm

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "tools" / "softtee"
MODULE = ROOT / "plugins" / "modules" / "tee_evidence.py"
NONCE = base64.b64encode(bytes(range(32))).decode()
DATA = bytes(range(64))
# Offset of REPORT_DATA in an SEV-SNP report (SEV-SNP firmware ABI, table ATTESTATION_REPORT).
REPORT_DATA = slice(0x50, 0x90)

pytestmark = [
    pytest.mark.skipif(not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None, reason="FUSE is not here"),
]


class SoftTee:
    def __init__(self, directory):
        self.state, self.mount = directory / "state", directory / "mount"
        self.mount.mkdir()
        self.path = str(self.mount / "report")

    def run(self, *arguments):
        command = [sys.executable, "-m", "softtee", arguments[0], "--state", str(self.state), *arguments[1:]]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(TOOLS)] + sys.path))
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout

    def entries(self):
        return os.listdir(self.path)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    pytest.importorskip("mfusepy")
    tee = SoftTee(tmp_path_factory.mktemp("softtee"))
    tee.run("serve", "--mount", str(tee.mount), "--product", "genoa", "--daemon")
    yield tee
    tee.run("stop")


@pytest.fixture
def tee(served):
    served.run("misbehave", "none")
    assert served.entries() == []
    yield served
    assert served.entries() == [], "an entry was left behind"


def run_module(tee, **arguments):
    """The module file as Ansible would start it, without Ansible's transport."""
    arguments = dict({"nonce": NONCE, "tsm_path": tee.path}, **arguments)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    run = subprocess.run(
        [sys.executable, str(MODULE)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in run.stdout + run.stderr
    return json.loads(run.stdout)


def test_collects_what_was_asked_for(tee):
    report = tsm.collect(DATA, path=tee.path)
    assert (report.provider, report.type, report.generation, report.privlevel_floor) == ("sev_guest", "sev-snp", 1, 0)
    assert len(report.outblob) == 1184 and report.outblob[REPORT_DATA] == DATA
    assert report.auxblob


def test_privlevel_is_a_write_of_its_own(tee):
    report = tsm.collect(DATA, path=tee.path, privlevel=0)
    assert (report.generation, report.privlevel) == (2, 0)


@pytest.mark.parametrize("behaviour,code", [("torn", "torn-read"), ("stale-generation", "torn-read"), ("empty", "empty-report"), ("no-provider", "not-a-tee")])
def test_misbehaviour_is_noticed(tee, behaviour, code):
    tee.run("misbehave", behaviour)
    with pytest.raises(CollectError) as caught:
        tsm.collect(DATA, path=tee.path, attempts=3, sleep=lambda seconds: None)
    assert caught.value.code == code


def test_busy_for_a_while(tee):
    tee.run("misbehave", "busy", "--count", "3")
    waits = []
    assert tsm.collect(DATA, path=tee.path, sleep=waits.append).outblob[REPORT_DATA] == DATA
    assert waits == [0.05, 0.1, 0.2]


def test_busy_for_too_long(tee):
    tee.run("misbehave", "busy", "--count", "100")
    with pytest.raises(CollectError) as caught:
        tsm.collect(DATA, path=tee.path, sleep=lambda seconds: None)
    assert caught.value.code == "provider-busy"


def test_torn_once(tee):
    tee.run("misbehave", "torn", "--count", "1")
    assert tsm.collect(DATA, path=tee.path, sleep=lambda seconds: None).outblob[REPORT_DATA] == DATA


def test_many_at_once_do_not_disturb_each_other(tee):
    results = []

    def run(number):
        data = bytes([number]) * 64
        results.append(tsm.collect(data, path=tee.path).outblob[REPORT_DATA] == data)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


def test_the_module_returns_a_document_that_binds(tee, tmp_path):
    (tmp_path / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AA==\n")
    result = run_module(tee, bind_ssh_host_keys=True, ssh_dir=str(tmp_path))
    document = EvidenceDocument.parse(result["evidence"])
    assert result["changed"] is False and result["digest"] == document.digest()
    assert document.items[0].evidence[REPORT_DATA] == document.expected_report_data(bytes(range(32)))
    assert document.observations["collected_with"] == "configfs-tsm"
    assert set(document.items[0].auxiliary) == {"certificates"}


def test_check_mode_collects_too(tee):
    result = run_module(tee, _ansible_check_mode=True)
    assert EvidenceDocument.parse(result["evidence"]).nonce == bytes(range(32)) and result["changed"] is False


@pytest.mark.parametrize(
    "arguments,code",
    [
        ({"nonce": "AAAA"}, "format"),
        ({"tls_certificate": "/nonexistent"}, "tls-certificate"),
        ({"profile": "kbs"}, "format"),
        ({"tsm_path": "/proc/nonexistent/tsm/report"}, "no-configfs"),
        ({"tsm_path": "/proc/nonexistent/tsm/report", "method": "ioctl", "device": "/nonexistent/sev-guest"}, "not-a-tee"),
    ],
)
def test_the_module_fails_with_one_line(tee, arguments, code):
    result = run_module(tee, **arguments)
    assert result["failed"] and result["code"] == code
    assert result["msg"].count("\n") == 0


def test_a_misbehaving_tee_fails_the_module(tee):
    tee.run("misbehave", "empty")
    assert run_module(tee)["code"] == "empty-report"


def test_the_entry_goes_when_the_process_is_told_to_end(tee, tmp_path):
    """SIGTERM in the middle of waiting for a busy provider."""
    tee.run("misbehave", "busy", "--count", "1000")
    code = (
        "import sys, time\n"
        "from ansible_collections.attested.ai.plugins.module_utils.target import tsm\n"
        "from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors\n"
        "class Files(tsm.Files):\n"
        "    def read(self, path, limit):\n"
        "        if path.endswith('outblob'):\n"
        "            print('reading', flush=True)\n"
        "            time.sleep(60)\n"
        "        return super().read(path, limit)\n"
        "with signals_as_errors():\n"
        "    tsm.collect(bytes(64), path=%r, files=Files())\n" % tee.path
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "reading\n"
    assert len(tee.entries()) == 1
    process.send_signal(signal.SIGTERM)
    _output, errors = process.communicate(timeout=60)
    assert "interrupted by SIGTERM" in errors


@pytest.mark.skipif(shutil.which("ansible", path=os.path.dirname(sys.executable)) is None, reason="ansible is not beside this interpreter")
def test_through_ansible(tee, tmp_path):
    environment = dict(os.environ, PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], ANSIBLE_LOCAL_TEMP=str(tmp_path))
    arguments = json.dumps({"nonce": NONCE, "tsm_path": tee.path})
    command = ["ansible", "localhost", "-m", "attested.ai.tee_evidence", "-a", arguments, "-e", "ansible_python_interpreter=" + sys.executable]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout
    result = json.loads(re.search(r"^localhost \| SUCCESS => (\{.*^\})", run.stdout, re.DOTALL | re.MULTILINE).group(1))
    assert EvidenceDocument.parse(result["evidence"]).digest() == result["digest"]
