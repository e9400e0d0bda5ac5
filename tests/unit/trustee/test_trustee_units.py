# SPDX-License-Identifier: GPL-3.0-or-later
"""Units and containers as the role writes them, read by systemd's and Podman's own parsers where they are there."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from trustee_lab import DIGEST, IMAGES, units  # noqa: E402  pylint: disable=wrong-import-position

ANALYZE = shutil.which("systemd-analyze")
# QUADLET names it where it is elsewhere; Podman has it from 4.4 on.
QUADLET = next((path for path in (os.environ.get("QUADLET", ""), "/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet") if os.path.exists(path)), "")
# Programs that are there, for systemd looks for them.
PROGRAMS = {"kbs": "/usr/bin/env", "as": "/usr/bin/env", "rvps": "/usr/bin/env"}


def read(path: Path) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=False)
    found.optionxform = str
    found.read_string(path.read_text())
    return found


def test_a_service_is_hardened(tmp_path):
    found = read(units(tmp_path, listen=["0.0.0.0:8080"])["kbs"])["Service"]
    assert found["ExecStart"] == "/usr/local/bin/kbs --config-file /etc/trustee/kbs.toml" and found["User"] == "trustee"
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateDevices", "PrivateTmp", "RestrictNamespaces", "MemoryDenyWriteExecute"):
        assert found[name] == "true"
    # Neither in a core dump nor in swap, and no file for others.
    assert found["LimitCORE"] == "0" and found["MemorySwapMax"] == "0" and found["UMask"] == "0077"
    assert found["CapabilityBoundingSet"] == "" and found["ReadWritePaths"] == "/var/lib/trustee/storage"
    assert "InaccessiblePaths=-/etc/trustee/keys/tls-ca.key" in units(tmp_path)["kbs"].read_text()


def test_a_port_below_1024_asks_for_one_capability(tmp_path):
    found = {name: read(path)["Service"]["CapabilityBoundingSet"] for name, path in units(tmp_path, layout="services", listen=["[::]:443"]).items()}
    assert found == {"kbs": "CAP_NET_BIND_SERVICE", "as": "", "rvps": ""}


def test_containers_have_digests_and_no_rights(tmp_path):
    made = units(tmp_path, way="quadlet", layout="services")
    for name, path in made.items():
        found = read(path)["Container"]
        assert found["Image"] == IMAGES[name] and found["Image"].endswith(DIGEST) and "latest" not in path.read_text()
        assert found["ReadOnly"] == found["NoNewPrivileges"] == "true" and found["DropCapability"] == "all" and found["User"] == "993"
    assert [name for name, path in made.items() if "PublishPort=" in path.read_text()] == ["rvps"]
    assert "token.key" not in made["kbs"].read_text() and "tls.key" not in made["as"].read_text()


@pytest.mark.skipif(not ANALYZE, reason="no systemd-analyze here")
@pytest.mark.parametrize("layout", ["builtin", "services"])
def test_systemd_reads_the_units(tmp_path, layout):
    made = units(tmp_path, layout=layout, programs=PROGRAMS)
    done = subprocess.run([ANALYZE, "verify", *map(str, made.values())], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=tmp_path)
    ours = [line for line in done.stdout.splitlines() if "trustee" in line]
    assert ours == [] and "Unknown" not in done.stdout, done.stdout


@pytest.mark.skipif(not QUADLET, reason="no quadlet generator here: QUADLET names one")
@pytest.mark.parametrize("layout", ["builtin", "services"])
def test_podman_makes_services_of_the_containers(tmp_path, layout):
    made = units(tmp_path, way="quadlet", layout=layout, listen=["192.0.2.1:8080", "[2001:db8::1]:8443"])
    done = subprocess.run([QUADLET, "--dryrun"], env={"QUADLET_UNIT_DIRS": str(tmp_path), "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert done.returncode == 0 and "unsupported" not in done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    assert len(lines) == len(made)
    for line in lines:
        assert "--read-only" in line and "--cap-drop all" in line and f"@sha256:{DIGEST}" in line and "--user 993:992" in line and "core=0:0" in line
    assert sum("--publish 192.0.2.1:8080:8080" in line and "--publish [2001:db8::1]:8443:8080" in line for line in lines) == 1
