# SPDX-License-Identifier: GPL-3.0-or-later
"""A platform in a folder: the firmware's variables, and stand-ins for Intel's programs that treat them as those do.

efivars/    the three variables of SGX registration, as efivarfs shows them
PCKIDRetrievalTool, mpa_registration    programs that act on this folder
mpa.log     what the agent writes
keys        what the platform is; another content is another platform
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

STATUS = "SgxRegistrationStatus-f236c5dc-a491-4bbe-bcdd-88885770df45"
REQUEST = "SgxRegistrationServerRequest-304e0796-d515-4698-ac6e-e76cb1a71c28"
CONFIGURATION = "SgxRegistrationConfiguration-18b3bc81-e210-42b9-9ec8-2c5a7d4d89b6"
MANIFEST_GUID = bytes.fromhex("178e874b49e44aa599bb3057170925b4")
ADD_GUID = bytes.fromhex("696519ca73c14785a0f64d289d37e995")
_ATTRIBUTES = (7).to_bytes(4, "little")
AGENT_FLAG = 1


class Platform:
    """``tool`` and ``agent`` name how Intel's programs behave: good, fails, silent (status 0 and nothing written), killed (in the middle, the manifest taken),
    hangs (the same, and it stays: tool.pid has its number)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.efivars = folder / "efivars"

    @classmethod
    def make(cls, folder: Path, keys: str = "first", agent_enabled: bool = False, version: int = 2) -> Platform:
        platform = cls(folder)
        platform.efivars.mkdir(parents=True)
        platform.reset(keys, agent_enabled, version)
        here = Path(__file__).resolve().parent.parent
        for name, act in (("PCKIDRetrievalTool", "tool"), ("mpa_registration", "agent")):
            program = folder / name
            program.write_text(f'#!/bin/sh\nPYTHONPATH={here} exec {sys.executable} -m softpccs.platform {folder} {act} "$@"\n')
            program.chmod(0o755)
        return platform

    def reset(self, keys: str, agent_enabled: bool = False, version: int = 2) -> None:
        """SGX Factory Reset and a boot: new keys, a new manifest."""
        (self.folder / "keys").write_text(keys)
        self.set_agent(agent_enabled)
        self.set_status(False)
        body = self.manifest
        width = 4 if version == 3 else 2
        (self.efivars / REQUEST).write_bytes(_ATTRIBUTES + version.to_bytes(2, "little") + len(body).to_bytes(width, "little") + body)

    def set_agent(self, enabled: bool) -> None:
        url = b"https://api.trustedservices.intel.com:443"
        flags = 0 if enabled else AGENT_FLAG
        body = flags.to_bytes(2, "little") + bytes(32) + len(url).to_bytes(2, "little") + url.ljust(256, b"\0") + bytes(32)
        (self.efivars / CONFIGURATION).write_bytes(_ATTRIBUTES + (1).to_bytes(2, "little") + len(body).to_bytes(2, "little") + body)

    def set_status(self, complete: bool, error: int = 0) -> None:
        (self.efivars / STATUS).write_bytes(_ATTRIBUTES + bytes([1, 0, 3, 0, int(complete), 0, error]))

    def behave(self, program: str, how: str) -> None:
        (self.folder / f"{program}.how").write_text(how)

    @property
    def keys(self) -> str:
        return (self.folder / "keys").read_text()

    @property
    def manifest(self) -> bytes:
        return MANIFEST_GUID + b"".join(hashlib.sha256(f"{self.keys}/{number}".encode()).digest() for number in range(40))

    @property
    def qe_id(self) -> bytes:
        return hashlib.sha256(f"qe-id/{self.keys}".encode()).digest()[:16]

    @property
    def cpu_svn(self) -> bytes:
        extra = self.folder / "tcb"
        return bytes([2] * 8 + [11] + [0] * 6) + bytes([int(extra.read_text()) if extra.exists() else 0])

    @property
    def pending(self) -> bool:
        return (self.efivars / REQUEST).exists() and not (self.efivars / STATUS).read_bytes()[8] & 1

    def boot(self) -> None:
        """A request that is complete is cleared by the firmware."""
        if (self.efivars / REQUEST).exists() and not self.pending:
            (self.efivars / REQUEST).unlink()

    def csv(self, manifest: bytes | None) -> str:
        ppid = b"".join(hashlib.sha256(f"ppid/{self.keys}/{number}".encode()).digest() for number in range(12))
        fields = [ppid.hex(), "0000", self.cpu_svn.hex(), "0d00", self.qe_id.hex()]
        return ",".join(fields + ([manifest.hex()] if manifest is not None else []))


def tool(platform: Platform, how: str, arguments: list[str]) -> int:
    """PCKIDRetrievalTool -f FILE, as App.cpp has it: the file is written, then the status is set, whether anybody kept the file or not."""
    if len(arguments) != 2 or arguments[0] != "-f":
        print("unknown option", file=sys.stderr)
        return 255
    print("\nIntel(R) Software Guard Extensions PCK Cert ID Retrieval Tool Version 1.27.101.1\n")
    if how == "fails":
        print("Failed to load enclave.", file=sys.stderr)
        return 255
    pending = platform.pending
    if not pending:
        print("Warning: platform manifest is not available or current platform is not multi-package platform.")
    text = "" if how == "silent" else platform.csv(platform.manifest if pending else None)
    Path(arguments[1]).write_text(text[: len(text) // 2] if how in ("killed", "hangs") else text)
    if pending:
        platform.set_status(True)
        print("Registration status has been set to completed status.")
    if how == "hangs":
        (platform.folder / "tool.pid").write_text(str(os.getpid()))
        time.sleep(120)
    if how in ("killed", "hangs"):
        return 137
    print(f"{arguments[1]} has been generated successfully!")
    return 0


def agent(platform: Platform, how: str) -> int:
    """mpa_registration: one try, then it ends; the phrases are those of RegistrationService.cpp."""
    lines = ["INFO: SGX Registration Agent version: 1.27.101.1", "INFO: Starts Registration Agent Flow."]
    disabled = (platform.efivars / CONFIGURATION).read_bytes()[8] & AGENT_FLAG
    if not platform.pending:
        lines.append("INFO: Registration Flow - Registration status indicates registration is completed successfully. MPA has nothing to do.")
    elif disabled:
        lines.append('WARN: MPA won\'t perform platform registration because "SGX Auto MP Registration" is disabled in the BIOS.')
    elif how == "fails":
        platform.set_status(False, 0x82)
        lines += ["ERROR: Failed to send request to server, error: 10", "INFO: Registration Flow - PLATFORM_ESTABLISHMENT or TCB_RECOVERY failed."]
    else:
        platform.set_status(True)
        lines.append("INFO: Registration Flow - PLATFORM_ESTABLISHMENT or TCB_RECOVERY passed successfully.")
    lines.append("INFO: Finished Registration Agent Flow.")
    with (platform.folder / "mpa.log").open("a") as log:
        log.writelines(f"[27-11-2026 10:00:01] {line}\n" for line in lines)
    return 0


def main() -> int:
    folder, program, *arguments = sys.argv[1:]
    platform = Platform(Path(folder))
    how = platform.folder / f"{program}.how"
    behaviour = how.read_text() if how.exists() else "good"
    return tool(platform, behaviour, arguments) if program == "tool" else agent(platform, behaviour)


if __name__ == "__main__":
    sys.exit(main())
