# SPDX-License-Identifier: GPL-3.0-or-later
"""The role gpu_cc_host in real runs on a made-up machine: check mode, set-up, a reboot, mode and verification, nothing on the second run, and back.

All runs share one mount namespace, in which /etc, /var and /usr/sbin are copies on write, the GPUs lie where sysfs has them, and a few programs that would
need a real machine (udevadm, modprobe, update-initramfs, grubby) are imitated.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools" / "softgpu"))

from softgpu.machine import SoftMachine  # noqa: E402

NAMESPACE = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"]
OVERLAY = """set -e
mkdir -p {base}/space && mount -t tmpfs space {base}/space
for place in etc var usr/sbin; do
  mkdir -p {base}/space/$place/up {base}/space/$place/work
  mount -t overlay overlay -o lowerdir=/$place,upperdir={base}/space/$place/up,workdir={base}/space/$place/work /$place
done
mount -t tmpfs boot /boot
mkdir -p /opt && mount -t tmpfs opt /opt
mount --bind {root}/sys/bus/pci/devices /sys/bus/pci/devices
mount --bind {root}/sys/kernel/iommu_groups /sys/kernel/iommu_groups
mount --bind {base}/cmdline /proc/cmdline
mount --bind {base}/cpuinfo /proc/cpuinfo
cp {base}/programs/* /usr/sbin/
mkdir -p /etc/modprobe.d /etc/modules-load.d /etc/udev/rules.d /etc/security/limits.d
touch -d @1000 /boot/initrd.img-6.17.0
"""
PROGRAMS = {
    # It takes the rules of udev along.
    "update-initramfs": """echo "update-initramfs $*" >>{base}/ran; touch /boot/initrd.img-6.17.0
find /etc/udev/rules.d -name '*attested-ai*' >{base}/taken-along""",
    "modprobe": 'echo "modprobe $*" >>{base}/ran',
    # What the rules come to: devices without a driver are bound.
    "udevadm": """echo "udevadm $*" >>{base}/ran
case "$*" in *subsystem-match=pci*) number=0; for device in {root}/sys/bus/pci/devices/*; do
  if ! grep -q DRIVER= $device/uevent; then
    echo DRIVER=vfio-pci >>$device/uevent; echo vfio-pci >$device/driver_override; mkdir -p $device/vfio-dev/vfio$number
  fi
  number=$((number + 1)); done;; esac""",
    "grubby": """case "$1" in
--info=ALL) printf 'index=0\\nkernel="/boot/vmlinuz-6.17.0"\\nargs="%s"\\nroot="/dev/sda1"\\n' "$(cat {base}/args)";;
--default-kernel) echo "/boot/vmlinuz-$(uname -r)";;
--update-kernel=ALL) shift; for word in "$@"; do case "$word" in
  --args=*) echo "$(cat {base}/args) ${word#--args=}" >{base}/args;;
  --remove-args=*) for gone in ${word#--remove-args=}; do sed -i "s/\\(^\\| \\)$gone\\( \\|$\\)/ /" {base}/args; done;; esac; done;;
esac""",
}  # fmt: skip
KEPT = ("/etc/modprobe.d", "/etc/modules-load.d", "/etc/udev/rules.d", "/etc/security/limits.d")
LIST = "(cd / && find etc/modprobe.d etc/modules-load.d etc/udev/rules.d etc/security/limits.d opt -path '*attested-ai*' -maxdepth 3 | sort)"


def able() -> bool:
    if not shutil.which("unshare"):
        return False
    script = "T=$(mktemp -d) && mount -t tmpfs x $T && mkdir $T/a $T/b && mount -t overlay overlay -o lowerdir=/etc,upperdir=$T/a,workdir=$T/b /etc"
    return subprocess.run([*NAMESPACE, "sh", "-c", script], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not able(), reason="mount namespaces with copies on write are not allowed here (unshare, overlay)")


def archive(machine: SoftMachine, base: Path) -> tuple[Path, str]:
    path = base / "tool.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        packed.add(machine.tool, "gpu-admin-tools-82422cc")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def steps(base: Path, play: Path) -> str:
    """The runs, each with its output and the files that it left. A reboot is that all files are older than the boot, with what grubby has as the line."""
    call = f"{sys.executable} -m ansible playbook -i localhost, -c local {play}"
    reboot = "find {0} -name '*attested-ai*' -exec touch -d @1000 {{}} + ; cat {1}/args >{1}/cmdline".format(" ".join(KEPT), base)
    runs = [("check", "--check --diff"), ("first", ""), ("second", ""), ("third", ""), ("absent", "-e gpu_cc_host_state=absent"),
            ("gone", "-e gpu_cc_host_state=absent")]  # fmt: skip
    script = []
    for name, words in runs:
        script.append(f"{call} {words} >{base}/{name}.out 2>&1; echo $? >{base}/{name}.rc; {LIST} >{base}/{name}.files")
        if name == "first":
            script += [f"cp /etc/modprobe.d/attested-ai* {base}/modprobe; cp /etc/udev/rules.d/90-attested-ai-gpu-cc-host-binding.rules {base}/rules", reboot]
    return "set +e\n" + "\n".join(script)


def test_the_role_sets_up_reboots_switches_verifies_and_takes_back(tmp_path):
    machine = SoftMachine.named("h100", tmp_path / "machine")
    machine.drive("0000:3a:00.0", "")
    machine.put("sys/bus/pci/devices/0000:3a:00.0/driver_override", "(null)\n")
    tool, sha256 = archive(machine, tmp_path)
    (tmp_path / "programs").mkdir()
    for name, text in PROGRAMS.items():
        path = tmp_path / "programs" / name
        path.write_text("#!/bin/sh\n" + text.replace("{base}", str(tmp_path)).replace("{root}", str(machine.root)) + "\n")
        path.chmod(0o755)
    (tmp_path / "cpuinfo").write_text("vendor_id\t: GenuineIntel\n")
    (tmp_path / "args").write_text("ro quiet\n")
    (tmp_path / "cmdline").write_text("BOOT_IMAGE=/vmlinuz ro quiet\n")
    values = {
        "gpu_cc_host_tool_source": tool.name, "gpu_cc_host_tool_sha256": sha256, "gpu_cc_host_tool_files_sha256": machine.sha256, "gpu_cc_host_mode": "on",
        "gpu_cc_host_dma_entry_limit": 1048576, "gpu_cc_host_waivers": {"gpu.iommufd": "none here", "gpu.lockdown": "the test's kernel"},
    }  # fmt: skip
    # Elsewhere than the archive, which is named as on a command line: by where the run was started.
    play = tmp_path / "plays" / "play.json"
    play.parent.mkdir()
    play.write_text(json.dumps([{
        "hosts": "localhost", "gather_facts": False, "roles": ["attested.ai.gpu_cc_host"], "vars": {**values, "ansible_python_interpreter": sys.executable},
        "tasks": [{"name": "result", "ansible.builtin.debug": {"var": "gpu_cc_host_result"}}],
    }]))  # fmt: skip
    environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(tmp_path / "local"))
    # A process less for each file that a task would copy. It is what ansible.cfg sets for machines behind ssh.
    environment["ANSIBLE_PIPELINING"] = "true"
    environment.update(ANSIBLE_REMOTE_TEMP=str(tmp_path / "remote"), PATH="/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ["PATH"])
    environment.setdefault("ANSIBLE_COLLECTIONS_PATH", os.pathsep.join(sys.path))
    script = OVERLAY.format(base=tmp_path, root=machine.root) + steps(tmp_path, play)
    subprocess.run([*NAMESPACE, "sh", "-c", script], env=environment, check=False, timeout=1500, cwd=tmp_path, stdout=subprocess.DEVNULL,
                   stderr=(tmp_path / "err").open("w"))  # fmt: skip
    found = {name: (tmp_path / f"{name}.out").read_text() for name in ("check", "first", "second", "third", "absent", "gone")}
    files = {name: (tmp_path / f"{name}.files").read_text().split() for name in found}
    for name in found:
        assert (tmp_path / f"{name}.rc").read_text().strip() == "0", found[name] + (tmp_path / "err").read_text()
        assert "Traceback" not in found[name]
    assert files["check"] == [] and "changed=0" not in found["check"]
    assert any(name.endswith("drivers.conf") for name in files["first"]) and any("gpu-admin-tools-" in name for name in files["first"])
    assert "needs a reboot for" in found["first"] and '"reboot_required": true' in found["first"]
    text = (tmp_path / "modprobe").read_text()
    assert "install nouveau /bin/false" in text and "10de:ffffffff:ffffffff:ffffffff:068000:ffffff" in text and "dma_entry_limit=1048576" in text
    assert re.search(r"^options vfio-pci ids=(10de:ffffffff:ffffffff:ffffffff:[0-9a-f]{6}:ffffff,?){6}$", text, re.MULTILINE), text
    assert 'ATTR{class}=="0x068000"' in (tmp_path / "rules").read_text()
    assert "update-initramfs -u -k all" in (tmp_path / "ran").read_text() and "intel_iommu=on" not in (tmp_path / "args").read_text()
    assert set(machine.modes().values()) == {"on"} and '"verdict": "ready"' in found["second"]
    assert re.search(r"changed=0 ", found["third"]), found["third"]
    assert files["absent"] == ["opt/attested-ai"] and (tmp_path / "ran").read_text().count("update-initramfs") == 2
    # Otherwise the next boot would bind the GPUs as before.
    assert (tmp_path / "taken-along").read_text() == ""
    assert "devices that are still bound to vfio-pci" in found["absent"]
    assert re.search(r"changed=0 ", found["gone"]), found["gone"]
