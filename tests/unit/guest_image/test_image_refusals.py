# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role refuses before anything changes, in a real run of its tasks, however it is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hosts"))

from role_lab import play  # noqa: E402

pytestmark = pytest.mark.costly
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ somebody"
FACTS = {"user_uid": 0, "user_id": "root", "distribution": "Debian", "distribution_version": "13", "distribution_major_version": "13"}


def source(**other):
    return {"uris": "https://packages.example.org", "suites": "a", "components": "main", "key": "KEY", **other}


# Name of the case: variables, and a part of what is said; nothing where it is taken.
CASES = {
    "good": ({"packages": ["vim=2:9.1", "g++"], "cmdline": ["quiet", "loglevel=3 initcall_debug"]}, ""),
    "accepted": ({"packages": ["cloud-init"], "accept": {"cloud-init": "a trial"}}, ""),
    "no-reason": ({"packages": ["cloud-init"], "accept": {"cloud-init": ""}}, "it takes users, keys and scripts"),
    "package": ({"packages": ["cloud-init"]}, "it takes users, keys and scripts"),
    "version": ({"packages": ["cloud-init=25.1"]}, "it takes users, keys and scripts"),
    "architecture": ({"packages": ["qemu-guest-agent:amd64"]}, "it runs what the host asks it to"),
    "several": ({"packages": ["vim,ignition"]}, "it takes its configuration from the host"),
    "word": ({"cmdline": ["init=/bin/sh"]}, "has init=/bin/sh, which would let the host in"),
    "second-word": ({"cmdline": ["quiet init=/bin/sh"]}, "has init=/bin/sh, which would let the host in"),
    "quoted": ({"cmdline": ['"systemd.import_credentials=yes"']}, "has systemd.import_credentials=yes, which"),
    "half-quoted": ({"cmdline": ["'systemd.unit'=rescue.target"]}, "has systemd.unit=rescue.target, which"),
    "outside": ({"files": [{"src": "x", "dest": "/usr/../../etc/passwd"}]}, "a dest with `..` in it"),
    "source": ({"sources": [source(suites="./", components="")]}, ""),
    "two-sources": ({"sources": [source(uris="https://packages.example.org https://other.example.org")]}, "one address"),
    "flat-source": ({"sources": [source(suites="a/")]}, "none for a suite that ends"),
    "no-public-key": ({"sources": [source(key="OTHER")]}, "as key the path of an armored"),
    "name": ({"name": "../lab"}, "cannot be used in file names"),
    "nobody": ({"authorized_keys": []}, "guest_image_authorized_keys is empty"),
    "private": ({"authorized_keys": [KEY, "-----BEGIN OPENSSH %s KEY-----" % "PRIVATE"]}, "(it is not shown)"),
    "no-key": ({"authorized_keys": ["somebody"]}, "(it is not shown)"),
}


def test_what_the_role_refuses_and_what_it_takes(tmp_path):
    hosts, keys = {}, {"KEY": tmp_path / "key.asc", "OTHER": tmp_path / "other.asc"}
    keys["KEY"].write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    keys["OTHER"].write_text("no key")
    for name, (given, _said) in CASES.items():
        if "sources" in given:
            given = {"sources": [{**given["sources"][0], "key": str(keys[given["sources"][0]["key"]])}]}
        hosts[name] = {f"guest_image_{key}": value for key, value in {"authorized_keys": [KEY], **given}.items()}
    _status, output = play(tmp_path, hosts, "assert", ("--forks", "2", "--extra-vars", json.dumps({"ansible_facts": FACTS})), "guest_image")
    said = {name: "" for name in CASES}
    for line in output.splitlines():
        # A task with a loop tells each item, and at its end that it failed.
        if line.startswith(("fatal: [", "failed: [")):
            said[line.partition("[")[2].partition("]")[0]] += " ".join(line.split())
    assert {name: words in said[name] and bool(said[name]) == bool(words) for name, (_given, words) in CASES.items()} == {name: True for name in CASES}, output
    assert "BEGIN OPENSSH" not in output
