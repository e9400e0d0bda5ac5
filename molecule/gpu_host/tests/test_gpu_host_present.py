# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel made of the role's files, seen without Ansible."""

from __future__ import annotations

import json

import pytest

# Takes the group twice, as a second machine would, and asks VFIO whether the group can be handed over.
GROUP = """
import errno, fcntl, json, os, struct, sys
group = os.open(sys.argv[1], os.O_RDWR)
status = bytearray(struct.pack("<II", 8, 0))
fcntl.ioctl(group, 0x3B67, status)
try:
    os.open(sys.argv[1], os.O_RDWR)
    second = "opened"
except OSError as error:
    second = errno.errorcode[error.errno]
print(json.dumps({"viable": struct.unpack("<II", status)[1] & 1, "second": second}))
"""


@pytest.fixture(scope="module")
def cards(host):
    script = "for card in /sys/bus/pci/devices/*; do [ $(cat $card/vendor) = 0x1234 ] && echo $(basename $card); done; true"
    return host.check_output(script).split()


def link(host, path: str) -> str:
    return host.check_output("basename $(readlink %s)", path)


def test_both_cards_belong_to_vfio_since_the_boot(host, cards):
    assert len(cards) == 2
    assert [link(host, f"/sys/bus/pci/devices/{card}/driver") for card in cards] == ["vfio-pci", "vfio-pci"]
    # No driver had them for a moment.
    assert "bochs" not in host.check_output("journalctl --boot --dmesg --no-pager; cat /proc/modules")


def test_the_driver_does_not_come_by_name_either(host):
    assert host.run("modprobe bochs").rc != 0
    assert "bochs" not in host.file("/proc/modules").content_string


def test_each_card_can_be_handed_over_once(host, cards):
    for card in cards:
        node = f"/dev/vfio/{link(host, f'/sys/bus/pci/devices/{card}/iommu_group')}"
        seen = json.loads(host.check_output("python3 -c %s %s", GROUP, node))
        assert seen == {"viable": 1, "second": "EBUSY"}


def test_the_group_kvm_has_the_nodes(host, cards):
    nodes = [f"/dev/vfio/{link(host, f'/sys/bus/pci/devices/{card}/iommu_group')}" for card in cards]
    # A kernel may come without either.
    config = host.check_output("cat /boot/config-$(uname -r)")
    for option, pattern in (("CONFIG_VFIO_DEVICE_CDEV=y", "/dev/vfio/devices/*"), ("CONFIG_IOMMUFD=", "/dev/iommu")):
        found = host.run(f"ls -d {pattern}").stdout.split()
        assert bool(found) == (f"\n{option}" in config), option
        nodes += found
    for node in nodes:
        assert (host.file(node).group, host.file(node).mode) == ("kvm", 0o660), node


def test_the_iommu_was_asked_for_and_translates(host):
    assert "intel_iommu=on" in host.file("/proc/cmdline").content_string.split()
    assert host.check_output("ls /sys/class/iommu").split() == ["dmar0"]


def test_limits_hold(host):
    assert host.file("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit").content_string.strip() == "1048576"
    assert host.check_output("ulimit -l") == "unlimited"


def test_a_card_that_comes_back_is_taken_at_once(host, cards):
    """As after a rescan of the bus: udev's rule binds it, since no boot does."""
    host.check_output("echo 1 > /sys/bus/pci/devices/%s/remove && echo 1 > /sys/bus/pci/rescan && udevadm settle", cards[-1])
    assert link(host, f"/sys/bus/pci/devices/{cards[-1]}/driver") == "vfio-pci"
    assert host.file(f"/sys/bus/pci/devices/{cards[-1]}/driver_override").content_string.strip() == "vfio-pci"
