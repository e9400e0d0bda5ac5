# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut a role off at the worst moments, one after the other on the same machine: the play, its programs on the machine, or the power. After each the next
run must go on, and at the end the machine must be as one that nobody disturbed.

    python tools/vm/interruptions.py machines        # Debian under QEMU: the power is cut for real
    python tools/vm/interruptions.py machines reboot  # only those with this word in their names
    python tools/vm/interruptions.py containers      # the same moments in seconds; what the kernel had not written is not lost there

The role is tdx_host: it has words on the command line, parameters of modules, groups and rules for devices. Exit status 0 if all held.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import containers
import lab as machines
from image import LabError
from machine import say

REPO = Path(__file__).resolve().parents[2]
DROP_IN = "/etc/default/grub.d/99-attested-ai-tdx_host.cfg"
MODPROBE = "/etc/modprobe.d/attested-ai-tdx-host.conf"
# No pattern for -f may be found in the script that it stands in.
SET_UP = "'dpkg/(info|tmp.ci)/linux-image.*postinst'"
GRUB = "[g]rub-mkconfig"
STOPPING = 'test "$(systemctl is-system-running)" = stopping'
# All is set or taken back, and the reboot is not yet.
DECIDES = "TASK [attested.ai.tee_host : See when the machine was booted]"
# Whatever decides how the machine works: our files, packages and their state, what boots and what booted, groups.
STATE = r"""
find /etc /usr/lib/modprobe.d /var/lib/attested-ai -type f -path '*attested*' -exec sha256sum {} + 2>/dev/null | sort -k 2
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' | sort; dpkg --audit
sha256sum /boot/grub/grub.cfg; ls /boot; cat /proc/cmdline; uname -r; getent group | sort
"""
QUIET = {"tdx_host_reboot_ok": True, "tdx_host_verify": False}
SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Cut:
    """``when`` is true on the machine once it is time, or stands in what the play prints. ``held`` are programs: it is time when one runs, and it is
    stopped there until the blow falls, so that it falls nowhere else. ``act`` is `play`, `power` or `programs` (those that are held). ``ends`` is how
    that run must end."""

    name: str
    state: str
    when: str
    act: str
    ends: str
    held: str = ""


CUTS = (
    Cut("power lost while packages are installed", "present", "true", "power", "failed", SET_UP),
    Cut("installation killed while it goes on", "present", "true", "programs", "failed", SET_UP),
    Cut("play killed while the installation goes on", "present", "true", "play", "killed", SET_UP),
    Cut("power lost while GRUB is configured", "present", f"grep -q 'State: pending' {DROP_IN}", "power", "failed", GRUB),
    Cut("play killed between GRUB and the reboot", "present", DECIDES, "play", "killed"),
    Cut("power lost during the reboot", "present", STOPPING, "power", "well"),
    Cut("programs killed while GRUB is taken back", "absent", f"grep -q 'State: pending' {DROP_IN}", "programs", "failed", GRUB),
    Cut("play killed between taking back and the reboot", "absent", DECIDES, "play", "killed"),
    Cut("power lost during the last reboot", "absent", STOPPING, "power", "well"),
)


@dataclasses.dataclass(frozen=True)
class Lab:
    """One kind of machines: ``script`` runs on one of them and gives status and output, ``cut`` takes its power and gives it back."""

    inventory: Path
    up: Callable[[], None]
    down: Callable[[], None]
    script: Callable[[str, str], tuple[int, str]]
    cut: Callable[[str], None]
    report: Callable[[], None]
    settings: dict[str, object]


def of_machines() -> Lab:
    place = machines.CACHE / "labs" / "interrupted"

    def script(name: str, text: str) -> tuple[int, str]:
        done = subprocess.run([*machines.machine_of(place, name).ssh_command(), text], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    settings = {**QUIET, "tdx_host_kernel_packages": ["linux-image-cloud-amd64>=6.18"]}
    names = ["whole:trixie", "cut:trixie"]
    return Lab(
        place / "inventory.yml", lambda: machines.up(place, names), lambda: machines.down(place), script, lambda name: machines.cut(place, name),
        lambda: machines.report(place), settings,
    )  # fmt: skip


def of_containers() -> Lab:
    place = containers.CACHE / "labs" / "interrupted"
    containers.configure()
    options = {"boot_time_command": "cat /run/lab-boot", "reboot_timeout": 300, "connect_timeout": 5}
    return Lab(
        place / "inventory.yml", lambda: containers.up(place, ["whole", "cut"]), lambda: containers.down(place),
        lambda name, text: containers.script(place, name, text), lambda name: containers.cut(place, name), lambda: containers.report(place),
        {**QUIET, "tdx_host_reboot_options": options},
    )  # fmt: skip


def start(lab: Lab, name: str, state: str, log: Path) -> subprocess.Popen[bytes]:
    """The play, as a user would run it, as the leader of its own group."""
    settings = {**lab.settings, "tdx_host_state": state}
    play = [{"name": "The role", "hosts": name, "gather_facts": False, "become": True, "roles": [{"role": "attested.ai.tdx_host"}]}]
    path = log.with_suffix(".yml")
    path.write_text(json.dumps(play))
    command = ["ansible-playbook", "--inventory", str(lab.inventory), "--extra-vars", json.dumps(settings), str(path)]
    plain = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    with log.open("wb") as stream:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, env=plain)


