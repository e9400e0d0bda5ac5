# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypting a directory: idempotence, releases, interruption, and what must be refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import Kek
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import encrypt as encrypt_module
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import profiles
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt, refresh_state
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, make_plan, unwrap_dek
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.segments import associated_data
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.signature import verify_manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.tink_stream import StreamEngine, read_header
from ansible_collections.attested.ai.tests.unit.sealedmodel.conftest import CREATED, FILES


def everything(root) -> dict:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_each_file_is_there_and_decrypts_with_the_unwrapped_key(run, keys, tmp_path):
    plan, manifest = run()
    sealed = tmp_path / "sealed"
    assert plan.changed and plan.before is None
    assert set(everything(sealed)) == {name + ".tink" for name in FILES} | {tree.MANIFEST, tree.SIGNATURE}
    raw = (sealed / tree.MANIFEST).read_bytes()
    assert Manifest.parse(raw) == manifest and manifest.to_bytes() == raw
    verify_manifest(raw, (sealed / tree.SIGNATURE).read_bytes(), public_jwk(keys.signer))
    dek = unwrap_dek(manifest.dek, keys.kek)
    with StreamEngine(4096) as engine:
        for entry in manifest.files:
            source, dest = os.open(sealed / entry.ciphertext_path, os.O_RDONLY), os.memfd_create("out")
            engine.decrypt(source, dest, entry.size, dek, associated_data("test-model", 1, entry.path), read_header(source))
            assert os.pread(dest, entry.size + 1, 0) == FILES[entry.path]


def test_nothing_of_the_plaintext_or_the_key_lies_beside_the_ciphertext(run, keys, tmp_path):
    _plan, manifest = run()
    dek = bytes(unwrap_dek(manifest.dek, keys.kek))
    for path in [*(tmp_path / "sealed").rglob("*"), *tmp_path.glob("sealed.*")]:
        if path.is_file():
            data = path.read_bytes()
            assert dek not in data and dek.hex().encode() not in data and keys.kek.key not in data
            assert FILES["weights/model-00002.safetensors"][:32] not in data and b"hidden_size" not in data
    assert os.stat(tmp_path / "sealed.state").st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.glob("sealed*")) == ["sealed", "sealed.state"]


def test_the_second_run_changes_nothing_and_reads_no_data(run, monkeypatch, tmp_path):
    run()
    before = everything(tmp_path / "sealed")
    monkeypatch.setattr(profiles, "StreamEngine", None)
    plan, manifest = run()
    assert not plan.changed and manifest is None and everything(tmp_path / "sealed") == before


def test_verify_content_reads_all_and_finds_a_change_that_hides_its_time(run, model):
    run()
    path = model / "weights" / "model-00002.safetensors"
    status = path.stat()
    with open(path, "r+b") as stream:
        stream.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not run()[0].changed, "size, time and inode are the same"
    with pytest.raises(ModelError, match="model-00002.safetensors differs") as caught:
        run(verify="content")
    assert caught.value.code == "model-release-same"


@pytest.mark.parametrize("lost", ["touched", "no-state", "broken-state"])
def test_without_usable_notes_the_content_decides_and_the_notes_are_renewed(run, model, tmp_path, lost, keys, request_for, monkeypatch):
    run()
    if lost == "touched":
        os.utime(model / "config.json")
    elif lost == "no-state":
        os.unlink(tmp_path / "sealed.state")
    else:
        (tmp_path / "sealed.state").write_text("{}\n")
    plan, _manifest = run()
    assert not plan.changed and plan.stale_state
    refresh_state(plan, keys)
    monkeypatch.setattr(profiles, "StreamEngine", None)
    plan, _manifest = run()
    assert not plan.changed and not plan.stale_state


def test_changed_source_needs_a_higher_release(run, model):
    run()
    (model / "config.json").write_bytes(b'{"hidden_size": 385}')
    with pytest.raises(ModelError, match="Raise release"):
        run()
    (model / "config.json").write_bytes(b"longer than it was before")
    with pytest.raises(ModelError, match="config.json differs"):
        run()
    assert run(replace=True)[0].changed
    assert not run()[0].changed


def test_a_higher_release_gets_another_data_key_and_a_lower_one_is_refused(run, keys, tmp_path):
    first = run()[1]
    plan, second = run(release=2)
    assert plan.reason == "release 2 follows 1" and second.key_id != first.key_id
    assert unwrap_dek(first.dek, keys.kek) != unwrap_dek(second.dek, keys.kek)
    headers = {entry.header_sha256 for entry in first.files} & {entry.header_sha256 for entry in second.files}
    assert not headers
    with pytest.raises(ModelError) as caught:
        run(release=1)
    assert caught.value.code == "model-release-lower"
    assert not list(tmp_path.glob("sealed.partial*"))


