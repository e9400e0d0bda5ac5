# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is like after it was taken back: its own driver has the cards again."""

import time


def test_the_cards_have_their_driver_again(host):
    # SSH answers before udev has loaded all drivers.
    host.run("systemctl is-system-running --wait; udevadm settle")
    script = "for card in /sys/bus/pci/devices/*; do [ $(cat $card/vendor) = 0x1234 ] && basename $(readlink $card/driver); done; true"
    drivers: list = []
    for _attempt in range(30):
        drivers = host.check_output(script).split()
        if len(drivers) == 2:
            break
        time.sleep(5)
    assert drivers == ["bochs-drm", "bochs-drm"]


def test_nothing_of_the_role_is_left(host):
    assert host.check_output("grep -rl attested /etc /boot/grub/grub.cfg || true") == ""
    assert "vfio" not in host.file("/proc/modules").content_string
    assert "intel_iommu" not in host.file("/proc/cmdline").content_string


def test_the_initramfs_keeps_no_driver_off_and_binds_nothing(host):
    """The file of drivers was there while it was made, but empty: whatever was interrupted can be told from what was finished."""
    words = "grep -rhE '^(blacklist|install|options)' main/etc/modprobe.d etc/modprobe.d 2>/dev/null; find . -path '*rules.d/*attested*'"
    script = f"cd $(mktemp -d) && for image in /boot/initrd.img-*; do unmkinitramfs $image . && {{ {words}; }}; done; true"
    assert not [line for line in host.check_output(script).splitlines() if "bochs" in line or "vfio" in line or "rules.d" in line]
