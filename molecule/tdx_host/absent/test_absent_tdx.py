# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left after state: absent."""

import pytest


@pytest.mark.parametrize(
    "path",
    [
        "/etc/modprobe.d/attested-ai-tdx-host.conf",
        "/etc/default/grub.d/99-attested-ai-tdx_host.cfg",
        "/etc/security/limits.d/90-attested-ai-tdx-host.conf",
        "/etc/udev/rules.d/90-attested-ai-tdx-host-sgx.rules",
        "/etc/apt/sources.list.d/attested-ai-tdx-host-backports.sources",
    ],
)
def test_no_file_of_ours_is_left(host, path):
    assert not host.file(path).exists


def test_the_machine_booted_again_without_our_words(host):
    words = host.check_output("cat /proc/cmdline").split()
    assert "nohibernate" not in words and words[-1] == "console=ttyS0"
