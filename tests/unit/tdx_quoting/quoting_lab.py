# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of tdx_registration in one process: the controller's half, the machine's half, and a platform in a folder. It can be killed anywhere."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.attested.ai.plugins.module_utils.target.quoting import steps
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.machine import Machine, Places
from ansible_collections.attested.ai.plugins.plugin_utils.registration_options import ARGUMENT_SPEC
from ansible_collections.attested.ai.plugins.plugin_utils.registration_store import Store
from ansible_collections.attested.ai.plugins.plugin_utils.tdx_registration_task import Registration
from softpccs import qgs
from softpccs.platform import Platform, agent, tool

HOST = "host1.example.org"
USER, ADMIN = "user-token-4711-x", "admin-token-4712-y"


class Killed(Exception):
    """The run has ended; nothing is tidied up."""


class Lab:
    """``killed_at`` is the number of the step (from 0) at which the run ends: before it (``late`` False) or after it took effect."""

    def __init__(self, folder: Path, **platform) -> None:
        self.platform = Platform.make(folder / "platform", **platform)
        self.state, self.directory = folder / "state", folder / "controller"
        self.answers = True
        self.taken: list[str] = []
        self.killed_at, self.late = -1, False

    @property
    def store(self) -> Store:
        return Store(str(self.directory), HOST)

    def machine(self) -> Machine:
        places = Places(
            str(self.platform.efivars),
            str(self.state),
            str(self.platform.folder / "mpa.log"),
            "",
            "vsock:1:4050" if self.answers else "none",
            str(self.platform.folder / "PCKIDRetrievalTool"),
        )

        def run(argv):
            """The stand-in, without a process of its own; the tests of modules run it as a program."""
            if not Path(argv[0]).exists():
                raise FileNotFoundError(2, "No such file or directory")
            how = self.platform.folder / "tool.how"
            return tool(self.platform, how.read_text() if how.exists() else "good", list(argv[1:])), "said something"

        return Machine(places, run, lambda _address, request: qgs.answer(self.platform, request))

    def step(self, name, **arguments):
        number = len(self.taken)
        self.taken.append(name)
        if number == self.killed_at and not self.late:
            raise Killed
        options = {
            "step": name,
            "digest": "",
            "given": None,
            "key": None,
            "content": None,
            "service_url": None,
            "token": None,
            "ca_path": None,
            "proxy": "",
            "validate_certs": True,
            **{key: value for key, value in arguments.items() if value is not None},
        }
        answer = steps.take(self.machine(), options)
        if number == self.killed_at and self.late:
            raise Killed
        return answer

    def bring(self, variant: str, check: bool = False, **given):
        self.taken = []
        options = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        options.update({"variant": variant, "manifest_confirm": HOST, **given})
        registration = Registration(self.step, self.store, options, HOST, lambda line: None, lambda seconds: None)
        return registration.bring(check)

    def run_agent(self) -> None:
        how = self.platform.folder / "agent.how"
        agent(self.platform, how.read_text() if how.exists() else "good")

    def files(self) -> dict[str, int]:
        """All files that were written, with their modes."""
        found = [path for folder in (self.state, self.directory) if folder.exists() for path in folder.rglob("*") if path.is_file()]
        return {str(path.name): path.stat().st_mode & 0o777 for path in found}
