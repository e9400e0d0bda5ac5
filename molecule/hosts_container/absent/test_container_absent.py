# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left after state: absent."""


def test_no_file_of_ours_is_left(host):
    found = host.check_output("find /etc /boot /lib/udev /var/lib/attested-ai -name '*attested*' 2>/dev/null || true").split()
    # Folders of settings of a service may be somebody else's, too.
    assert found == []


def test_packages_stay(host):
    assert host.package("linux-image-amd64").version == "7.0.4-1~bpo13+1"


def test_the_machine_booted_with_the_line_of_before(host):
    assert host.check_output("cat /proc/cmdline").split()[-2:] == ["quiet", "iommu=pt"]
    assert "nohibernate" not in host.check_output("cat /proc/cmdline") + host.check_output("cat /boot/grub/grub.cfg")