def test_a_lower_release_is_refused_even_with_replace(run):
    run(release=2)
    with pytest.raises(ModelError) as caught:
        run(release=1, replace=True)
    assert caught.value.code == "model-release-lower"


def test_another_model_or_another_signer_is_not_overwritten(run, keys, tmp_path):
    run()
    before = everything(tmp_path / "sealed")
    with pytest.raises(ModelError) as caught:
        run(model_id="other", release=2)
    assert caught.value.code == "model-other"
    with pytest.raises(ModelError, match="signature is not accepted"):
        run(with_keys=Keys(keys.kek, ec.generate_private_key(ec.SECP256R1())), release=2)
    assert everything(tmp_path / "sealed") == before


def test_a_directory_with_other_things_is_not_replaced(run, tmp_path):
    (tmp_path / "sealed").mkdir()
    (tmp_path / "sealed" / "thesis.doc").write_text("x")
    with pytest.raises(ModelError) as caught:
        run(replace=True)
    assert caught.value.code == "model-dest" and (tmp_path / "sealed" / "thesis.doc").exists()


def test_an_empty_directory_is_taken(run, tmp_path):
    (tmp_path / "sealed").mkdir()
    assert run()[0].changed


def test_another_kek_is_no_silent_change(run, keys):
    run()
    with pytest.raises(ModelError, match="wrapped with another key"):
        run(with_keys=Keys(Kek("kek-new", os.urandom(32)), keys.signer))


def test_missing_ciphertext_is_made_again(run, tmp_path):
    first = run()[1]
    os.unlink(tmp_path / "sealed" / "config.json.tink")
    plan, second = run()
    assert plan.changed and "config.json is missing or damaged" in plan.reason and second.key_id != first.key_id
    assert not run()[0].changed


@pytest.mark.parametrize("dest", ["model", "model/sealed", "."])
def test_source_and_destination_must_not_overlap(run, tmp_path, dest):
    with pytest.raises(ModelError, match="lie in each other"):
        run(dest=os.path.normpath(str(tmp_path / dest)))


def test_no_space_is_refused_before_the_first_byte(run, monkeypatch, tmp_path):
    monkeypatch.setattr(encrypt_module, "free_space", lambda _path: 1_200_000)
    with pytest.raises(ModelError) as caught:
        run()
    assert caught.value.code == "model-no-space"
    assert not (tmp_path / "sealed").exists() and not (tmp_path / "sealed.partial").exists()


def mounted(tmp_path, size: str):
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=" + size, "none", str(mount)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    return mount


def test_a_disk_that_is_really_full_leaves_nothing_visible(run, monkeypatch, tmp_path):
    mount = mounted(tmp_path, "200k")
    try:
        with pytest.raises(ModelError) as caught:
            run(dest=str(mount / "sealed"))
        assert caught.value.code == "model-no-space"
        monkeypatch.setattr(encrypt_module, "free_space", lambda _path: 1 << 40)
        with pytest.raises(ModelError, match="No space left"):
            run(dest=str(mount / "sealed"))
        assert not (mount / "sealed").exists()
        assert not list(mount.rglob("model-00001*")), "the file that did not fit is gone"
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("change", ["write", "replace", "grow", "touch"])
def test_a_file_that_changes_while_it_is_read_stops_the_run(run, model, tmp_path, change):
    path = model / "weights" / "model-00001.safetensors"

    def meter(done, total):
        if not meter.hit and done > 50_000:
            meter.hit = True
            if change == "write":
                with open(path, "r+b") as stream:
                    stream.write(b"x")
            elif change == "grow":
                with open(path, "ab") as stream:
                    stream.write(b"x")
            elif change == "touch":
                os.utime(path)
            else:
                shutil.copy2(path, str(path) + ".new")
                os.replace(str(path) + ".new", path)

    meter.hit = False
    with pytest.raises(ModelError) as caught:
        run(meter=meter)
    assert meter.hit and caught.value.code == "model-source-changed" and "model-00001" in str(caught.value)
    assert not (tmp_path / "sealed").exists()
    assert not list((tmp_path / "sealed.partial").rglob("model-00001*"))


def test_an_interrupted_run_keeps_finished_files_and_starts_the_others_afresh(run, tmp_path):
    def stop(done, _total):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(meter=stop)
    partial = tmp_path / "sealed.partial"
    kept = everything(partial)
    assert "config.json.tink" in kept and "weights/model-00001.safetensors.tink" not in kept and not (tmp_path / "sealed").exists()
    run()
    final = everything(tmp_path / "sealed")
    assert all(final[name] == data for name, data in kept.items())
    assert not partial.exists() and not (tmp_path / "sealed.partial.state").exists()


