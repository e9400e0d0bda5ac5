# SPDX-License-Identifier: GPL-3.0-or-later
"""What a served model looks like from outside of its unit: like nothing."""

from __future__ import annotations

OPEN = "/var/lib/attested-model/open"


def main_process(host):
    instance = host.run("readlink /run/attested-model/minilm/current").stdout.strip()
    unit = f"attested-model-minilm@{instance}.service"
    return unit, int(host.run(f"systemctl show --value --property=MainPID {unit}").stdout)


def runtime_process(host):
    return int(host.run("pgrep -u attested-model").stdout.split()[0])


def test_plaintext_is_in_the_namespace_of_the_unit_and_nowhere_else(host):
    unit, pid = main_process(host)
    assert host.file(f"/proc/{pid}/root{OPEN}/model/model.safetensors").size == 90868376
    assert host.run(f"ls -A {OPEN}").stdout == ""
    assert OPEN not in host.file("/proc/1/mountinfo").content_string
    kind = next(line for line in host.file(f"/proc/{pid}/mountinfo").content_string.splitlines() if f" {OPEN} " in line)
    assert " - tmpfs " in kind and "noswap" in kind and "nodev" in kind
    assert host.run("find / -xdev -name model.safetensors").stdout == ""


def test_no_key_is_left(host):
    assert host.run("find /run/attested-ai -mindepth 1").stdout == ""
    assert host.run("find /run/attested-model -name '*.json' -path '*orders*'").stdout == ""


def test_nobody_else_reads_the_model(host):
    pid = runtime_process(host)
    for user in ("nobody", "attested-front"):
        done = host.run(f"runuser -u {user} -- ls /proc/{pid}/root{OPEN}/model")
        assert done.rc != 0
    status = host.file(f"/proc/{pid}/status").content_string
    uid = host.user("attested-model").uid
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status and "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status


def test_model_server_has_no_network(host):
    pid = runtime_process(host)
    assert host.run(f"nsenter -t {pid} -n ip -o link").stdout.count("\n") == 1
    assert ":8000" not in host.run("ss -ltn").stdout
    listed = host.run("stat -c '%U %a' /run/attested-model/minilm/current/model.sock").stdout.strip()
    assert listed == "attested-front 600"


def test_limits_of_memory(host):
    unit, pid = main_process(host)
    for name, expected in (("MemorySwapMax", "0"), ("LimitCORE", "0"), ("PrivateNetwork", "yes")):
        assert host.run(f"systemctl show --value --property={name} {unit}").stdout.strip() == expected, name
    # The model counts as the unit's own memory.
    assert int(host.run(f"systemctl show --value --property=MemoryCurrent {unit}").stdout) > 90868376
    assert "Max core file size        0                    0" in host.file(f"/proc/{pid}/limits").content_string


def test_front_gave_its_rights_away(host):
    pids = host.run("pgrep -u attested-front").stdout.split()
    assert len(pids) == 1
    assert "CapEff:\t0000000000000000" in host.file(f"/proc/{pids[0]}/status").content_string
    assert "attested_model_up 1" in host.run("curl -s http://127.0.0.1:9477/metrics || python3 -c \"import urllib.request as r; "
                                             "print(r.urlopen('http://127.0.0.1:9477/metrics').read().decode())\"").stdout


def test_only_tls_1_3(host):
    old = host.run("openssl s_client -connect 127.0.0.1:8443 -tls1_2 </dev/null")
    assert old.rc != 0
    assert "TLSv1.3" in host.run("openssl s_client -connect 127.0.0.1:8443 </dev/null").stdout


def test_nothing_is_said_in_the_journal(host):
    said = host.run("journalctl -u 'attested-model-minilm*' -o cat").stdout
    assert "Traceback" not in said and "secret" not in said
