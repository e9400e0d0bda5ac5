# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode came by. It must have changed nothing."""


def test_no_file_is_younger_than_the_boot(host):
    assert host.check_output("find /etc /boot /usr /srv /var/lib/dpkg /var/lib/apt/lists -newer /run/lab-boot -type f ! -name grubenv") == ""


def test_packages_are_those_of_before(host):
    assert host.package("linux-image-amd64").version == "6.12.41-1" and host.package("qemu-system-x86").version == "1:10.0.3+ds-1"


def test_the_line_is_that_of_before(host):
    assert host.check_output("cat /proc/cmdline").split()[-2:] == ["quiet", "iommu=pt"]
