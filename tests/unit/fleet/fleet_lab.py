# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of a made-up fleet. The keys are drawn here."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

AT = "2026-11-28T12:00:00Z"
TCB = {"bootloader": 10, "tee": 0, "snp": 27, "microcode": 84}


def key():
    return ec.generate_private_key(ec.SECP256R1())


def pem(private):
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_pem(private):
    return private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def result(status="affirming", at=AT, expires="2027-01-30T00:00:00Z", anchor="vendor", tee="sev-snp", reasons=None, policy="p", **claims):
    good = status in ("affirming", "warning")
    if reasons is None:
        reasons = [] if good else ["policy-debug"]
    shown = {"machine": "ab" * 32, "measurement": "cd" * 48, "product": "genoa", "tcb": {"reported": dict(TCB), "current": dict(TCB)}, **claims}
    item = {
        "tee": tee, "status": status, "anchor": anchor, "authentic": True, "accepted": good, "checks": [], "claims": shown,
        "trustworthiness_vector": {}, "evidence_identity": "",
    }  # fmt: skip
    return {
        "schema": "attested.ai/result/1", "accepted": good, "authentic": True, "status": status, "anchor": anchor, "evaluated_at": at, "expires_at": expires,
        "nonce": "AAAA", "evidence_digest": "ab" * 32, "policy": {"id": policy, "digest": "cd" * 32}, "binding": {"ssh_host_keys": ["SHA256:x"]},
        "reasons": [{"id": code, "detail": f"about {code}"} for code in reasons], "checks": [], "out_of_scope": [],
        "chain_of_trust": {"reaches": "service", "required": "service", "waived": False, "reason": ""}, "submods": {"cpu0": item},
    }  # fmt: skip


def changed(document, **claims):
    """The same result with other claims."""
    document = copy.deepcopy(document)
    document["submods"]["cpu0"]["claims"].update(claims)
    return document


DRIVER = """
import json, sys
from ansible.plugins.loader import init_plugin_loader
from ansible.parsing.dataloader import DataLoader
from ansible.inventory.manager import InventoryManager
init_plugin_loader()
answers = {}
for name, sources in json.loads(sys.argv[1]).items():
    try:
        found = InventoryManager(loader=DataLoader(), sources=sources)
        groups = {group: sorted(host.name for host in one.hosts) for group, one in found.groups.items()}
        answers[name] = {"groups": groups, "hosts": {host: one.vars for host, one in found.hosts.items()}}
    except Exception as error:
        answers[name] = {"error": type(error).__name__ + " " + str(error)}
json.dump(answers, open(sys.argv[2], "w"))
"""


def inventories(directory, wanted):
    """Several inventories, each read anew by Ansible's own manager; one process, because starting it is what takes the time."""
    answers = directory / "answers.json"
    environment = {**os.environ, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
    sources = {name: [str(source) for source in several] for name, several in wanted.items()}
    command = [sys.executable, "-c", DRIVER, json.dumps(sources), str(answers)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return {**json.loads(answers.read_text()), "said": " ".join(done.stderr.split())}
