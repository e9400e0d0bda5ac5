# SPDX-License-Identifier: GPL-3.0-or-later
"""Open encrypted images of models in a real machine: its kernel's device mapper decrypts and verifies what the controller made without either.

    python tools/vm/model_image.py              # a model of some MiB, from a file (loop device) and from a disk
    python tools/vm/model_image.py --gib 10     # another of this size on the disk: how long does it take to open?

The host is the adversary: it changes blocks of file and disk while they are mapped, swaps images and plays old ones. Exit status 0 if all held.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import lab as machines
from image import LabError
from machine import say

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".cache" / "collections"))

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import unwrap_general  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import load_kek  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.release import KeyRelease, seal  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import load_signing_key  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.image_build import image_key  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest  # noqa: E402

PLACE = machines.CACHE / "labs" / "model-image"
SECONDS = 900
BLOCK = 4096
SET_UP = """
set -e
apt-get -q update >/dev/null && apt-get -q -y install python3-cryptography dmsetup >/dev/null
mkdir -p /run/model /srv/models && mount -t tmpfs -o noswap,mode=0755,nosuid,nodev,noexec model /run/model
getent group inference >/dev/null || groupadd inference
"""
# What a machine still has of a model that was closed, or could not be opened.
LEFT = (
    "dmsetup ls | grep attested-model; grep erofs /proc/mounts; losetup -nl | grep model; ls /run/model; ls /run/attested-ai 2>/dev/null; "
    "grep 'attested.*: 64' /proc/keys"
)


class Trial:
    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.machine = machines.machine_of(PLACE, "one")

    # -- the controller

    def encrypt(self, name: str, files: dict[str, bytes], release: int = 1) -> Manifest:
        source = self.scratch / f"plain-{name}"
        for path, data in files.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(data)
        return self.encrypt_directory(name, source, release)

    def encrypt_directory(self, name: str, source: Path, release: int = 1) -> Manifest:
        secrets = self.scratch / "secrets"
        self.play("localhost", "attested.ai.model_encrypt", {
            "src": str(source), "dest": str(self.scratch / name), "model_id": "image-test", "release": release, "profile": "image",
            "kek": str(secrets / "kek.jwk"), "create_kek": True, "signing_key": str(secrets / "signer.pem"), "create_signing_key": True,
        })  # fmt: skip
        return Manifest.parse((self.scratch / name / "model-manifest.json").read_bytes())

    def play(self, host: str, module: str, options: dict[str, object], fails: str = "") -> dict[str, object]:
        """One task; its result. ``fails`` is the code that it must fail with."""
        out = self.scratch / "result.json"
        tasks = [
            {"name": "Do", module: options, "register": "result", "ignore_errors": True},
            {"name": "Tell", "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(out), "mode": "0600"}, "delegate_to": "localhost"},
        ]
        book = self.scratch / "play.yml"
        book.write_text(json.dumps([{"hosts": host, "gather_facts": False, "tasks": tasks}]))
        command = ["ansible-playbook", "--inventory", str(PLACE / "inventory.yml"), str(book)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS)
        result = json.loads(out.read_text()) if out.is_file() else {}
        out.unlink(missing_ok=True)
        failed = bool(result.get("failed", not result))
        if failed != bool(fails) or (fails and result.get("code") != fails):
            raise LabError(f"{module} ended with {result.get('msg', 'success')}, not {fails or 'success'}:\n{done.stdout[-1500:]}{done.stderr[-500:]}")
        return result

    def release(self, manifest: Manifest) -> str:
        """What model_release does after the evidence was accepted: seal the data key to a session of the guest."""
        session = f"s{os.urandom(4).hex()}"
        jwk = self.play("one", "attested.ai.guest_key", {"session": session, "lifetime": 600})["jwk"]
        kek, signer = load_kek(str(self.scratch / "secrets" / "kek.jwk")), load_signing_key(str(self.scratch / "secrets" / "signer.pem"))
        sealed = seal(
            KeyRelease(
                model_id=manifest.model_id, release=manifest.release, minimum_release=manifest.release, key=unwrap_general(manifest.dek, kek.key),
                key_id=manifest.key_id, manifest_signer=public_jwk(signer), evidence_digest="00" * 32,
                not_after=datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=10),
            ),
            jwk,
        )  # fmt: skip
        self.play("one", "attested.ai.guest_key", {"session": session, "release": sealed})
        return session

    def volume_key(self, manifest: Manifest) -> str:
        assert manifest.image is not None
        dek = bytearray(unwrap_general(manifest.dek, load_kek(str(self.scratch / "secrets" / "kek.jwk")).key))
        return image_key(dek, manifest.model_id, manifest.release, manifest.image.root_hash, manifest.image.uuid).hex()

    # -- the machine

    def ssh(self, script: str, check: bool = True, given: bytes = b"") -> str:
        """An emulated machine may be busy with other things: a connection that does not come is tried again."""
        command = ["ssh", "-o", "ConnectTimeout=60", *self.machine.ssh_command()[1:], script]
        for _attempt in range(5):
            done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=SECONDS)
            if done.returncode != 255:
                break
        said = done.stdout.decode(errors="replace")
        if check and done.returncode:
            raise LabError(f"{script!r} ended with {done.returncode}: {said[-400:]}{done.stderr.decode(errors='replace')[-400:]}")
        return said

    def copy(self, name: str, image: bool = True) -> None:
        """The encrypted model to /srv/models, as a host would put it there."""
        names = ["model-manifest.json", "model-manifest.jws"] + (["model.img"] if image else [])
        packed = subprocess.run(["tar", "-C", str(self.scratch / name), "-c", *names], capture_output=True, check=True).stdout
        self.ssh(f"rm -rf /srv/models/{name} && mkdir -p /srv/models/{name} && tar -C /srv/models/{name} -x", given=packed)

    def open(self, name: str, manifest: Manifest, fails: str = "", image: str = "") -> dict[str, object]:
        options = {"src": f"/srv/models/{name}", "dest": "/run/model/m", "session": self.release(manifest), "group": "inference", "mode": "0440"}
        return self.play("one", "attested.ai.model_open", {**options, **({"image": image} if image else {})}, fails)

    def absent(self) -> None:
        self.play("one", "attested.ai.model_open", {"dest": "/run/model/m", "state": "absent"})
        self.nothing_left()

    def nothing_left(self) -> None:
        left = ""
        for _attempt in range(20):
            left = self.ssh(LEFT, check=False).strip()
            if not left:
                return
            time.sleep(0.5)
        raise LabError(f"this is left of the model:\n{left}")

    def contents(self, files: dict[str, bytes]) -> None:
        said = self.ssh("cd /run/model/m && find . -type f -exec sha256sum {} + && findmnt -no OPTIONS -T .")
        found = dict(reversed(line.split("  ./", 1)) for line in said.splitlines() if "  ./" in line)
        expect(found == {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}, f"the files differ: {said[:400]}")
        expect({"ro", "nosuid", "nodev", "noexec"} <= set(said.splitlines()[-1].split(",")), f"it is mounted with {said.splitlines()[-1]}")

    @contextlib.contextmanager
    def disk(self, path: Path) -> Iterator[str]:
        """Give the running machine a disk, and take it away. Yields its file there."""
        before = self.ssh("lsblk -dno NAME").split()
        self.monitor(f"drive_add 0 if=none,id=m0,file={path},format=raw,readonly=on", "device_add virtio-blk-pci,drive=m0,id=d0")
        try:
            yield "/dev/" + wait_for(lambda: next((name for name in self.ssh("lsblk -dno NAME").split() if name.startswith("vd") and name not in before), ""))
        finally:
            self.monitor("device_del d0")
            wait_for(lambda: 'id "d0"' not in self.monitor("info pci") or "")

    def monitor(self, *words: str) -> str:
        return machines.monitor(PLACE, "one", *words)


def wait_for(found: object, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()  # type: ignore[operator]
        if value:
            return str(value)
        time.sleep(0.5)
    raise LabError("it did not come")


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise LabError(what)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))


def from_file(trial: Trial, files: dict[str, bytes], first: Manifest, second: Manifest) -> None:
    trial.copy("first")
    opened = trial.open("first", first)
    say(f"opened from a file in {opened['seconds']} s")
    trial.contents(files)
    key = trial.volume_key(first)
    shown = trial.ssh("dmsetup table --showkeys; ps axww -o args; cat /proc/keys; ls -ld /run/model/m/..")
    expect(":64:logon:" in shown and key not in shown and key[:32] not in shown, "the key can be seen on the machine")
    expect("aes-xts-plain64" in shown and "sector_size:4096" in shown and "iv_large_sectors" not in shown, f"other parameters than pinned: {shown[:600]}")
    expect("drwxr-x---" in shown and "inference" in shown, f"others may enter: {shown[-300:]}")
    again = trial.play("one", "attested.ai.model_open", {"src": "/srv/models/first", "dest": "/run/model/m", "group": "inference", "mode": "0440"})
    expect(not again["changed"], "the second run changes something")
    say("IV unit, tree and file system are the kernel's; the key is not to be seen; a second run changes nothing")
    # The old one is served until the new one is there, also for who reads it just then.
    trial.copy("second")
    trial.ssh("sh -c 'exec 9</run/model/m/weights/a.bin; sleep 600 <&9' >/dev/null 2>&1 &", check=False)
    expect(bool(trial.open("second", second)["changed"]), "the new release is not opened")
    expect(trial.ssh("cat /run/model/m/config.json") == '{"release": 2}', "the new release is not there")
    trial.ssh("pkill -x sleep", check=False)
    trial.absent()
    say("a new release replaces the old one under its readers; absent leaves nothing")


def hostile_files(trial: Trial, first: Manifest, second: Manifest) -> None:
    image = first.image
    assert image is not None
    # The first sector of the right one, all else of another: what a check of the beginning cannot see.
    mix = "cp -r first mixed && dd if=second/model.img of=mixed/model.img bs=4096 skip=1 seek=1 conv=notrunc status=none"
    trial.ssh(f"cd /srv/models && {mix} && truncate -s {image.size} mixed/model.img")
    trial.open("mixed", first, fails="model-tag")
    trial.nothing_left()
    trial.ssh("cd /srv/models && cp -r first swapped && cp second/model.img swapped/ && cp -r first cut && truncate -s -4096 cut/model.img")
    for name, code in (("swapped", "model-header" if second.image and second.image.size == image.size else "model-file-size"), ("cut", "model-file-size")):
        trial.open(name, first, fails=code)
        trial.nothing_left()
    # The old release with its own signature, while the key is that of the new one.
    trial.open("first", second, fails="model-release-lower")
    trial.nothing_left()
    say("mixed, swapped, cut and old images are refused, and nothing is left of them")


def from_disk(trial: Trial, files: dict[str, bytes], first: Manifest) -> None:
    trial.copy("first", image=False)
    disk = trial.scratch / "host.img"
    shutil.copy(trial.scratch / "first" / "model.img", disk)
    with trial.disk(disk) as device:
        say(f"opened from a disk in {trial.open('first', first, image=device)['seconds']} s")
        trial.contents(files)
        # Behind the metadata: weights/a.bin is the only large one. The host changes one bit, and the page cache forgets.
        flip(disk, int(first.image.hash_offset * 0.6) // BLOCK * BLOCK + 77)  # type: ignore[union-attr]
        script = "sync; echo 3 >/proc/sys/vm/drop_caches; cat /run/model/m/weights/a.bin >/dev/null; echo ended with $?; cat /run/model/m/config.json"
        said = trial.ssh(script, check=False)
        expect("ended with 1" in said and '{"release": 1}' in said, f"a changed block is not refused: {said}")
        expect("data block" in trial.ssh("dmesg | grep -i verity | tail -n 3"), "the kernel does not tell of it")
        trial.absent()
        # Now already while it is opened.
        flip(disk, 2 * BLOCK + 5)
        trial.open("first", first, fails="model-tag", image=device)
        trial.nothing_left()
    say("one changed bit on the disk: reading fails while open, opening fails afterwards")


def large(trial: Trial, gib: int) -> None:
    source = trial.scratch / "plain-large"
    source.mkdir()
    (source / "config.json").write_text("{}")
    with (source / "weights.bin").open("wb") as stream:
        stream.truncate(gib << 30)
    begin = time.monotonic()
    manifest = trial.encrypt_directory("large", source)
    say(f"{gib} GiB encrypted in {time.monotonic() - begin:.0f} s")
    trial.copy("large", image=False)
    with trial.disk(trial.scratch / "large" / "model.img") as device:
        opened = trial.open("large", manifest, image=device)
        first = trial.ssh("cat /run/model/m/config.json; stat -c %s /run/model/m/weights.bin")
        expect(first.split() == ["{}", str(gib << 30)], f"it is not the model: {first}")
        say(f"{gib} GiB opened in {opened['seconds']} s")
        expect(float(str(opened["seconds"])) < 2, "opening takes two seconds or more")
        trial.absent()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_ignored: sys.exit(1))
    scratch = Path(tempfile.mkdtemp(prefix="model-image-"))
    try:
        machines.up(PLACE, ["one:trixie"])
        trial = Trial(scratch)
        begin = time.monotonic()
        trial.ssh(SET_UP)
        say(f"set up in {time.monotonic() - begin:.0f} s")
        weights = os.urandom(4 << 20)
        files = {"config.json": b'{"release": 1}', "weights/a.bin": weights, "weights/empty": b"", **{f"many/{number}": b"x" * number for number in range(200)}}
        first = trial.encrypt("first", files)
        second = trial.encrypt("second", {**files, "config.json": b'{"release": 2}'}, release=2)
        from_file(trial, files, first, second)
        hostile_files(trial, first, second)
        from_disk(trial, files, first)
        if options.gib:
            large(trial, options.gib)
        print("images of models: all held")
        return 0
    except (LabError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"model_image: {error}", file=sys.stderr)
        with contextlib.suppress(Exception):
            machines.report(PLACE)
        return 1
    finally:
        machines.down(PLACE)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
