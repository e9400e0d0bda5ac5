# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Running the program of a job: as a user without rights, without a network, seeing nothing of the machine that it does not need.

``unit`` is a transient unit of systemd. ``process`` is a plain process with none of that, for the Soft TEE, which protects nothing either; it is refused where
evidence comes from a kernel's own interface.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import CHECKPOINTS, LOG, Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

UNIT, PROCESS = "unit", "process"
# (exit status, standard output, standard error) of a command.
Runner = Callable[[Sequence[str]], Tuple[int, str, str]]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where configfs usually is; it may be mounted anywhere. What cannot be told is not believed to be something else.
_KERNEL = "/sys/kernel/"
# Seconds after which a program is ended whose checkpoints cannot be kept.
_SLICE = 1.0
_NO_SOFT_TEE = ("configfs", "sysfs", "unknown")


@dataclass(frozen=True)
class Place:
    """The folder of a job in memory."""

    root: str

    @property
    def code(self) -> str:
        return os.path.join(self.root, "code")

    @property
    def data(self) -> str:
        return os.path.join(self.root, "data")

    @property
    def out(self) -> str:
        return os.path.join(self.root, "out")

    @property
    def checkpoints(self) -> str:
        """Where the program leaves them."""
        return os.path.join(self.out, CHECKPOINTS)

    @property
    def taken(self) -> str:
        """Where they are encrypted, out of its reach."""
        return os.path.join(self.root, "taken")

    @property
    def staging(self) -> str:
        """Ciphertext on its way to a disk."""
        return os.path.join(self.root, "staging")

    @property
    def log(self) -> str:
        return os.path.join(self.root, LOG)

    @property
    def log_file(self) -> str:
        return os.path.join(self.log, "job.log")

    def output(self, name: str) -> str:
        return self.log if name == LOG else os.path.join(self.out, name)


@dataclass(frozen=True)
class Limits:
    user: str = "attested-training"
    seconds: int = 86400
    memory_max: str = "90%"
    scratch_size: str = "25%"
    gpus: bool = False


def command(agreement: Agreement, place: Place) -> List[str]:
    """With {code}, {data} and {out} filled in. All other braces stay, for words may be JSON."""
    places = {"code": place.code, "data": place.data, "out": place.out}
    words = []
    for word in agreement.command:
        for name, value in places.items():
            word = word.replace("{%s}" % name, value)
        words.append(word)
    return words


def refuse_process(method: str, tsm_path: str) -> None:
    """Raises TrainingError where a plain process would have real data to lose."""
    path = os.path.realpath(tsm_path)
    if method != "configfs" or path.startswith(_KERNEL) or memory.memory_filesystem(path).kind in _NO_SOFT_TEE:
        raise TrainingError("a plain process is for the Soft TEE only, and this evidence comes from the kernel", where="isolation",
                            fix="Leave isolation at unit", code="training-isolation")  # fmt: skip