@pytest.mark.parametrize("damage", ["header", "truncated", "source", "stray", "state", "other-kek", "release", "torn"])
def test_what_an_interrupted_run_left_is_checked_before_it_is_kept(run, keys, model, tmp_path, damage):
    def stop(done, _total):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(meter=stop)
    partial, notes = tmp_path / "sealed.partial", tmp_path / "sealed.partial.state"
    old = everything(partial)["config.json.tink"]
    changes, used = {}, keys
    if damage == "header":
        (partial / "config.json.tink").write_bytes(b"\x28" + os.urandom(39) + old[40:])
    elif damage == "truncated":
        (partial / "config.json.tink").write_bytes(old[:-1])
    elif damage == "source":
        (model / "config.json").write_bytes(b'{"hidden_size": 999}')
    elif damage == "stray":
        (partial / "stray.tink").write_bytes(b"x")
    elif damage == "state":
        notes.write_bytes(notes.read_bytes().replace(b"test-model", b"evil-model"))
    elif damage == "torn":
        notes.write_bytes(notes.read_bytes()[:-3])
    elif damage == "other-kek":
        used = Keys(Kek("kek-other", os.urandom(32)), keys.signer)
    else:
        changes["release"] = 2
    _plan, manifest = run(with_keys=used, **changes)
    final = everything(tmp_path / "sealed")
    assert set(final) == {name + ".tink" for name in FILES} | {tree.MANIFEST, tree.SIGNATURE}
    assert (final["config.json.tink"] == old) == (damage in ("stray", "torn"))
    assert not run(with_keys=used, verify="content", **changes)[0].changed
    assert manifest.release == changes.get("release", 1)


KILLED = """
import sys, time
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import load_kek
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.encrypt import encrypt
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import Keys, Request, make_plan
src, dest, kek, signer = sys.argv[1:]
keys = Keys(load_kek(kek), load_signing_key(signer))
def meter(done, total):
    if done > 100_000:
        print("half", flush=True)
        time.sleep(60)
encrypt(make_plan(Request(src, dest, "test-model", 1, 4096), keys), keys, "2026-01-31T12:00:00Z", meter)
"""


def test_kill_9_in_the_middle_then_resume(model, tmp_path, request_for):
    from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import create_kek, load_kek
    from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key, load_signing_key

    kek, signer = str(tmp_path / "kek.jwk"), str(tmp_path / "signer.pem")
    create_kek(kek)
    create_signing_key(signer)
    command = [sys.executable, "-c", KILLED, str(model), str(tmp_path / "sealed"), kek, signer]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    partial = everything(tmp_path / "sealed.partial")
    unfinished = partial["weights/model-00001.safetensors.tink"]
    assert not (tmp_path / "sealed").exists()
    keys = Keys(load_kek(kek), load_signing_key(signer))
    encrypt(make_plan(request_for(), keys), keys, CREATED)
    final = everything(tmp_path / "sealed")
    assert final["config.json.tink"] == partial["config.json.tink"]
    assert final["weights/model-00001.safetensors.tink"][1:40] != unfinished[1:40], "fresh salt and nonce prefix"
    assert not make_plan(request_for(verify="content"), keys).changed


def test_two_runs_at_once_are_refused(run, tmp_path):
    def again(_done, _total):
        if not again.hit:
            again.hit = True
            with pytest.raises(ModelError) as caught:
                run()
            assert caught.value.code == "model-busy"

    again.hit = False
    run(meter=again)
    assert again.hit


def test_further_recipients_can_unwrap_and_the_key_uris_are_signed(run, keys):
    from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwe

    escrow = ec.generate_private_key(ec.SECP256R1())
    used = Keys(keys.kek, keys.signer, (jwe.Recipient("escrow", "ECDH-ES+A256KW", escrow.public_key()),))
    manifest = run(with_keys=used, key_uris=("kbs:///default/key/1",))[1]
    assert jwe.unwrap_general(manifest.dek, escrow, "escrow") == bytes(unwrap_dek(manifest.dek, keys.kek))
    assert manifest.key_uris == ("kbs:///default/key/1",)


def test_the_manifest_tells_nothing_about_the_content(run, tmp_path):
    run()
    manifest = json.loads((tmp_path / "sealed" / tree.MANIFEST).read_bytes())
    assert set(manifest) == {"schema", "model_id", "release", "created_at", "profile", "segment_size", "files", "dek", "key_id", "key_uris"}
    assert all(set(file) == {"path", "size", "ciphertext_size", "header_sha256"} for file in manifest["files"])


def test_progress_ends_at_the_total(run):
    seen = []
    run(meter=lambda done, total: seen.append((done, total)))
    total = sum(len(data) for data in FILES.values())
    assert seen[-1] == (total, total) and [done for done, _total in seen] == sorted(done for done, _total in seen)
