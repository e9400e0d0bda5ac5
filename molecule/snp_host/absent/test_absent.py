# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left after state: absent."""

import pytest


@pytest.mark.parametrize(
    "path",
    [
        "/etc/modprobe.d/attested-ai-snp-host.conf",
        "/etc/default/grub.d/99-attested-ai-snp_host.cfg",
        "/etc/security/limits.d/90-attested-ai-snp-host.conf",
        "/etc/apt/sources.list.d/attested-ai-snp-host-backports.sources",
    ],
)
def test_no_file_of_ours_is_left(host, path):
    assert not host.file(path).exists


def test_the_machine_still_boots_and_its_line_is_as_before(host):
    assert host.check_output("cat /proc/cmdline").split()[-1] == "console=ttyS0"
