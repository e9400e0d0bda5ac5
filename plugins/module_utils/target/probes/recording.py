# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Recordings of machines: what was asked and what was answered, as one JSON document that can be judged elsewhere."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import (
    ABSENT,
    DENIED,
    ERROR,
    Answer,
    Host,
    KernelLog,
    Output,
    Owner,
    Registers,
    Unreadable,
)
from ansible_collections.attested.ai.plugins.module_utils.target.probes.recorded_values import (
    as_bytes,
    as_items,
    as_kept,
    as_number,
    as_octal,
    as_readable,
    kvm_key,
)

SCHEMA = "attested.ai/tee-recording/1"
SECTIONS = ("files", "directories", "exists", "owners", "msr", "cpuid", "sev", "kvm", "commands", "exchanges", "https")
# Only what probes look for is kept of the kernel's log: the rest of it is nobody's business.
LOG_WORDS = (
    "linux version",
    "tdx",
    "sev",
    "sgx",
    "amd-vi",
    "ccp ",
    "rmp",
    "seamcall",
    "encryption",
    "rme:",
    "hibernat",
    "swiotlb",
    "private keyid",
    "cmr:",
    "rmi abi",
    "started at el",
    "default domain type",
)

# Of these files only the lines that are asked for are kept.
BUILTIN = "/modules.builtin"
# Of what libvirt tells of machines only what it says of their protection is kept.
_PROTECTION = re.compile(r"<launchSecurity\b.*?</launchSecurity>|<tdx\b[^>]*>", re.DOTALL)
DOMCAPABILITIES = "domcapabilities"
KVM_HEADER = "/include/uapi/linux/kvm.h"

_NOT_RECORDED = Unreadable(ERROR, "it was not recorded")