def unit_command(agreement: Agreement, place: Place, limits: Limits, noswap: bool) -> List[str]:
    """The transient unit. What is in its memory stays there; its folders for temporary files are memory as well."""
    logged = "append:" + place.log_file if agreement_has_log(agreement) else "null"
    swap = ",noswap" if noswap else ""
    properties = {
        "Type": "exec", "User": limits.user, "Group": limits.user, "WorkingDirectory": place.code, "UMask": "0077", "RuntimeMaxSec": str(limits.seconds),
        "StandardInput": "null", "StandardOutput": logged, "StandardError": logged, "Environment": "LANG=C.UTF-8 HOME=/tmp PATH=" + _PATH,
        "LimitCORE": "0", "MemorySwapMax": "0", "MemoryMax": limits.memory_max, "PrivateMounts": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
        "InaccessiblePaths": "-/run/attested-ai", "ReadWritePaths": place.out, "PrivateNetwork": "yes", "PrivateIPC": "yes", "IPAddressDeny": "any",
        "RestrictAddressFamilies": "AF_UNIX", "PrivateDevices": "no" if limits.gpus else "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "",
        "LockPersonality": "yes", "ProtectControlGroups": "yes", "ProtectHostname": "yes", "ProtectKernelLogs": "yes",
        "ProtectKernelModules": "yes", "ProtectKernelTunables": "yes", "ProtectProc": "invisible", "RestrictNamespaces": "yes", "RestrictSUIDSGID": "yes",
        "KeyringMode": "private", "SystemCallArchitectures": "native", "SystemCallErrorNumber": "EPERM", "SystemCallFilter": "@system-service",
        "KillMode": "control-group", "SendSIGKILL": "yes",
    }  # fmt: skip
    if not limits.gpus:
        # Before systemd 253 it closes all devices but the clock. What it keeps from the program, capabilities and system calls do as well.
        properties["ProtectClock"] = "yes"
    words = ["systemd-run", "--quiet", "--wait", "--collect", "--unit=" + unit_name(agreement)]
    words += ["--property=%s=%s" % item for item in properties.items()]
    words += ["--property=TemporaryFileSystem=%s:rw,nosuid,nodev,mode=1777,size=%s%s" % (path, limits.scratch_size, swap)
              for path in ("/tmp", "/var/tmp", "/dev/shm")]  # fmt: skip
    return words + ["--"] + command(agreement, place)


def unit_name(agreement: Agreement) -> str:
    return "attested-training-%s.service" % agreement.job


def agreement_has_log(agreement: Agreement) -> bool:
    return LOG in dict(agreement.outputs)


def run_unit(agreement: Agreement, place: Place, limits: Limits, run: Runner, noswap: bool) -> int:
    """The program's exit status. However this ends, no process of the unit is left."""
    ended = False
    try:
        status, _out, told = run(unit_command(agreement, place, limits, noswap))
        ended = True
    finally:
        if not ended:
            stop_unit(agreement, run)
    if status and told.strip():
        # systemd-run has words only where the unit did not come to run.
        raise TrainingError("the unit could not be run: %s" % told.strip()[:500], where=unit_name(agreement), fix="See its journal", code="training-unit")
    return status


def stop_unit(agreement: Agreement, run: Runner) -> None:
    """At once. Where there is no such unit, or no systemd, nothing is left to end."""
    for words in (["kill", "--signal=SIGKILL"], ["stop"]):
        try:
            run(["systemctl"] + words + [unit_name(agreement)])
        except OSError:
            return


def run_process(agreement: Agreement, place: Place, limits: Limits, halt: Optional[threading.Event] = None) -> int:
    """For the Soft TEE. However this ends, no process of the program's group is left. ``halt`` ends it early."""
    environment: Dict[str, str] = {"PATH": _PATH, "HOME": place.root, "LANG": "C.UTF-8"}
    words = command(agreement, place)
    process: Optional["subprocess.Popen[bytes]"] = None
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    logged = os.open(place.log_file, flags, 0o600) if agreement_has_log(agreement) else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # A group of its own, which the module's run_command would not give it.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            words, env=environment, stdin=subprocess.DEVNULL, stdout=logged, stderr=logged, cwd=place.code, start_new_session=True
        )
        return process.wait(limits.seconds) if halt is None else _wait(process, limits.seconds, halt)
    except OSError as error:
        raise TrainingError("it cannot be started (%s)" % error.strerror, where=words[0], fix="Use an image that has it", code="training-start") from None
    except subprocess.TimeoutExpired:
        raise TrainingError("it did not end within %d seconds" % limits.seconds, where=words[0], fix="Raise the time", code="training-slow") from None
    finally:
        os.close(logged)
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", seconds: int, halt: threading.Event) -> int:
    until = time.monotonic() + seconds
    while not halt.is_set():
        left = until - time.monotonic()
        try:
            return process.wait(max(0.0, min(_SLICE, left)))
        except subprocess.TimeoutExpired:
            if left <= _SLICE:
                raise
    status = process.poll()
    return -signal.SIGKILL if status is None else status
