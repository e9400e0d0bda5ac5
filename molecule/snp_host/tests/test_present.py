# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is like after the role, seen without Ansible."""

import pytest

# By release of Debian: the least kernel and QEMU, and what packages of backports end with.
LEAST = {"trixie": ((7, 0), 11, "~bpo13+"), "bookworm": ((6, 12), 9, "~bpo12+")}


@pytest.fixture(scope="module")
def least(host):
    return LEAST[host.system_info.codename]


def test_the_kernel_of_backports_runs(host, least):
    release = host.check_output("uname -r")
    assert tuple(int(part) for part in release.split(".")[:2]) >= least[0], release
    assert least[2] in host.package("linux-image-cloud-amd64").version


def test_qemu_is_of_backports_and_has_snp(host, least):
    version = host.package("qemu-system-x86").version.split(":")[-1]
    assert int(version.split(".")[0]) >= least[1] and least[2] in version, version
    assert "sev-snp-guest" in host.check_output("qemu-system-x86_64 -object help")


def test_nothing_else_comes_from_backports(host, least):
    assert least[2] not in host.package("openssh-server").version


def test_the_module_gets_its_parameters(host):
    text = host.file("/etc/modprobe.d/attested-ai-snp-host.conf").content_string
    assert "options kvm_amd sev=1 sev_es=1 sev_snp=1" in text


def test_grub_filters_what_snp_refuses(host):
    # Tried on a line that is not this machine's.
    script = (
        'GRUB_CMDLINE_LINUX="iommu=pt quiet"; GRUB_CMDLINE_LINUX_DEFAULT="amd_iommu=off"; . /etc/default/grub.d/99-attested-ai-snp_host.cfg; '
        'echo "[$GRUB_CMDLINE_LINUX][$GRUB_CMDLINE_LINUX_DEFAULT]"'
    )
    assert host.check_output("sh -ec %s", script) == "[quiet][]"


def test_memory_can_be_locked(host):
    assert "@kvm - memlock unlimited" in host.file("/etc/security/limits.d/90-attested-ai-snp-host.conf").content_string
    assert host.check_output("ulimit -l") == "unlimited"
