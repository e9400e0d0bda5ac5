# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs after the role, seen without Ansible: by libvirt and systemd, and by libvirt's own schema."""

from __future__ import annotations

import re

import pytest


def test_libvirt_knows_the_guest_and_that_nothing_protects_it(host):
    xml = host.check_output("virsh --connect qemu:///system dumpxml one")
    assert 'protection="unprotected"' in xml or "protection='unprotected'" in xml
    assert "launchSecurity" not in xml and host.check_output("virsh --connect qemu:///system domstate one") == "running"


def test_what_was_defined_is_valid_by_the_newest_schema(host):
    assert int(host.check_output("virsh --version").split(".")[0]) >= 12
    host.run_expect([0], "virt-xml-validate /var/lib/attested-ai/vms/one/definition domain")


@pytest.mark.parametrize("name", ["tdx", "tdx-gpu", "snp", "snp-huge"])
def test_definitions_of_confidential_guests_are_valid_by_it(host, name):
    host.run_expect([0], f"virt-xml-validate /root/definitions/{name}.xml domain")


def test_a_definition_that_is_none_is_found_out_by_it(host):
    host.run_expect([0], "sed 's/<launchSecurity type=.tdx.>/<launchSecurity type=\"cca\">/' /root/definitions/tdx.xml >/root/definitions/wrong")
    assert host.run("virt-xml-validate /root/definitions/wrong domain").rc != 0


def test_systemd_runs_the_other(host):
    unit = host.file("/etc/systemd/system/attested-vm-two.service").content_string
    assert "# protection: unprotected" in unit and "confidential-guest-support" not in unit
    host.run_expect([0], "systemd-analyze verify /etc/systemd/system/attested-vm-two.service")
    assert host.service("attested-vm-two").is_running and not host.service("attested-vm-two").is_enabled


def test_the_root_cannot_be_written_by_the_guest(host):
    assert re.search(r"<target dev='vda' bus='virtio'/>\s*<readonly/>", host.check_output("virsh --connect qemu:///system dumpxml one"))


def test_no_secret_is_in_words_or_definitions(host):
    for text in (host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), host.check_output("virsh --connect qemu:///system dumpxml one")):
        assert "PRIVATE KEY" not in text
