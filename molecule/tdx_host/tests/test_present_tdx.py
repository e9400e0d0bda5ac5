# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is like after the role, seen without Ansible."""


def test_the_kernel_of_backports_runs_with_our_word(host):
    assert int(host.check_output("uname -r").split(".")[0]) >= 7
    assert "nohibernate" in host.check_output("cat /proc/cmdline").split()
    assert host.check_output("cat /sys/power/disk") == "[disabled]"


def test_qemu_has_tdx(host):
    assert "tdx-guest" in host.check_output("qemu-system-x86_64 -object help")


def test_kvm_gets_its_parameter(host):
    assert "options kvm_intel tdx=1" in host.file("/etc/modprobe.d/attested-ai-tdx-host.conf").content_string


def test_enclaves_have_their_groups_and_rules(host):
    assert host.group("sgx").exists and host.group("sgx_prv").exists and host.group("kvm").exists
    host.run_expect([0], "udevadm verify /etc/udev/rules.d/90-attested-ai-tdx-host-sgx.rules")


def test_memory_can_be_locked(host):
    assert host.check_output("ulimit -l") == "unlimited"
