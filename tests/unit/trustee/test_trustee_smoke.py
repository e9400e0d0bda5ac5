# SPDX-License-Identifier: GPL-3.0-or-later
"""The trial of a key broker that is in service: a sound one passes, and each way to be unsound is found."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.action.trustee_smoke import tls_of
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.token import AdminKey
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server, make_transport
from ansible_collections.attested.ai.plugins.module_utils.trustee import certificates as x
from ansible_collections.attested.ai.plugins.module_utils.trustee import eartoken, keys, plan
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError
from ansible_collections.attested.ai.plugins.module_utils.trustee.smoke import TLS, Trial

sys.path.insert(0, str(Path(__file__).resolve().parent))
from trustee_lab import description  # noqa: E402  pylint: disable=wrong-import-position
from trustee_program import DEFAULT_POLICY, Fault, Listening, Program, tomllib  # noqa: E402  pylint: disable=wrong-import-position

ALLOW = DEFAULT_POLICY.split("allow if")[0] + "allow if {\n  data.plugin == \"resource\"\n}\n"
AFFIRM = "package policy\n\nimport rego.v1\n\ntrust_claims := {\"executables\": 3, \"hardware\": 2, \"configuration\": 2}\n"


class Running:
    """A key broker of the role's own keys and configuration, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        now = datetime.datetime.now(datetime.timezone.utc)
        for kind, where in (("admin", folder / "etc"), ("tls", folder / "etc" / "keys"), ("token", folder / "etc" / "keys")):
            wish = keys.Wish(str(where), kind, names=("127.0.0.1",))
            keys.apply(wish, keys.plan(wish, now))
        given = description(listen=["127.0.0.1:1"], config_dir=str(folder / "etc"), data_dir=str(folder / "var"))
        config = tomllib.loads(plan.make(given)["files"]["kbs.toml"])
        config["http_server"]["sockets"] = ["127.0.0.1:0"]
        self.kbs = Program(config)
        self.server = Listening(self.kbs, config["http_server"])
        self.ca = (folder / "etc" / "keys" / "tls-ca.pem").read_text()
        self.token_ca = (folder / "etc" / "keys" / "token-ca.pem").read_text()

    def trial(self, **changed) -> Trial:
        address = Server(self.server.url, self.ca, timeout=changed.pop("timeout", 10))
        key = x.load_private((self.folder / "etc" / "admin.key").read_bytes(), "key")
        transport = make_transport(address)
        admin = AdminClient(transport, AdminKey(key, changed.pop("issuer", "ops.example.org"), clock=changed.pop("minted", lambda: 10**10)).token, address.url)
        given = {"tls": lambda: tls_of(address), "token_authority": self.token_ca, **changed}
        return Trial(transport, address.url, admin, **given)

    def found(self, **changed) -> dict[str, str]:
        return {check.id: f"{check.outcome} {check.detail}" for check in self.trial(**changed).run()}


@pytest.fixture
def running(tmp_path) -> Iterator[Running]:
    found = Running(tmp_path)
    with found.server.running():
        yield found


def test_a_sound_one(running):
    policy = running.kbs.policy
    found = running.found()
    assert {detail.split()[0] for detail in found.values()} == {"pass"} and len(found) == 10
    assert found["tls-1.3"] == "pass TLS 1.3 only" and found["token"].endswith("cpu0 contraindicated")
    # Nothing was changed, and nothing given out.
    assert running.kbs.policy == policy and dict(running.kbs.resources) == {}
    assert not {"POST /kbs/v0/resource-policy", "POST /kbs/v0/attestation-policy"} & {" ".join(one) for one in running.server.requests}
    assert running.found(token_authority="", attestation=False)["handshake"] == "not_checked left out"


def open_admin(running):
    running.kbs.admin = type(running.kbs.admin)(mode="InsecureAllowAll")


def lets_in(running):
    running.kbs.policy = ALLOW


