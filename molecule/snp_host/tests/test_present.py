# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is like after the role, seen without Ansible."""


def test_the_kernel_of_backports_runs(host):
    release = host.check_output("uname -r")
    assert int(release.split(".")[0]) >= 7, release
    assert host.package("linux-image-cloud-amd64").version.endswith("~bpo13+1")


def test_qemu_is_of_backports_and_has_snp(host):
    version = host.package("qemu-system-x86").version.split(":")[-1]
    assert int(version.split(".")[0]) >= 11, version
    assert "sev-snp-guest" in host.check_output("qemu-system-x86_64 -object help")


def test_nothing_else_comes_from_backports(host):
    assert "trixie-backports" not in host.check_output("apt-cache policy openssh-server | sed -n '/\\*\\*\\*/,+1p'")


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