class RecordedHost(Host):
    """A machine from its recording. A file that is not in it does not exist; all else that is not in it could not be read."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
            raise FormatError("this is no recording (schema %s)" % SCHEMA, where="recording", fix="Make one with record: true", code="recording-invalid")
        for name in ("kernel", "architecture"):
            if not isinstance(document.get(name), str):
                raise FormatError("it is no text", where="recording.%s" % name, code="recording-invalid")
        for name in SECTIONS:
            if not isinstance(document.get(name, {}), Mapping):
                raise FormatError("it is no object", where="recording.%s" % name, code="recording-invalid")
        self._document = document

    def _answer(self, section: str, key: str, missing: Unreadable) -> Any:
        value = self._document.get(section, {}).get(key, missing)
        if isinstance(value, Mapping) and "unreadable" in value:
            kind = value.get("kind", ERROR)
            return Unreadable(kind if kind in (ABSENT, DENIED, ERROR) else ERROR, str(value["unreadable"]))
        return value

    def kernel(self) -> str:
        return str(self._document["kernel"])

    def architecture(self) -> str:
        return str(self._document["architecture"])

    def read(self, path: str) -> Union[bytes, Unreadable]:
        value = self._answer("files", path, Unreadable(ABSENT, "%s does not exist" % path))
        if isinstance(value, Unreadable):
            return value
        if isinstance(value, Mapping):
            return as_bytes(value.get("hex"), "recording.files[%s]" % path)
        return str(value).encode("utf-8", "replace")

    def listdir(self, path: str) -> Union[Tuple[str, ...], Unreadable]:
        value = self._answer("directories", path, Unreadable(ABSENT, "%s does not exist" % path))
        return value if isinstance(value, Unreadable) else tuple(sorted(str(name) for name in as_items(value, "recording.directories")))

    def exists(self, path: str) -> Union[bool, Unreadable]:
        value = self._answer("exists", path, _NOT_RECORDED)
        if value is _NOT_RECORDED:
            return any(path in self._document.get(section, {}) for section in ("files", "directories"))
        return value if isinstance(value, Unreadable) else bool(value)

    def owner(self, path: str) -> Union[Owner, Unreadable]:
        value = self._answer("owners", path, Unreadable(ABSENT, "%s does not exist" % path))
        if isinstance(value, Unreadable):
            return value
        if not isinstance(value, list) or len(value) != 3:
            raise FormatError("mode, user and group are expected", where="recording.owners", code="recording-invalid")
        return Owner(as_octal(value[0]), str(value[1]), str(value[2]))

    def msr(self, number: int) -> Union[int, Unreadable]:
        value = self._answer("msr", "0x%x" % number, _NOT_RECORDED)
        return value if isinstance(value, Unreadable) else as_number(value, "recording.msr")

    def cpuid(self, leaf: int, subleaf: int = 0) -> Union[Registers, Unreadable]:
        value = self._answer("cpuid", "0x%x/%d" % (leaf, subleaf), _NOT_RECORDED)
        if isinstance(value, Unreadable):
            return value
        numbers = [as_number(item, "recording.cpuid") for item in as_items(value, "recording.cpuid")]
        if len(numbers) != 4:
            raise FormatError("four registers are expected", where="recording.cpuid", code="recording-invalid")
        return numbers[0], numbers[1], numbers[2], numbers[3]

    def sev(self, command: str) -> Union[bytes, Unreadable]:
        value = self._answer("sev", command, Unreadable(ABSENT, "/dev/sev does not exist"))
        return value if isinstance(value, Unreadable) else as_bytes(value, "recording.sev")

    def kvm(self, extension: Optional[int] = None) -> Union[int, Unreadable]:
        value = self._answer("kvm", kvm_key(extension), _NOT_RECORDED)
        return value if isinstance(value, Unreadable) else as_number(value, "recording.kvm")

    def kvm_attribute(self, group: int, attribute: int) -> Union[int, Unreadable]:
        value = self._answer("kvm", "attribute %d/%d" % (group, attribute), _NOT_RECORDED)
        return value if isinstance(value, Unreadable) else as_number(value, "recording.kvm")

    def kernel_log(self) -> Union[KernelLog, Unreadable]:
        log = self._document.get("kernel_log")
        if not isinstance(log, Mapping):
            return _NOT_RECORDED
        if "unreadable" in log:
            return Unreadable(str(log.get("kind", ERROR)), str(log["unreadable"]))
        lines = tuple(str(line) for line in as_items(log.get("lines", []), "recording.kernel_log.lines"))
        return KernelLog(lines, bool(log.get("complete")), str(log.get("source", "recording")))

    def command(self, argv: Sequence[str]) -> Union[Output, Unreadable]:
        value = self._answer("commands", " ".join(argv), Unreadable(ABSENT, "%s does not exist" % argv[0]))
        if isinstance(value, Unreadable):
            return value
        if not isinstance(value, Mapping):
            raise FormatError("it is no object", where="recording.commands", code="recording-invalid")
        return Output(as_number(value.get("rc"), "recording.commands.rc"), str(value.get("out", "")))

    def exchange(self, address: str, data: bytes) -> Union[bytes, Unreadable]:
        value = self._answer("exchanges", address, _NOT_RECORDED)
        return value if isinstance(value, Unreadable) else as_bytes(value, "recording.exchanges")

    def https(self, url: str, verify: bool = True) -> Union[Answer, Unreadable]:
        value = self._answer("https", url, _NOT_RECORDED)
        if isinstance(value, Unreadable):
            return value
        if not isinstance(value, Mapping) or not isinstance(value.get("status"), int):
            raise FormatError("status and body are expected", where="recording.https", code="recording-invalid")
        return Answer(value["status"], as_bytes(value.get("body", ""), "recording.https"))


class Recorder(Host):
    """Passes every question on to ``host`` and keeps the answers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._kept: Dict[str, Dict[str, Any]] = {name: {} for name in SECTIONS}
        self._log: Any = None

    def document(self) -> Dict[str, Any]:
        """What was asked so far, in the form that RecordedHost reads."""
        document: Dict[str, Any] = {"schema": SCHEMA, "kernel": self.kernel(), "architecture": self.architecture()}
        document.update({name: kept for name, kept in self._kept.items() if kept})
        if self._log is not None:
            document["kernel_log"] = self._log
        return document

    def kernel(self) -> str:
        return self._host.kernel()

    def architecture(self) -> str:
        return self._host.architecture()

    def read(self, path: str) -> Union[bytes, Unreadable]:
        answer = self._host.read(path)
        if path == "/proc/cpuinfo" and not isinstance(answer, Unreadable):
            answer = answer.split(b"\n\n", 1)[0]  # the CPUs are alike, and may be hundreds
        elif path.endswith(KVM_HEADER) and not isinstance(answer, Unreadable):
            answer = b"\n".join(line for line in answer.split(b"\n") if b"KVM_CAP_ARM_RM" in line)
        elif path.endswith(BUILTIN) and not isinstance(answer, Unreadable):
            answer = b"\n".join(line for line in answer.split(b"\n") if b"guest" in line)
        self._kept["files"][path] = as_kept(answer) if isinstance(answer, Unreadable) else as_readable(answer)
        return answer

    def listdir(self, path: str) -> Union[Tuple[str, ...], Unreadable]:
        answer = self._host.listdir(path)
        self._kept["directories"][path] = as_kept(answer) if isinstance(answer, Unreadable) else list(answer)
        return answer

    def exists(self, path: str) -> Union[bool, Unreadable]:
        answer = self._host.exists(path)
        self._kept["exists"][path] = as_kept(answer) if isinstance(answer, Unreadable) else answer
        return answer

    def owner(self, path: str) -> Union[Owner, Unreadable]:
        answer = self._host.owner(path)
        self._kept["owners"][path] = as_kept(answer) if isinstance(answer, Unreadable) else ["%04o" % answer.mode, answer.user, answer.group]
        return answer

    def msr(self, number: int) -> Union[int, Unreadable]:
        answer = self._host.msr(number)
        self._kept["msr"]["0x%x" % number] = as_kept(answer) if isinstance(answer, Unreadable) else "0x%x" % answer
        return answer

    def cpuid(self, leaf: int, subleaf: int = 0) -> Union[Registers, Unreadable]:
        answer = self._host.cpuid(leaf, subleaf)
        self._kept["cpuid"]["0x%x/%d" % (leaf, subleaf)] = as_kept(answer) if isinstance(answer, Unreadable) else ["0x%x" % value for value in answer]
        return answer

    def sev(self, command: str) -> Union[bytes, Unreadable]:
        answer = self._host.sev(command)
        self._kept["sev"][command] = as_kept(answer) if isinstance(answer, Unreadable) else answer.hex()
        return answer

    def kvm(self, extension: Optional[int] = None) -> Union[int, Unreadable]:
        answer = self._host.kvm(extension)
        self._kept["kvm"][kvm_key(extension)] = as_kept(answer) if isinstance(answer, Unreadable) else answer
        return answer

    def kvm_attribute(self, group: int, attribute: int) -> Union[int, Unreadable]:
        answer = self._host.kvm_attribute(group, attribute)
        self._kept["kvm"]["attribute %d/%d" % (group, attribute)] = as_kept(answer) if isinstance(answer, Unreadable) else answer
        return answer

    def kernel_log(self) -> Union[KernelLog, Unreadable]:
        answer = self._host.kernel_log()
        if isinstance(answer, Unreadable):
            self._log = as_kept(answer)
        else:
            lines = [line for line in answer.lines if any(word in line.lower() for word in LOG_WORDS)]
            self._log = {"lines": lines, "complete": answer.complete, "source": answer.source}
        return answer

    def command(self, argv: Sequence[str]) -> Union[Output, Unreadable]:
        answer = self._host.command(argv)
        self._kept["commands"][" ".join(argv)] = as_kept(answer) if isinstance(answer, Unreadable) else {"rc": answer.rc, "out": _shortened(argv, answer.out)}
        return answer

    def exchange(self, address: str, data: bytes) -> Union[bytes, Unreadable]:
        answer = self._host.exchange(address, data)
        self._kept["exchanges"][address] = as_kept(answer) if isinstance(answer, Unreadable) else answer.hex()
        return answer

    def https(self, url: str, verify: bool = True) -> Union[Answer, Unreadable]:
        answer = self._host.https(url, verify)
        self._kept["https"][url] = as_kept(answer) if isinstance(answer, Unreadable) else {"status": answer.status, "body": answer.body.hex()}
        return answer


def _shortened(argv: Sequence[str], out: str) -> str:
    return "\n".join(_PROTECTION.findall(out)) if DOMCAPABILITIES in argv else out
