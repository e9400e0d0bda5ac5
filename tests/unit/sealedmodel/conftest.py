# SPDX-License-Identifier: GPL-3.0-or-later
"""A small model and the keys to encrypt it with, made afresh for each test."""

from __future__ import annotations

import os
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan

FILES = {
    "config.json": b'{"hidden_size": 384}',
    "empty": b"",
    "weights/model-00001.safetensors": random.Random(1).randbytes(300_000),
    "weights/model-00002.safetensors": random.Random(2).randbytes(4096),
    "weights/caf\u00e9.txt": b"text",
}
CREATED = "2026-01-31T12:00:00Z"


@pytest.fixture
def model(tmp_path):
    root = tmp_path / "model"
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture
def keys():
    return Keys(Kek("kek-test", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def request_for(model, tmp_path):
    def make(**changes):
        values = {"src": str(model), "dest": str(tmp_path / "sealed"), "model_id": "test-model", "release": 1, "segment_size": 4096}
        values.update(changes)
        return Request(**values)

    return make


@pytest.fixture
def run(keys, request_for):
    """Plan and encrypt in one step; returns the plan and the manifest (None if nothing was to be done)."""

    def go(with_keys=None, meter=None, **changes):
        used = with_keys or keys
        plan = make_plan(request_for(**changes), used)
        return plan, encrypt(plan, used, CREATED, meter) if plan.changed else None

    return go
