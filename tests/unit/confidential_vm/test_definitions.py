# SPDX-License-Identifier: GPL-3.0-or-later
"""The two definitions of a guest: both say the same, nothing in them is a secret, and no text breaks out of its place."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.attested.ai.plugins.plugin_utils.vm_plan import vm_plan
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vm_lab import CCA, DIGESTS, GPU, NONE, QGS, SNP, description, host  # noqa: E402

LINE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


def xml(**changes) -> ElementTree.Element:
    return ElementTree.fromstring(vm_plan(description(**changes), host(), digests=DIGESTS)["definition"])


def argv(**changes) -> list[str]:
    text = vm_plan(description(**changes), host(), driver="qemu", digests=DIGESTS)["definition"]
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    # systemd's rules for these words: %% and $$ stand for one each, the rest is as in a shell.
    return shlex.split(line[len("ExecStart=") :].replace("%%", "%").replace("$$", "$"))


def option(words: list[str], name: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words[:-1]) if word == name]


def objects(words: list[str]) -> dict[str, dict]:
    return {item["qom-type"]: item for item in map(json.loads, [value for value in option(words, "-object") if value.startswith("{")])}


def test_a_td_for_libvirt():
    domain = xml()
    security = domain.find("launchSecurity")
    assert security.get("type") == "tdx" and security.findtext("policy") == "0x10000000"
    assert len(base64.b64decode(security.findtext("mrConfigId"))) == 48 and security.find("quoteGenerationService").get("path") == QGS
    assert domain.find("features/ioapic").get("driver") == "qemu" and domain.find("cpu").get("mode") == "host-passthrough"
    loader = domain.find("os/loader")
    assert (loader.get("type"), loader.get("stateless")) == ("rom", "yes") and domain.findtext("on_reboot") == "destroy"
    assert domain.find("memoryBacking/source").get("type") == "memfd" and domain.findtext("os/cmdline").startswith("ro root=")


def test_a_gpu_has_a_window_and_comes_through_iommufd():
    domain = xml(mmio_gib=512)
    (device,) = domain.findall("devices/hostdev")
    assert device.find("driver").attrib == {"name": "vfio", "iommufd": "yes"} and device.get("managed") == "no"
    assert device.find("source/address").attrib == {"domain": "0x0000", "bus": "0x17", "slot": "0x00", "function": "0x0"}
    assert domain.find("sysinfo/entry").attrib == {"name": "opt/ovmf/X-PciMmio64Mb"} and domain.findtext("sysinfo/entry") == str(512 * 1024)
    words = argv(mmio_gib=512)
    assert "name=opt/ovmf/X-PciMmio64Mb,string=524288" in option(words, "-fw_cfg") and "iommufd,id=iommufd0" in option(words, "-object")
    assert f"vfio-pci,host={GPU},bus=port1,iommufd=iommufd0,rombar=0" in option(words, "-device")


def test_sev_snp_has_hashes_of_its_kernel_and_data_of_the_host():
    security = xml(**SNP).find("launchSecurity")
    assert security.attrib == {"type": "sev-snp", "kernelHashes": "yes"} and security.findtext("cbitpos") == "51"
    guard = objects(argv(**SNP))["sev-snp-guest"]
    assert guard["kernel-hashes"] is True and guard["policy"] == 0x30000 and guard["host-data"] == security.findtext("hostData")
    assert len(base64.b64decode(guard["host-data"])) == 32


def test_a_td_for_qemu_says_the_same():
    words = argv(quoting={"cid": 2, "port": 4050})
    guard = objects(words)["tdx-guest"]
    assert guard["attributes"] == 1 << 28 and guard["quote-generation-socket"] == {"type": "vsock", "cid": "2", "port": "4050"}
    assert option(words, "-machine") == ["q35,memory-backend=ram0,kernel_irqchip=split,confidential-guest-support=tee0"]
    assert objects(words)["memory-backend-memfd"]["size"] == 8192 << 20 and "vhost-vsock-pci,guest-cid=5,iommu_platform=on" in option(words, "-device")
    # Socket or vsock is another way to quotes, not another configuration.
    assert guard["mrconfigid"] == xml().findtext("launchSecurity/mrConfigId")


def test_a_realm_is_started_by_qemu_alone():
    words = argv(**CCA, emulator="/usr/bin/qemu-system-aarch64")
    assert option(words, "-machine") == ["virt,memory-backend=ram0,gic-version=3,confidential-guest-support=tee0"]
    assert len(base64.b64decode(objects(words)["rme-guest"]["personalization-value"])) == 64


@pytest.mark.parametrize("changes", [{}, SNP, NONE])
def test_nothing_that_nobody_needs_is_in_it(changes):
    domain = xml(**changes)
    assert not {"graphics", "video", "input", "channel", "watchdog", "filesystem", "tpm"} & {element.tag for element in domain.find("devices")}
    assert domain.find("devices/memballoon").get("model") == "none"
    assert {"-nodefaults", "-no-user-config"} <= set(argv(**changes))


@given(LINE)
def test_a_command_line_arrives_as_it_is(line):
    changes = {**NONE, "cmdline": line}
    assert option(argv(**changes), "-append") == [line]
    assert xml(**changes).findtext("os/cmdline") == line


def test_both_definitions_have_the_disks_and_ports():
    changes = {"disks": [{"path": "/vm/image.raw", "serial": "root", "read_only": True}, {"path": "/vm/s.qcow2", "serial": "scratch", "kind": "qcow2"}]}
    domain, words = xml(**changes), argv(**changes)
    assert [disk.find("target").get("dev") for disk in domain.findall("devices/disk")] == ["vda", "vdb"]
    assert [disk.find("readonly") is not None for disk in domain.findall("devices/disk")] == [True, False]
    nodes = [json.loads(text) for text in option(words, "-blockdev")]
    found = [(node["driver"], node["read-only"], node["file"]["filename"]) for node in nodes]
    assert found == [("raw", True, "/vm/image.raw"), ("qcow2", False, "/vm/s.qcow2")]
    forward = domain.find("devices/interface/portForward")
    assert forward.get("address") == "127.0.0.1" and forward.find("range").attrib == {"start": "2222", "to": "22"}
    assert "user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22" in option(words, "-netdev")


def test_huge_pages_and_pinned_cpus():
    domain = xml(hugepage_kib=1048576, cpuset="0-3,8")
    assert domain.find("memoryBacking/hugepages/page").get("size") == "1048576" and domain.find("vcpu").get("cpuset") == "0-3,8"
    assert objects(argv(hugepage_kib=1048576))["memory-backend-memfd"]["hugetlbsize"] == 1 << 30
    assert "[Install]\nWantedBy=multi-user.target" in vm_plan(description(), host(), driver="qemu")["definition"]
    assert "CPUAffinity=0-3 8" in vm_plan(description(cpuset="0-3,8"), host(), driver="qemu")["definition"]


@pytest.mark.skipif(not shutil.which("systemctl"), reason="systemd judges its own units")
def test_systemd_can_start_the_unit_with_the_host_or_not(tmp_path):
    place = tmp_path / "etc/systemd/system"
    place.mkdir(parents=True)
    (place / "guest.service").write_text(vm_plan(description(), host(), driver="qemu", digests=DIGESTS)["definition"])

    def systemctl(action: str) -> str:
        done = subprocess.run(["systemctl", f"--root={tmp_path}", action, "guest.service"], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    assert systemctl("is-enabled") == "disabled"
    systemctl("enable")
    assert systemctl("is-enabled") == "enabled"
