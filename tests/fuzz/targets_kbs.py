# SPDX-License-Identifier: GPL-3.0-or-later
"""What a key broker answers, and the documents that go with one: sealed secrets, init-data, policies, the state, a token's file."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.kbs import agent_policy, initdata, regotext, sealed
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient, look
from ansible_collections.attested.ai.plugins.module_utils.kbs.evidence import sample
from ansible_collections.attested.ai.plugins.module_utils.kbs.guest import Collected, GuestClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import State
from ansible_collections.attested.ai.plugins.module_utils.kbs.token import AdminKey, checked_token
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Answer
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from cryptography.hazmat.primitives.asymmetric import ec
from harness import Target

WHERE = "https://kbs.example.org"


@functools.lru_cache(maxsize=1)
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def answered(data: bytes) -> Answer:
    """A status and a header from the first bytes, the rest is the body."""
    status = (200, 200, 200, 401, 404, 302, 413, 503)[data[0] % 8] if data else 200
    head = "kbs-session-id=0123456789abcdef; Path=/" if len(data) < 2 or data[1] % 2 else data[1:40].decode("latin-1")
    return Answer(status, {"set-cookie": head, "date": data[2:40].decode("latin-1")}, data[2:], 0.0)


def guest_seeds() -> list[bytes]:
    bodies = (
        {"nonce": "A" * 43 + "=", "extra-params": ""}, {"nonce": "A" * 43 + "=", "extra-params": {"selected-hash-algorithm": "sha512"}}, {"token": "a.b.c"},
        jwe.wrap_flattened(b"data", public_jwk(key())), {"type": "https://github.com/confidential-containers/kbs/errors/PolicyDeny", "detail": "Access denied"},
    )  # fmt: skip
    return [bytes([place, status, 1]) + json.dumps(body).encode() for place in range(3) for status in (0, 3) for body in bodies]


@functools.lru_cache(maxsize=1)
def good() -> tuple[bytes, ...]:
    bodies = ({"nonce": "A" * 43 + "=", "extra-params": ""}, {"token": "a.b.c"}, jwe.wrap_flattened(b"data", public_jwk(key())))
    return tuple(b"\0\1" + json.dumps(body).encode() for body in bodies)


def guest(data: bytes) -> object:
    """A handshake and one resource; one of the three answers is what is fuzzed."""
    place, number = (data[0] if data else 0) % 3, -1

    def transport(_method, _path, _body, _headers) -> Answer:
        nonlocal number
        number += 1
        return answered(data[1:]) if number == place else answered(good()[number])

    client = GuestClient(transport, WHERE, key())
    client.attest("sample", lambda challenge: Collected(sample(challenge.report_data())))
    return client.resource("a/b/c")


def admin_seeds() -> list[bytes]:
    error = "https://github.com/confidential-containers/kbs/errors/"
    bodies = (
        ["resource-policy"], {"mr_td": ["ab"]}, 1, {"type": error + "RvpsError", "detail": "No reference value found for the given id"},
        {"type": error + "AdminAuthAccess", "detail": "Cannot verify token with any of the issuers"}, {"type": error + "PluginInternalError", "detail": ""},
    )  # fmt: skip
    return [bytes([status, 2 * act + 1]) + json.dumps(body).encode() for act in range(4) for status in (0, 3) for body in bodies]


def admin(data: bytes) -> object:
    client = AdminClient(lambda *_arguments: answered(data), lambda: "t", WHERE)
    acts = (
        client.policies, lambda: client.reference_value("mr_td"), lambda: look(client.transport, WHERE),
        lambda: client.delete_resource(Resource("a", "b", "c")),
    )  # fmt: skip
    return acts[data[1] // 2 % len(acts) if len(data) > 1 else 0]()


def sealed_seeds() -> list[bytes]:
    envelope = sealed.envelope("aws", "k", "a", "b", "c")
    return [sealed.seal(payload, key(), "kbs:///a/b/c").encode() for payload in (sealed.vault("a/b/c"), envelope)]


def init_seeds() -> list[bytes]:
    made = initdata.render(initdata.for_kbs("http://localhost", ""), "sha256")
    packed = initdata.packed(made.toml.encode())
    return [made.toml.encode(), made.annotation.encode(), b"initdata" + len(packed).to_bytes(8, "little") + packed]


def init(data: bytes) -> object:
    if data[:8] == b"initdata":
        return initdata.accept(initdata.from_image(data))
    text = data.decode("latin-1")
    return initdata.accept(initdata.unpacked(text) if text[:4] == "H4sI" else text)


POLICY = b'package agent_policy\n\ndefault ExecProcessRequest := false\n\nallow if {\n  input.x == "y"\n}\n\npolicy_data := {"containers": [{"OCI": {}}]}\n'
REGO = b'package policy\n\nimport rego.v1\n\ndefault allow := false\n\nallow if {\n  input.submods.cpu0["ear.status"] == "affirming"\n}\n'


def state_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.json"
        Path(str(path) + ".key").touch(mode=0o600)
        Path(str(path) + ".key").write_bytes(b"00" * 32)
        kept = State.read(str(path), create_key=True)
        kept.begin(WHERE, "00" * 16)
        kept.note(WHERE, "resource", "a/b/c", kept.digest(WHERE, "resource", "a/b/c", b"x"))
        kept.save()
        return [path.read_bytes()]


def token_seeds() -> list[bytes]:
    return [AdminKey(key(), "ops", clock=lambda: 4e9).token().encode()]


TARGETS = {
    "kbs-guest": Target(guest_seeds, guest),
    "kbs-admin": Target(admin_seeds, admin),
    "kbs-sealed-secret": Target(sealed_seeds, lambda data: sealed.verify(data.decode("latin-1"), key().public_key())),
    "kbs-init-data": Target(init_seeds, init),
    "kbs-agent-policy": Target(lambda: [POLICY], lambda data: agent_policy.look(data.decode("latin-1"))),
    "kbs-rego-check": Target(lambda: [REGO], lambda data: regotext.check(data.decode("latin-1"), ["allow"], "x")),
    "kbs-state": Target(state_seeds, lambda data: State.parse("state", bytes(32), data)),
    "kbs-token-file": Target(token_seeds, lambda data: checked_token(data, "token")),
}
