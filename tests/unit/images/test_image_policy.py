# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images guests let in: the policy that is made, what is refused, and what a real reader of such policies makes of it."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import images_lab
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.attested.ai.plugins.filter.image_security_policy import image_security_policy, image_security_policy_keys
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo

KEY = "kbs:///default/cosign-public-key/prod"
ENTRY = {"scope": "registry.example.org/inference", "key": KEY}
POLICY = image_security_policy([ENTRY])


def test_everything_else_is_rejected():
    assert POLICY == {
        "default": [{"type": "reject"}],
        "transports": {"docker": {"registry.example.org/inference": [
            {"type": "sigstoreSigned", "keyPath": KEY, "signedIdentity": {"type": "matchRepository"}}]}},
    }  # fmt: skip
    # What it made it takes, as dictionary and as text, and makes the same bytes each time.
    assert image_security_policy(POLICY) == image_security_policy(json.dumps(POLICY)) == POLICY
    both = [{"scope": "b.example.org", "key": KEY}, {"scope": "a.example.org:5000/x/y:1.2", "key": KEY}]
    assert json.dumps(image_security_policy(both)) == json.dumps(image_security_policy(both[::-1]))


def test_other_kinds_of_signatures_and_mirrors():
    policy = image_security_policy([
        {"scope": "*.example.org", "key": "default/gpg/prod", "kind": "gpg"}, {**ENTRY, "identity": "docker.io/library/inference"},
    ])  # fmt: skip
    scopes = policy["transports"]["docker"]
    assert scopes["*.example.org"] == [
        {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "kbs:///default/gpg/prod", "signedIdentity": {"type": "matchRepository"}},
    ]
    assert scopes[ENTRY["scope"]][0]["signedIdentity"] == {"type": "exactRepository", "dockerRepository": "docker.io/library/inference"}
    assert image_security_policy_keys(policy) == ["default/cosign-public-key/prod", "default/gpg/prod"]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "1 to 1000 scopes"),
        ("[]", "an object was expected"),
        ([{"scope": "registry.example.org"}], "key is missing"),
        ([{**ENTRY, "kind": "none"}], "neither cosign nor gpg"),
        ([{**ENTRY, "type": "insecureAcceptAnything"}], "unknown member"),
        ([ENTRY, ENTRY], "twice"),
        ([{**ENTRY, "key": "/etc/cosign.pub"}], "repository/type/tag"),
        ([{**ENTRY, "key": "kbs://kbs.example.org/default/key/x"}], "repository/type/tag"),
        *(([{**ENTRY, "scope": scope}], "is no HOST") for scope in (
            "", "inference", "library/inference", "*", "*.org", "https://registry.example.org", "registry.example.org/Inference", "registry.example.org/",
            "registry.example.org/x@sha256:" + "0" * 64, "registry.example.org/../x", "REGISTRY.example.org")),
        ([{**ENTRY, "identity": "inference"}], "is no HOST/NAME"),
    ],
)  # fmt: skip
def test_entries_that_mean_something_else(entries, words):
    with pytest.raises(AnsibleFilterError, match=words):
        image_security_policy(entries)


def changed(**change: object) -> dict:
    policy = copy.deepcopy(POLICY)
    policy["transports"]["docker"][ENTRY["scope"]][0].update(change)
    return policy


def scoped(requirements: object, scope: str = ENTRY["scope"]) -> dict:
    return {**POLICY, "transports": {"docker": {scope: requirements}}}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({**POLICY, "default": [{"type": "insecureAcceptAnything"}]}, "would be let in"),
        ({**POLICY, "default": []}, "would be let in"),
        ({**POLICY, "default": POLICY["transports"]["docker"][ENTRY["scope"]]}, "would be let in"),
        ({"default": [{"type": "reject"}]}, "transports is missing"),
        ({**POLICY, "transports": {}}, "docker is missing"),
        ({**POLICY, "transports": {**POLICY["transports"], "dir": {"": [{"type": "insecureAcceptAnything"}]}}}, "unknown member 'dir'"),
        (scoped([]), "lets everything in"),
        (scoped([{"type": "insecureAcceptAnything"}]), "accepts anything"),
        (scoped([{"type": "reject"}, {"type": "insecureAcceptAnything"}]), "accepts anything"),
        (scoped([{"type": "insecureAcceptAnything"}], ""), "is no HOST|accepts anything"),
        (scoped([{"type": "sigstoreSigned", "keyPath": KEY, "signedIdentity": {"type": "matchRepository"}}], ""), "is no HOST"),
        (scoped([{"type": "signedBaseLayer"}]), "know no requirement"),
        (scoped(["reject"]), "know no requirement"),
        (scoped([{"type": "sigstoreSigned", "keyPath": KEY}]), "signedIdentity is missing"),
        (changed(signedIdentity={"type": "matchExact"}), "accept no identity"),
        (changed(signedIdentity={"type": "remapIdentity", "prefix": "a", "signedPrefix": "b"}), "accept no identity"),
        (changed(signedIdentity={"type": "exactRepository", "dockerRepository": "x"}), "is no HOST/NAME"),
        (changed(keyPath="/run/image-security/cosign.pub"), "host cannot change"),
        (changed(keyPath="kbs:///default/key"), "repository/type/tag"),
        (changed(keyData="AAAA"), "keyData is not taken"),
        (changed(rekorPublicKeyPath="/x"), "unknown member"),
        (5, "object was expected"),
        ("{", "not JSON"),
        ('{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}], "transports": {}}', "occurs twice"),
    ],
)
def test_policies_that_let_in_what_nobody_signed(policy, words):
    with pytest.raises(AnsibleFilterError, match=words):
        image_security_policy(policy)


