# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""key_ledger through a real ansible-playbook: what it returns, and what it says about damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk, ledger
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

KEY = ec.generate_private_key(ec.SECP256R1())
ENTRY = ledger.Entry(
    at="2026-01-31T12:00:00Z",
    who="alice",
    key_id="kek-1",
    model_id="llama",
    release=3,
    evidence_digest="ab" * 32,
    policy_id="p",
    policy_digest="cd" * 32,
    guest_key_thumbprint="t",
    decision="refused",
    reasons=("snp-debug: debug is on",),
)


@pytest.fixture
def path(tmp_path):
    for name in ("llama", "other", "llama"):
        ledger.append(str(tmp_path / "ledger"), KEY, ledger.Entry(**dict(vars(ENTRY), model_id=name)))
    return str(tmp_path / "ledger")


def run(tmp_path, *tasks):
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}]
    (tmp_path / "play.json").write_text(json.dumps(play))
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"))
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.json")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_returns_verified_entries(tmp_path, path):
    pem = tmp_path / "pub.pem"
    pem.write_bytes(KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    head = ledger.verify(path, jwk.public_jwk(KEY)).head
    checks = [
        "found is not changed",
        "found.verified",
        "found.count == 3",
        "found.entries | length == 2",
        "found.head == '%s'" % head,
        "found.entries | map(attribute='seq') == [1, 3]",
        "found.entries[0].reasons == ['snp-debug: debug is on']",
        "again.count == 3",
    ]
    code, output = run(
        tmp_path,
        {"attested.ai.key_ledger": {"path": path, "public_key": str(pem), "model_id": "llama"}, "register": "found"},
        {"attested.ai.key_ledger": {"path": path, "public_key": jwk.public_jwk(KEY), "known_head": head}, "register": "again"},
        {"ansible.builtin.assert": {"that": checks}},
    )
    assert code == 0, output


def test_damage_is_one_clear_line(tmp_path, path):
    os.truncate(path, os.path.getsize(path) - 10)
    code, output = run(
        tmp_path,
        {"attested.ai.key_ledger": {"path": path, "public_key": jwk.public_jwk(KEY)}, "register": "bad", "ignore_errors": True},
        {"ansible.builtin.assert": {"that": ["bad is failed", "bad.code == 'ledger-truncated'", "'the tail was cut off' in bad.msg"]}},
        {"attested.ai.key_ledger": {"path": path, "public_key": "/nonexistent"}},
    )
    assert code == 2 and "/nonexistent: it cannot be read" in output and "Traceback" not in output, output
