# SPDX-License-Identifier: GPL-3.0-or-later
"""The image is booted for real, under emulation: whole, damaged, with another command line, and with a TPM as witness of what is measured."""

from __future__ import annotations

import json

import pytest

HOME = "/var/lib/attested-ai/images/lab/1"


def boot(host, *words: str) -> dict:
    return json.loads(host.check_output(f"python3 /root/boot.py {HOME} {' '.join(words)}"))


def partitions(host) -> dict:
    script = f"import sys, json, pathlib; sys.path.insert(0, '/root'); import boot; print(json.dumps(boot.guid_partitions(pathlib.Path('{HOME}/image.raw'))))"
    return {item["name"]: item for item in json.loads(host.check_output("python3 -c %s", script))}


def found(result: dict) -> dict:
    assert result["up"], result["console"][-3000:] + result["qemu"]
    assert result["ssh"]["rc"] == 0, result["ssh"]
    return dict(line.split("=", 1) for line in result["ssh"]["out"].splitlines())


@pytest.fixture(scope="module")
def image(host):
    return json.loads(host.file(f"{HOME}/image.json").content_string)


@pytest.fixture(scope="module")
def direct(host):
    return boot(host, "direct", "--tpm", "--scratch", "--ssh", "/root/guest-key", "--script", "/root/look.sh")


@pytest.fixture(scope="module")
def uefi(host):
    return boot(host, "uefi", "--tpm", "--ssh", "/root/guest-key", "--script", "/root/look.sh")


def test_the_files_are_those_of_the_document(host, image):
    for name, entry in image["files"].items():
        assert host.file(f"{HOME}/{name}").sha256sum == entry["sha256"]


def test_the_guest_is_up_and_sees_a_verified_root(direct, image):
    seen = found(direct)
    assert image["root_hash"] in seen["cmdline"] and seen["verity"].strip() == "verity 1"
    assert "erofs" in seen["root"] and "ro" in seen["root"] and "written" not in seen["write"] and seen["var"].strip() == "tmpfs"
    assert seen["failed"].strip() == ""


def test_host_keys_are_made_at_each_boot_in_memory(direct, uefi):
    one, two = found(direct), found(uefi)
    for seen in (one, two):
        assert seen["key_fs"].strip() == "tmpfs" and seen["etc_keys"].strip() == "0" and seen["key_mode"].strip() == "600" and seen["swap"].strip() == ""
    assert one["fingerprint"] != two["fingerprint"]


def test_nobody_can_log_in_at_the_console_and_only_ssh_listens(direct):
    seen = found(direct)
    assert seen["shadow"].startswith(("!", "*")) and seen["gettys"].strip() == "0" and "login:" not in direct["console"]
    assert {word.rpartition(":")[2] for word in seen["listening"].split() if not word.startswith(("127.", "[::1]"))} <= {"22"}
    assert "[integrity]" in seen["lockdown"]


def test_the_scratch_disk_holds_nothing_that_can_be_read(direct):
    assert "/dev/mapper/scratch" in found(direct)["scratch"] and "noexec" in found(direct)["scratch"]
    assert direct["scratch"] == {"written": True, "plain": False, "ext4": False}


@pytest.mark.parametrize("bank", ["sha256", "sha384"])
def test_the_direct_boot_measured_what_was_computed(direct, image, bank):
    assert found(direct)[f"pcr9.{bank}"].strip() == image["measurements"]["direct"]["pcr9"][bank]


@pytest.mark.parametrize("bank", ["sha256", "sha384"])
def test_the_unified_kernel_image_measured_what_was_computed(uefi, image, bank):
    seen, computed = found(uefi), image["measurements"]["uki"]
    assert seen[f"pcr11.{bank}"].strip() == computed["pcr11"][bank] and seen[f"pcr9.{bank}"].strip() == computed["pcr9"][bank]
    # No addon, no credential, nothing of the host's was added.
    assert set(seen[f"pcr12.{bank}"].strip()) == {"0"}


def damage(host, where: str) -> int:
    by_name = partitions(host)
    root = next(item for name, item in by_name.items() if name.startswith("root-") and "verity" not in name)
    hashes = next(item for name, item in by_name.items() if "verity" in name)
    return {"superblock": root["offset"] + 1024 + 20, "middle": root["offset"] + root["size"] // 2, "end": root["offset"] + root["size"] - 100,
            "hashes": hashes["offset"] + 4096 + 40}[where]  # fmt: skip


@pytest.mark.parametrize("where", ["superblock", "middle", "end", "hashes"])
def test_one_flipped_byte_stops_it(host, where):
    result = boot(host, "direct", "--flip", str(damage(host, where)))
    assert not result["up"], result["console"][-2000:]
    assert result["ended"] is not None, "it went on without serving"
    assert "verity" in result["console"] or "was refused" in result["console"], result["console"][-2000:]


def test_another_root_hash_does_not_open_it(host, image):
    other = image["root_hash"][:-1] + ("0" if image["root_hash"][-1] != "0" else "1")
    result = boot(host, "direct", "--append", f"roothash={other}")
    assert not result["up"] and result["ended"] is not None


def test_a_changed_command_line_is_another_measurement(host, image):
    result = boot(host, "direct", "--append", "quiet", "--tpm", "--ssh", "/root/guest-key", "--script", "/root/look.sh")
    seen = found(result)
    assert "quiet" in seen["cmdline"] and seen["pcr9.sha384"].strip() != image["measurements"]["direct"]["pcr9"]["sha384"]
