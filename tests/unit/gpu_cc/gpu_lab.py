# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up machines with GPUs for tests, and the tool's double inside of this process, where a kill is an exception."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "softgpu"))

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.target.gpu import switch, work  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.machine import LocalBench  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.target.gpu.tool import Run  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.target.probes.local import LocalHost  # noqa: E402
from softgpu.machine import SoftMachine  # noqa: E402

OPTIONS: dict[str, Any] = {
    "devices": [], "architectures": {}, "expect_gpus": None, "expect_switches": None, "hgx_firmware": "", "allow_partial": False, "clear_quarantine": False,
}  # fmt: skip


class Killed(BaseException):
    """The run ended here, without a chance to clean up."""


class Inside(LocalBench):
    """The double in this process: quick, and nothing is really killed. A tool that hangs is told to be so at once."""

    def __init__(self, machine: SoftMachine) -> None:
        super().__init__(str(machine.tool), 20, str(machine.root))
        spec = importlib.util.spec_from_file_location("softgpu_double", machine.tool / "nvidia_gpu_tools.py")
        sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
        self.double = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.double)
        sys.dont_write_bytecode = kept
        self.double.os = SimpleNamespace(kill=self._kill, getpid=lambda: 1, getppid=lambda: 2)
        self.double.time = SimpleNamespace(sleep=self._sleep)

    @staticmethod
    def _kill(pid: int, _signal: int) -> None:
        if pid == 2:
            raise Killed
        raise SystemExit(-9)

    @staticmethod
    def _sleep(_seconds: float) -> None:
        raise TimeoutError

    def ask(self, args) -> Run:
        out, argv = io.StringIO(), sys.argv
        sys.argv = ["nvidia_gpu_tools.py", *args]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                return Run(self.double.main(), out.getvalue())
        except SystemExit as error:
            return Run(int(error.code or 0), out.getvalue())
        except TimeoutError:
            return Run(-1, out.getvalue(), True)
        except Exception as error:  # noqa: BLE001 - as Python ends a program
            return Run(1, f"{out.getvalue()}Traceback (most recent call last):\ngpu.error.{type(error).__name__}: {error}\n")
        finally:
            sys.argv = argv


def prepared(machine: SoftMachine, mode: str, bench: LocalBench | None = None, **options: Any) -> work.Plan:
    bench = bench or Inside(machine)
    return work.prepare(LocalHost(root=str(machine.root)), bench.ask, bench.holders, bench.load(), work.wish({**OPTIONS, "mode": mode, **options}), 20)


def switched(machine: SoftMachine, mode: str, bench: LocalBench | None = None, **options: Any) -> switch.Outcome:
    bench = bench or Inside(machine)
    with bench.alone():
        return switch.apply(bench, prepared(machine, mode, bench, **options).change)


def refused(machine: SoftMachine, mode: str, bench: LocalBench | None = None, **options: Any) -> HostError:
    """The error of a switch that must fail."""
    try:
        outcome = switched(machine, mode, bench, **options)
    except HostError as error:
        assert error.fix, "every failure says what helps"
        return error
    raise AssertionError(f"it was {outcome.state}")


def record(machine: SoftMachine):
    return LocalBench(str(machine.tool), 20, str(machine.root)).load()
