# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a host, from a folder that looks like one."""

from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.target.vm_host import VmHost, look

sys.path.insert(0, str(Path(__file__).resolve().parent))

GPU, AUDIO, PORT = "0000:17:00.0", "0000:17:00.1", "0000:16:00.0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def put(path: str, text: str = "") -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    def link(path: str, target: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(target)

    put("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\n")
    put("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:  700 kB\nNode 0 MemFree: 500 kB\n")
    put("sys/devices/system/node/node0/cpulist", "0-7\n")
    put("sys/devices/system/node/node10/cpulist", "8-15\n")
    put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "12\n")
    put("sys/module/kvm_amd/parameters/sev_snp", "Y\n")
    put("sys/module/kvm_intel/parameters/tdx", "N\n")
    put("dev/kvm")
    for bdf, kind, driver in ((GPU, "0x030200", "vfio-pci"), (AUDIO, "0x040300", "snd"), (PORT, "0x060400", "pcieport")):
        put(f"sys/bus/pci/devices/{bdf}/class", kind + "\n")
        link(f"sys/bus/pci/devices/{bdf}/driver", f"../../drivers/{driver}")
        link(f"sys/bus/pci/devices/{bdf}/iommu_group", "../../groups/41")
        put(f"sys/kernel/iommu_groups/41/devices/{bdf}")
    put(f"sys/bus/pci/devices/{GPU}/vfio-dev/vfio3/dev")
    put("proc/50/comm", "qemu-system-x86\n")
    put("proc/50/cmdline", "qemu\0-name\0guest=other,debug-threads=on\0-device\0{\"driver\":\"vhost-vsock-pci\",\"guest-cid\":7}\0")
    link("proc/50/fd/4", "/dev/vfio/devices/vfio3")
    put("proc/60/cmdline", "x\0-device\0vhost-vsock-pci,guest-cid=8\0-name\0")
    put("proc/net/tcp", "  sl  local_address\n 0: 0100007F:0016 00000000:0000 0A 0\n 1: 00000000:1F90 00000000:0000 0A\n 2: 0100007F:0017 0100007F:1 01\n")
    put("file", "content")
    return tmp_path


def test_everything_in_one_document(root):
    found = look(VmHost(str(root)), ["/file", "/none", "/dev"], ["/file"], [GPU, "0000:99:00.0"])
    assert found["memory"] == {"total_kib": 1000, "available_kib": 600}
    assert found["nodes"][0] == {"node": 0, "cpus": "0-7", "total_kib": 700, "free_kib": 500} and [node["node"] for node in found["nodes"]] == [0, 10]
    assert found["hugepages"] == {"2048": 12}
    assert found["features"] == {"kvm": True, "iommufd": False, "vhost_vsock": False, "tdx": False, "snp": True, "cca": False}
    assert found["files"]["/file"] == {"kind": "file", "size": 7, "sha256": hashlib.sha256(b"content").hexdigest()}
    assert found["files"]["/none"]["kind"] == "missing" and found["files"]["/dev"]["kind"] == "other"
    gpu = found["devices"][GPU]
    assert (gpu["driver"], gpu["group"], gpu["holders"]) == ("vfio-pci", "41", [{"pid": 50, "name": "qemu-system-x86", "vm": "other"}])
    assert gpu["members"] == [{"bdf": PORT, "driver": "pcieport", "bridge": True}, {"bdf": AUDIO, "driver": "snd", "bridge": False}]
    assert found["devices"]["0000:99:00.0"]["exists"] is False
    assert found["vsock_cids"] == {"7": "other", "8": ""}
    assert found["listening"] == [{"address": "*", "port": 8080}, {"address": "127.0.0.1", "port": 22}]


def test_a_socket_is_one(root):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "qgs"))
        assert VmHost(str(root)).file("/qgs", True)["kind"] == "socket"


def test_a_machine_that_tells_nothing_brings_no_error(tmp_path):
    found = look(VmHost(str(tmp_path)), ["/x"], ["/y"], [GPU])
    assert found["memory"] == {"total_kib": 0, "available_kib": 0} and found["devices"][GPU]["exists"] is False and not any(found["features"].values())
