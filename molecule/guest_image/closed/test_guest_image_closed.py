# SPDX-License-Identifier: GPL-3.0-or-later
"""An image without login is up, verified and deaf."""

from __future__ import annotations

import json

import pytest

HOME = "/var/lib/attested-ai/images/closed/1"


@pytest.fixture(scope="module")
def image(host):
    return json.loads(host.file(f"{HOME}/image.json").content_string)


def test_nothing_in_it_lets_anybody_in(host, image):
    packages = {package["name"] for package in json.loads(host.file(f"{HOME}/manifest.json").content_string)["packages"]}
    assert image["login"] == "none" and {"systemd", "python3"} <= packages
    assert not packages & {"openssh-server", "openssh-sftp-server", "dropbear", "telnetd", "cloud-init", "qemu-guest-agent"}


def test_it_is_up_and_takes_no_connection(host):
    result = json.loads(host.check_output(f"python3 /root/boot.py {HOME} direct --ssh /root/guest-key --script /root/look.sh"))
    assert result["up"], result["console"][-3000:]
    assert result["ssh"]["rc"] == 255 and "login:" not in result["console"]