def test_the_policies_of_the_guests_own_tests_are_open(vectors: Path):
    folder = vectors / "coco" / "guest-components" / "image-rs"
    for name in ("policy.json", "security_policy.json"):
        with pytest.raises(AnsibleFilterError):
            image_security_policy((folder / name).read_text())


def test_a_real_reader_lets_in_what_was_signed_and_nothing_else(tmp_path: Path, skopeo: Skopeo, registry: images_lab.Registry):
    """containers/image, in skopeo. Where the policy names a resource of the KBS, the test puts the same key in a file, as it cannot ask a KBS."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [skopeo.path, "--registries.d", str(tmp_path / "registries.d"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)

    (tmp_path / "registries.d").mkdir()
    (tmp_path / "registries.d" / "x.yaml").write_text(f"docker:\n  {registry.host}:\n    use-sigstore-attachments: true\n")
    (tmp_path / "word").write_text("word")
    for name in ("ours", "other"):
        assert run("generate-sigstore-key", "--output-prefix", name, "--passphrase-file", "word").returncode == 0
    images_lab.plain(tmp_path / "plain")
    signer = ["--sign-passphrase-file", "word", "--sign-by-sigstore-private-key"]
    signers = {"inference": [*signer, "ours.private"], "foreign": [*signer, "other.private"], "nobody": [], "beside": [*signer, "ours.private"]}
    for name, arguments in signers.items():
        done = run("--insecure-policy", "copy", "--dest-tls-verify=false", *arguments, "oci:plain:1", f"docker://{registry.host}/{name}:1")
        assert done.returncode == 0, done.stderr
    # Signed by our key for another name, and then put under this one.
    digest = images_lab.layout.digest_of(registry.manifests["beside", "1"])
    for tag in ("1", digest.replace(":", "-") + ".sig"):
        registry.manifests["moved", tag] = registry.manifests["beside", tag]

    policy = image_security_policy([{"scope": f"{registry.host}/{name}", "key": KEY} for name in ("inference", "foreign", "nobody", "moved")])
    (tmp_path / "policy.json").write_text(json.dumps(policy).replace(KEY, str(tmp_path / "ours.pub")))
    verdicts = {}
    for name in ("inference", "foreign", "nobody", "moved", "beside"):
        done = run("--policy", "policy.json", "copy", "--src-tls-verify=false", "--remove-signatures", f"docker://{registry.host}/{name}:1", f"oci:out:{name}")
        verdicts[name] = done.returncode == 0
        assert done.returncode == 0 or "Source image rejected" in done.stderr, done.stderr
    assert verdicts == {"inference": True, "foreign": False, "nobody": False, "moved": False, "beside": False}


@pytest.mark.skipif(not images_lab.COCO_PEER, reason="no program of CoCo's crates: ATTESTED_COCO_PEER names none")
def test_a_guests_own_reader(tmp_path: Path):
    """What image-rs reads out of it; and that what is refused here is open there, without a word."""

    def read(policy: object, *names: str) -> tuple[object, list[bool]]:
        (tmp_path / "policy.json").write_text(json.dumps(policy))
        program = Path(images_lab.COCO_PEER).with_name("coco-policy")
        done = subprocess.run([program, str(tmp_path / "policy.json"), *names], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        first, *others = done.stdout.splitlines()
        return first if first == "open" else json.loads(first), [line.endswith(" true") for line in others]

    policy = image_security_policy([
        ENTRY, {"scope": "mirror.example.org/copies", "key": KEY, "identity": "docker.io/library/inference"},
        {"scope": "*.example.com", "key": KEY, "kind": "gpg"},
        {"scope": "registry.example.org/inference:2", "key": "kbs:///default/cosign-public-key/two"},
    ])  # fmt: skip
    (found,), fits = read(policy, "registry.example.org/inference:1", "registry.example.org/inference", "registry.example.org/other")
    assert (found["type"], found["keyPath"], fits) == ("sigstoreSigned", KEY, [True, False])
    (found,), fits = read(policy, "mirror.example.org/copies/inference:1", "docker.io/library/inference", "mirror.example.org/copies/inference")
    assert fits == [True, False]
    assert read(policy, "registry.example.com:5000/x:1")[0][0]["type"] == "signedBy"  # type: ignore[index]
    assert read(policy, "registry.example.org/inference:2")[0][0]["keyPath"] == "kbs:///default/cosign-public-key/two"  # type: ignore[index]
    for name in ("registry.example.org/other:1", "inference", "registry.example.org/inference2:1", "example.com/x:1"):
        assert read(policy, name)[0] == [{"type": "reject"}]
    # Open without a word, so that the filter refuses them.
    assert read(scoped([]), "registry.example.org/inference:1")[0] == "open"
    unnamed = scoped([{"type": "sigstoreSigned", "keyPath": KEY}])
    assert read(unnamed, "registry.example.org/inference:1", "elsewhere.example.org/other")[1] == [True]
