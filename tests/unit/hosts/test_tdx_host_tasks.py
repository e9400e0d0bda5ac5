# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the role tdx_host in real runs: a module that is not named whole or not for this CPU is refused, and the one that runs is compared."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import tempfile

import pytest
from role_lab import play
from snp_lab import RECORDED
from tdx_esp_lab import archive, sigstruct

from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp.given import MEMBERS

pytestmark = pytest.mark.costly
MODULE = b"module" * 9
GOOD = json.loads((RECORDED / "tdx-good.json").read_text())


def placed(version, mrseam, **more):
    return {"__tdx_host_module": {"tdx_module": {"version": version, "mrseam": mrseam}, "paths": ["/efi/EFI/TDX/TDX-SEAM.so"]}, **more}


def test_what_runs_must_be_what_was_placed(tmp_path):
    mrseam = "49b66faa451d19ebbdbe89371b8daf2b65aa3984ec90110343e9e2eec116af08850fa20e3b1aa9a874d77a65380ee7e6"
    silent = json.loads(json.dumps(GOOD))
    silent["kernel_log"] = {"lines": ["later"], "complete": False, "source": "/dev/kmsg"}
    hosts = {
        "same": placed("1.5.08", mrseam, recording=GOOD),
        "other": placed("1.5.34", "ab" * 48, recording=GOOD),
        "unlisted": placed(None, "cd" * 48, recording=GOOD),
        "lost": placed("1.5.34", "ab" * 48, recording=silent),
    }
    status, output = play(tmp_path, hosts, "module_check", role="tdx_host")
    recap = {line.split()[0]: "failed=1" in line for line in output.split("PLAY RECAP")[1].splitlines() if ":" in line}
    assert status == 2 and recap == {"same": False, "other": True, "unlisted": False, "lost": False}, output
    assert "Placed was the TDX module 1.5.34, and what runs is 1.5.08" in output


def test_a_module_must_be_named_whole_and_fit_this_cpu(tmp_path):
    # No CPU has this signature, whatever this machine's is.
    files = (MODULE, sigstruct(MODULE, cpus=(0x10,)))
    release = tmp_path / "release.tar.gz"
    release.write_bytes(archive(dict(zip(MEMBERS, files))))
    digest = hashlib.sha256(release.read_bytes()).hexdigest()
    given = {"tdx_host_module_archive": str(release)}
    cases = {
        "bare": (given, "tdx_host_module_archive_sha256"),
        "short": ({**given, "tdx_host_module_archive_sha256": digest[:-1]}, "64 lower-case hex digits"),
        "both": ({**given, "tdx_host_module_archive_sha256": digest, "tdx_host_module_file": "x"}, "Give tdx_host_module_archive"),
        "half": ({"tdx_host_module_file": "x", "tdx_host_module_file_sha256": digest}, "tdx_host_module_sigstruct"),
        "changed": ({**given, "tdx_host_module_archive_sha256": "0" * 64}, "it has the SHA-256 " + digest),
        "misfit": ({**given, "tdx_host_module_archive_sha256": digest}, "tdx-module-cpu"),
    }
    pattern = os.path.join(tempfile.gettempdir(), "attested-ai-tdx-module-*")
    before = set(glob.glob(pattern))
    shared = {"tdx_host_module_allow_older": False}
    status, output = play(tmp_path, {name: {**variables, **shared} for name, (variables, _said) in cases.items()}, "module", role="tdx_host")
    recap = {line.split()[0]: "failed=1" in line for line in output.split("PLAY RECAP")[1].splitlines() if ":" in line}
    assert status == 2 and all(recap.values()), output
    for _variables, said in cases.values():
        assert said in output
    assert set(glob.glob(pattern)) == before and "Traceback" not in output