def run(lab: Lab, name: str, state: str, log: Path) -> str:
    """To its end. Returns the line of the recap."""
    code = start(lab, name, state, log).wait(SECONDS)
    if code:
        raise LabError(f"the run ended with {code}:\n{tail(log)}")
    return next((line for line in log.read_text(errors="replace").splitlines() if line.startswith(name) and "ok=" in line), "")


def interrupt(lab: Lab, cut: Cut, log: Path) -> None:
    play = start(lab, "cut", cut.state, log)
    try:
        wait_for(lab, cut, play, log)
        if cut.act == "play":
            os.killpg(play.pid, signal.SIGKILL)
        if cut.act == "power":
            lab.cut("cut")
        elif cut.held:
            # What was killed leaves the rest to go on.
            lab.script("cut", f"{'pkill -KILL -x dpkg; pkill -KILL' if cut.act == 'programs' else 'pkill -CONT'} -f {cut.held}")
        code = play.wait(SECONDS)
    finally:
        if play.poll() is None:
            os.killpg(play.pid, signal.SIGKILL)
    ended = "killed" if code == -signal.SIGKILL else "failed" if code else "well"
    if ended != cut.ends:
        raise LabError(f"{cut.name}: the run ended {ended}, not {cut.ends}:\n{tail(log)}")


def wait_for(lab: Lab, cut: Cut, play: subprocess.Popen[bytes], log: Path) -> None:
    """One script that waits on the machine itself, asked again while the machine cannot be reached."""
    hold = f" && pkill -STOP -f {cut.held}" if cut.held else ""
    script = f"for n in $(seq 200); do if {{ {cut.when}{hold}; }} >/dev/null 2>&1; then exit 42; fi; sleep 0.05; done"
    while play.poll() is None:
        if cut.when.startswith("TASK "):
            if cut.when in log.read_text(errors="replace"):
                return
            time.sleep(0.1)
            continue
        code, _said = lab.script("cut", script)
        if code == 42:
            return
        if code == 255:
            # Already gone: a container shuts down before it can be asked.
            if cut.when == STOPPING and "[attested.ai.tee_host : Reboot the machine]" in log.read_text(errors="replace"):
                return
            time.sleep(0.2)
    raise LabError(f"{cut.name}: the moment never came:\n{tail(log)}")


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-25:])


def same(lab: Lab, before: list[str]) -> None:
    after = lab.script("cut", STATE)[1].splitlines()
    if after != before:
        gone, new = [line for line in before if line not in after], [line for line in after if line not in before]
        raise LabError("the machine is not as the one that nobody disturbed.\nMissing:\n  " + "\n  ".join(gone) + "\nInstead:\n  " + "\n  ".join(new))


def trial(lab: Lab, cuts: Sequence[Cut], logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    untouched = lab.script("whole", STATE)[1].splitlines()
    begin = time.monotonic()
    for state in ("present", "absent"):
        run(lab, "whole", state, logs / f"whole-{state}.log")
        expected = lab.script("whole", STATE)[1].splitlines()
        if expected == untouched:
            raise LabError(f"state {state} changed nothing")
        say(f"{state}, undisturbed: {time.monotonic() - begin:.0f} s")
        for number, cut in enumerate(cut for cut in cuts if cut.state == state):
            begin = time.monotonic()
            interrupt(lab, cut, logs / f"{state}-{number}.log")
            say(f"{state}: {cut.name}: {time.monotonic() - begin:.0f} s")
        begin = time.monotonic()
        run(lab, "cut", state, logs / f"{state}-after.log")
        same(lab, expected)
        recap = run(lab, "cut", state, logs / f"{state}-again.log")
        if "changed=0 " not in recap:
            raise LabError(f"the run after the last one changed something: {recap}")
        say(f"{state}: as if nothing had been, and nothing more to change: {time.monotonic() - begin:.0f} s")
        begin = time.monotonic()


def main() -> int:
    kind, word = (*sys.argv[1:], "", "")[:2]
    cuts = [cut for cut in CUTS if word in cut.name]
    if kind not in ("machines", "containers") or not cuts or len(sys.argv) > 3:
        print(__doc__, file=sys.stderr)
        return 2
    reason = containers.unable() if kind == "containers" else ""
    if reason:
        print(reason, file=sys.stderr)
        return containers.SKIPPED
    lab = of_machines() if kind == "machines" else of_containers()
    # So that it takes down its machines, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_ignored: sys.exit(1))
    try:
        lab.up()
        trial(lab, cuts, REPO / ".cache" / "log" / f"interrupted-{kind}")
        print(f"{len(cuts)} interruptions, and the next run finished each")
        return 0
    except (LabError, RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"interruptions: {error}", file=sys.stderr)
        lab.report()
        return 1
    finally:
        lab.down()


if __name__ == "__main__":
    sys.exit(main())
