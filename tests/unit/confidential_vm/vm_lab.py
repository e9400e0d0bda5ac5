# SPDX-License-Identifier: GPL-3.0-or-later
"""A host and a guest for it, each good, so that a test spoils one thing."""

from __future__ import annotations

import copy
import typing as t

DIGEST = "ab" * 32
GPU = "0000:17:00.0"
FIRMWARE = "/usr/share/ovmf/OVMF.inteltdx.ms.fd"
QGS = "/var/run/tdx-qgs/qgs.socket"
ROOT = "ro root=/dev/mapper/root roothash=" + "cd" * 32
DESCRIPTION = {
    "name": "guest", "tee": "tdx", "vcpus": 4, "memory_mib": 8192, "cpu": "host", "firmware": FIRMWARE, "boot": "direct", "kernel": "/vm/vmlinuz",
    "initrd": "/vm/initrd", "cmdline": ROOT, "disks": [{"path": "/vm/image.raw", "serial": "root", "read_only": True}],
    "network": {"kind": "user", "forwards": [{"host_port": 2222, "guest_port": 22}]}, "vsock_cid": 5, "quoting": {"path": QGS}, "policy": 1 << 28,
    "devices": [GPU], "emulator": "/usr/bin/qemu-system-x86_64", "console": "/vm/console.log",
}  # fmt: skip
SNP = {"tee": "snp", "cpu": "EPYC-v4", "firmware": "/usr/share/ovmf/OVMF.amdsev.fd", "quoting": None, "policy": 0x30000}
CCA = {"tee": "cca", "cpu": "host", "firmware": "", "quoting": None, "policy": 0, "devices": []}
NONE = {"tee": "none", "cpu": "max", "firmware": "", "quoting": None, "policy": 0, "devices": [], "accelerator": "tcg", "vsock_cid": 0}
DIGESTS = {"/vm/vmlinuz": DIGEST, FIRMWARE: DIGEST, SNP["firmware"]: DIGEST}


def description(**changes: t.Any) -> dict[str, t.Any]:
    found = {**copy.deepcopy(DESCRIPTION), **changes}
    return {name: value for name, value in found.items() if value is not None}


def host(**changes: t.Any) -> dict[str, t.Any]:
    file = {"kind": "file", "size": 1, "sha256": DIGEST}
    names = (FIRMWARE, SNP["firmware"], "/vm/vmlinuz", "/vm/initrd", "/vm/image.raw", "/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-aarch64")
    return {
        "memory": {"total_kib": 64 << 20, "available_kib": 60 << 20},
        "nodes": [{"node": 0, "cpus": "0-15", "total_kib": 64 << 20, "free_kib": 60 << 20}],
        "hugepages": {"2048": 0},
        "features": {"kvm": True, "iommufd": True, "vhost_vsock": True, "tdx": True, "snp": True, "cca": True},
        "files": {**{name: dict(file) for name in names}, QGS: {"kind": "socket", "size": 0, "sha256": ""}},
        "devices": {GPU: {"exists": True, "driver": "vfio-pci", "group": "41", "members": [], "holders": []}},
        "vsock_cids": {},
        "listening": [{"address": "127.0.0.1", "port": 22}],
        **changes,
    }
