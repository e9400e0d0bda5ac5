# SPDX-License-Identifier: GPL-3.0-or-later
"""What the containers are like after the roles, seen without Ansible. Each test knows both."""

import pytest

FILES = "/etc/apt/sources.list.d/attested-ai-{0}-host-backports.sources /etc/modprobe.d/attested-ai-{0}-host.conf"
FILES += " /etc/security/limits.d/90-attested-ai-{0}-host.conf /etc/default/grub.d/99-attested-ai-{0}_host.cfg"


@pytest.fixture
def tee(host):
    return host.check_output("hostname")


def test_what_is_too_old_was_replaced_and_all_else_stays(host, tee):
    assert host.package("linux-image-amd64").version == "7.0.4-1~bpo13+1"
    # Debian's own is new enough for SEV-SNP, and too old for TDX.
    assert host.package("qemu-system-x86").version == {"tdx": "1:11.0.0+ds-1~bpo13+1", "snp": "1:10.0.3+ds-1"}[tee]
    # Backports have a newer one of these, too, and nobody asked for it.
    assert not host.package("openssh-server").version.startswith("1:99")


def test_the_mirror_was_found(host, tee):
    text = host.file(f"/etc/apt/sources.list.d/attested-ai-{tee}-host-backports.sources").content_string
    assert "URIs: file:/srv/mirror\n" in text and "Suites: trixie-backports\n" in text


def test_what_booted_is_the_new_kernel_with_the_line_of_the_role(host, tee):
    release, line = host.check_output("uname -r"), host.check_output("cat /proc/cmdline").split()
    assert line[0] == f"BOOT_IMAGE=/boot/vmlinuz-{release}"
    assert ("nohibernate" in line, "iommu=pt" in line) == {"tdx": (True, True), "snp": (False, False)}[tee]


def test_each_has_its_own_files(host, tee):
    for path in FILES.format(tee).split():
        file = host.file(path)
        assert file.exists and file.mode == 0o644 and file.user == "root", path
    assert "State: applied" in host.file(f"/etc/default/grub.d/99-attested-ai-{tee}_host.cfg").content_string


def test_enclaves_and_services(host, tee):
    rules = host.file("/etc/udev/rules.d/90-attested-ai-tdx-host-sgx.rules")
    unit = host.file("/etc/systemd/system/lab-guests.service.d/attested-ai-tdx-host.conf")
    assert rules.exists == unit.exists == (tee == "tdx")
    if tee == "tdx":
        host.run_expect([0], f"udevadm verify {rules.path}")
        assert "LimitMEMLOCK=infinity" in unit.content_string
        assert host.group("sgx").exists and host.group("sgx_prv").exists


def test_the_system_runs_whole(host):
    assert host.check_output("systemctl is-system-running") == "running"
