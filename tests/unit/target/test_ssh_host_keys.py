# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import check_ssh_fingerprint
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import encode_base64
from ansible_collections.attested.ai.plugins.module_utils.target import ssh_host_keys
from ansible_collections.attested.ai.plugins.module_utils.target.memory import MemoryFs

IN_MEMORY = MemoryFs("tmpfs", "/run", True, "")
ON_DISK = MemoryFs("ext4", "/", False, "")
NOWHERE = MemoryFs("unknown", "", False, "")


def line(kind="ssh-ed25519", body=b"\0\0\0 " + b"k" * 32):
    return "%s %s root@host" % (kind, encode_base64(struct.pack(">I", len(kind)) + kind.encode() + body))


def add(directory, name, text=None, private=True):
    (directory / (name + ".pub")).write_text((text or line(body=name.encode())) + "\n")
    if private:
        (directory / name).write_text("private")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_fingerprints_are_those_of_ssh_keygen(tmp_path, kind):
    path = tmp_path / ("ssh_host_%s_key" % kind)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    printed = subprocess.run(["ssh-keygen", "-l", "-f", str(path) + ".pub"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
    found = ssh_host_keys.collect(str(tmp_path))
    assert found.fingerprints == (printed,)
    assert check_ssh_fingerprint(printed, "") == printed


def test_all_keys_sorted_and_once(tmp_path):
    for name in ("ssh_host_ed25519_key", "ssh_host_rsa_key", "ssh_host_ecdsa_key"):
        add(tmp_path, name)
    add(tmp_path, "ssh_host_copy_key", line(body=b"ssh_host_rsa_key"))
    (tmp_path / "moduli").write_text("")
    found = ssh_host_keys.collect(str(tmp_path))
    assert len(found.fingerprints) == 3 and list(found.fingerprints) == sorted(found.fingerprints)
    assert len(found.paths) == 4


def test_hostkey_lines_of_the_configuration_count(tmp_path):
    (tmp_path / "sshd_config.d").mkdir()
    (tmp_path / "keys").mkdir()
    for name in ("ssh_host_rsa_key", "keys/one", "keys/two three", "keys/four"):
        add(tmp_path, name)
    (tmp_path / "sshd_config").write_text(
        "# HostKey /etc/ssh/commented\nInclude sshd_config.d/*.conf\nhostkey = %s # comment\nHostKey %s\nHostKey none\nPort 22\n"
        % (tmp_path / "keys/one", tmp_path / "keys/one")
    )
    (tmp_path / "sshd_config.d" / "10.conf").write_text('HostKey "%s"\nHostKey %s\n' % (tmp_path / "keys/two three", tmp_path / "keys/absent"))
    found = ssh_host_keys.collect(str(tmp_path))
    assert [os.path.basename(path) for path in found.paths] == ["two three.pub", "one.pub"]


def test_a_configuration_that_includes_itself_ends(tmp_path):
    (tmp_path / "sshd_config").write_text("Include sshd_config\nHostKey /x/key\n")
    assert ssh_host_keys.configured_keys(str(tmp_path)) == ["/x/key"]


def test_a_configuration_without_hostkey_means_the_default(tmp_path):
    (tmp_path / "sshd_config").write_text('Port 22\nMalformed "quote\n')
    add(tmp_path, "ssh_host_rsa_key")
    assert len(ssh_host_keys.collect(str(tmp_path)).fingerprints) == 1


@pytest.mark.parametrize(
    "kinds,expected",
    [
        ({"a": IN_MEMORY, "b": IN_MEMORY}, "memory"),
        ({"a": IN_MEMORY, "b": ON_DISK}, "disk"),
        ({"a": IN_MEMORY, "b": NOWHERE}, "unknown"),
        ({"a": ON_DISK, "b": NOWHERE}, "disk"),
        ({"a": MemoryFs("tmpfs", "/run", False, "swap is active"), "b": IN_MEMORY}, "disk"),
    ],
)
def test_storage_is_the_worst_of_all(tmp_path, kinds, expected):
    for name in kinds:
        add(tmp_path, "ssh_host_%s_key" % name)
    found = ssh_host_keys.collect(str(tmp_path), classify=lambda path: kinds[os.path.basename(path)[9]])
    assert found.storage == expected


def test_storage_follows_the_link_to_the_private_key(tmp_path):
    add(tmp_path, "ssh_host_a_key", private=False)
    (tmp_path / "real").write_text("private")
    (tmp_path / "ssh_host_a_key").symlink_to(tmp_path / "real")
    asked = []
    ssh_host_keys.collect(str(tmp_path), classify=lambda path: asked.append(path) or ON_DISK)
    assert asked == [os.path.realpath(str(tmp_path / "real"))]


def test_storage_of_a_private_key_that_cannot_be_seen_is_unknown(tmp_path):
    add(tmp_path, "ssh_host_a_key", private=False)
    assert ssh_host_keys.collect(str(tmp_path), classify=lambda path: IN_MEMORY).storage == "unknown"


def test_no_key(tmp_path):
    with pytest.raises(CollectError) as caught:
        ssh_host_keys.collect(str(tmp_path))
    assert caught.value.code == "no-ssh-host-keys"


def test_too_many_keys(tmp_path):
    for number in range(17):
        add(tmp_path, "ssh_host_%d_key" % number)
    with pytest.raises(CollectError) as caught:
        ssh_host_keys.collect(str(tmp_path))
    assert caught.value.code == "too-many-ssh-host-keys"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-rsa " + line().split()[1],
        "ssh-ed25519 " + encode_base64(struct.pack(">I", 11) + b"ssh-ed25519"),
        "a\x1bb AAAA",
        "ssh-ed25519 \u00e4",
    ],
)
def test_damaged_keys_are_refused(text):
    with pytest.raises(CollectError) as caught:
        ssh_host_keys.parse_public_key(text, "file")
    assert caught.value.code == "ssh-key-invalid"


def test_oversized_files_are_refused(tmp_path):
    (tmp_path / "ssh_host_a_key.pub").write_text(line() + " " * ssh_host_keys.FILE_MAX)
    with pytest.raises(CollectError):
        ssh_host_keys.collect(str(tmp_path))


def test_keys_that_may_not_be_read(tmp_path):
    (tmp_path / "ssh_host_a_key.pub").mkdir()
    with pytest.raises(CollectError) as caught:
        ssh_host_keys.collect(str(tmp_path))
    assert caught.value.code == "no-permission"
