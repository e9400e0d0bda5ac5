# SPDX-License-Identifier: GPL-3.0-or-later
"""A small encrypted model, a guest's memory and sessions with its key, for tests that open it from somewhere."""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.session import create_session, prepare_directory
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import opening
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.opening import Order
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan, unwrap_dek

FILES = {"config.json": b"{}", "empty": b"", "weights/a b+%.bin": random.Random(1).randbytes(300_000), "weights/b.bin": random.Random(2).randbytes(50_000)}


class World:
    def __init__(self, root: Path, memory: Path, files: dict | None = None, segment_size: int = 4096) -> None:
        self.root, self.memory, self.segment_size = root, memory, segment_size
        self.keys = Keys(Kek("kek-test", os.urandom(32)), ec.generate_private_key(ec.SECP256R1()))
        for name, data in (files or FILES).items():
            (root / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "plain" / name).write_bytes(data)
        self.manifest = self.encrypt("sealed")

    def encrypt(self, dest: str, release: int = 1, profile: str = "files"):
        plan = make_plan(Request(str(self.root / "plain"), str(self.root / dest), "web", release, self.segment_size, profile=profile), self.keys)
        return encrypt(plan, self.keys, "2026-01-31T12:00:00Z")

    def session(self) -> str:
        sessions = str(self.memory / "sessions")
        prepare_directory(sessions)
        made = create_session(sessions, os.urandom(8).hex(), 60)
        later = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=5)
        release = KeyRelease(
            model_id="web", release=1, minimum_release=1, key_id=self.manifest.key_id, manifest_signer=public_jwk(self.keys.signer), evidence_digest="00" * 32,
            not_after=later, key=bytes(unwrap_dek(self.manifest.dek, self.keys.kek)),
        )  # fmt: skip
        made.store_release(seal(release, made.jwk()))
        return made.name

    def open(self, src: str, **options) -> dict:
        values = {"dest": str(self.memory / "model"), "session": self.session(), "session_directory": str(self.memory / "sessions"), "allow_http": True}
        return opening.run(Order(src=src, **{**values, **options}))

    def contents(self) -> dict:
        dest = self.memory / "model"
        return {str(path.relative_to(dest)): path.read_bytes() for path in dest.rglob("*") if path.is_file()}

    def refused(self, code: str, src: str, **options) -> str:
        with pytest.raises(AttestedError) as caught:
            self.open(src, **options)
        assert caught.value.code == code, str(caught.value)
        assert [path.name for path in self.memory.iterdir()] == ["sessions"], "nothing is left of the attempt"
        assert not list((self.memory / "sessions").iterdir())
        return str(caught.value)