def affirms(running):
    running.kbs.attestation.policies["default_cpu"] = AFFIRM


def broken_policy(running):
    running.kbs.attestation.policies["default_cpu"] = "package policy\n\nallow if {\n"


def binds_nothing(running):
    running.kbs.attestation.evaluate = lambda *given: running.kbs.attestation._token({"sample": {"svn": "1"}})


def other_signer(running):
    running.kbs._signer = x.new_ec_key()


def foreign_signature(running):
    """The header's key and certificate are right, and another key signed."""
    jwk, key = running.kbs._jwk(), x.new_ec_key()
    running.kbs._jwk = lambda: jwk
    running.kbs._signer = key


def other_authority(running):
    key, now = x.new_ec_key(), datetime.datetime.now(datetime.timezone.utc)
    running.kbs._chain = [x.issue("token", running.kbs._signer.public_key(), (), x.authority("other", key, now, 9), key, now, 5)]


def no_chain(running):
    running.kbs._chain = []


def no_clock(running):
    running.server.clock_ahead = 3600


def old_tls(running):
    running.server._http.tls.minimum_version = 771


def says_yes(running):
    running.server.faults.append(Fault("garbage"))


UNSOUND = {
    "something else": (says_yes, {}, "unattested-refused", "it answers 200 to a guest that attested nothing"),
    "admin": (open_admin, {}, "admin-closed", "lets admins in without a token"),
    "policy": (lets_in, {}, "sample-refused", "lets the sample TEE in"),
    "attestation": (affirms, {}, "token", "is affirming in cpu0"),
    "rego": (broken_policy, {}, "handshake", "a bad attestation policy makes every attestation fail"),
    "binding": (binds_nothing, {}, "binding", "it issued a token for evidence that binds another challenge"),
    "signer": (other_signer, {}, "token", "its header's key is none of its certificate"),
    "signature": (foreign_signature, {}, "token", "its signature is none of its certificate's key"),
    "authority": (other_authority, {}, "token", "of another authority"),
    "chain": (no_chain, {}, "token", "no certificate is in its header's key"),
    "clock": (no_clock, {}, "clock", "its clock is +3"),
    "tls": (old_tls, {}, "tls-1.3", "it takes TLS 1.2"),
    "issuer": (lambda running: None, {"issuer": "another"}, "admin-token", "does not accept the admin token"),
    "expired": (lambda running: None, {"minted": lambda: 10**9}, "admin-token", "does not accept the admin token"),
    "no tls": (lambda running: None, {"tls": lambda: "none"}, "tls-1.3", "without TLS"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_an_unsound_one(running, case):
    act, given, check, said = UNSOUND[case]
    act(running)
    found = running.found(**given)
    assert found[check].startswith("fail ") and said in found[check], found


@pytest.mark.parametrize(("fault", "code"), [("drop", "kbs-broken-off"), ("drip", "kbs-slow")])
def test_one_that_does_not_answer(running, fault, code):
    running.server.faults.append(Fault(fault))
    with pytest.raises(KbsError) as caught:
        running.found(timeout=0.3)
    assert caught.value.code == code


def test_one_that_is_another(running, tmp_path):
    address = Server(running.server.url, running.ca, server_name="kbs.example.org", timeout=5)
    with pytest.raises(KbsError) as caught:
        Trial(make_transport(address), address.url, None, lambda: "new").run()
    assert caught.value.code == "kbs-tls-name"


@pytest.mark.parametrize("token", ["", "a.b", "e30.e30.e30", "eyJhbGciOiJub25lIn0.e30.AAAA"])
def test_what_is_no_token(running, token):
    with pytest.raises(TrusteeError, match="attestation token"):
        eartoken.verify(token, running.token_ca, datetime.datetime.now(datetime.timezone.utc))


def test_words_for_tls_are_outcomes():
    assert {outcome for outcome, _detail in TLS.values()} == {"pass", "fail", "not_checked"}
