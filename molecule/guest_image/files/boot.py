# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot a guest image under QEMU's software emulation and say in JSON what came of it. Runs on the lab's machine.

    boot.py FOLDER direct|uefi [--flip OFFSET] [--append WORDS] [--tpm] [--scratch] [--ssh KEY --script FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

UP = "attested.ai: the guest is up"
SECONDS = 600


def guid_partitions(path: Path) -> list[dict]:
    """Name, first byte and length of each partition, read from the table itself."""
    with path.open("rb") as stream:
        stream.seek(512)
        header = stream.read(92)
        count, size = (int.from_bytes(header[at : at + 4], "little") for at in (80, 84))
        stream.seek(512 * int.from_bytes(header[72:80], "little"))
        entries = [stream.read(size) for _index in range(count)]
    found = []
    for entry in entries:
        if entry[:16] != bytes(16):
            first, last = (int.from_bytes(entry[at : at + 8], "little") for at in (32, 40))
            found.append({"name": entry[56:128].decode("utf-16-le").rstrip("\0"), "offset": first * 512, "size": (last - first + 1) * 512})
    return found


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def ssh(port: int, key: str, script: str) -> dict:
    words = ["ssh", "-i", key, "-p", str(port), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    words += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", "root@127.0.0.1", "sh -s"]
    done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "out": done.stdout, "err": done.stderr}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("way", choices=("direct", "uefi"))
    parser.add_argument("--flip", type=int)
    parser.add_argument("--append")
    parser.add_argument("--tpm", action="store_true")
    parser.add_argument("--scratch", action="store_true")
    parser.add_argument("--ssh")
    parser.add_argument("--script", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        print(json.dumps(boot(options, Path(place))))


def boot(options: argparse.Namespace, place: Path) -> dict:
    disk, console, helpers = options.folder / "image.raw", place / "console", []
    if options.flip is not None:
        disk = shutil.copyfile(disk, place / "image.raw")
        flip(Path(disk), options.flip)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "1536", "-M", "q35", "-nodefaults"]
    words += ["-display", "none", "-no-reboot", "-serial", f"file:{console}", "-device", "virtio-rng-pci"]
    words += ["-drive", f"file={disk},if=none,id=root,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=root,serial=root,bootindex=1"]
    words += ["-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=net0,romfile="]
    if options.scratch:
        subprocess.run(["truncate", "--size=64M", str(place / "scratch.raw")], check=True)
        words += ["-drive", f"file={place}/scratch.raw,if=none,id=scratch,format=raw", "-device", "virtio-blk-pci,drive=scratch,serial=scratch"]
    if options.way == "direct":
        line = (options.folder / "cmdline").read_text() + (" " + options.append if options.append else "")
        words += ["-kernel", str(options.folder / "vmlinuz"), "-initrd", str(options.folder / "initrd"), "-append", line]
    if options.way == "uefi" or options.tpm:
        shutil.copyfile("/usr/share/OVMF/OVMF_VARS_4M.fd", place / "vars.fd")
        words += ["-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"]
        words += ["-drive", f"if=pflash,unit=1,format=raw,file={place}/vars.fd"]
    if options.tpm:
        (place / "tpm").mkdir()
        setup = ["swtpm_setup", "--tpm2", "--tpmstate", str(place / "tpm"), "--pcr-banks", "sha256,sha384"]
        subprocess.run(setup, stdout=subprocess.DEVNULL, check=True)
        helpers.append(subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={place}/tpm", "--ctrl", f"type=unixio,path={place}/tpm.sock"]))
        words += ["-chardev", f"socket,id=tpm,path={place}/tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]
    begin = time.monotonic()
    result: dict = {"up": False, "ended": None, "size": disk.stat().st_size if isinstance(disk, Path) else os.stat(disk).st_size}
    with (place / "qemu.log").open("wb") as log:
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while time.monotonic() - begin < SECONDS:
            text = console.read_text(errors="replace") if console.exists() else ""
            result["up"] = UP in text
            result["ended"] = machine.poll()
            # Firmware that found nothing to start waits for a person.
            if result["up"] or result["ended"] is not None or "Shell>" in text:
                break
            time.sleep(1)
        result["seconds"] = round(time.monotonic() - begin)
        if result["up"] and options.ssh:
            result["ssh"] = ssh(port, options.ssh, options.script.read_text())
        if options.scratch:
            data = (place / "scratch.raw").read_bytes()
            result["scratch"] = {"written": any(data), "plain": b"attested scratch marker" in data, "ext4": data[1080:1082] == b"\x53\xef"}
    finally:
        for process in [machine, *helpers]:
            process.kill()
            process.wait()
    result["console"] = (console.read_text(errors="replace") if console.exists() else "")[-6000:]
    result["qemu"] = (place / "qemu.log").read_text(errors="replace")[-1000:]
    return result


if __name__ == "__main__":
    main()
