# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The platform that this runs on: what it says of its registration, and the steps of it that only the machine itself can take.

A manifest goes back to the controller blinded by a key that is used once: Ansible prints what a module returns when it is told to be verbose enough.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import decision, efivars, mpa_log, pckid, qgs_client, qgs_conf, qgs_protocol, record

TOOL = "/opt/intel/sgx-pck-id-retrieval-tool/PCKIDRetrievalTool"
_FILE_MAX = 1 << 20
_LOG_END = 64 << 10
_KEPT = re.compile(r"manifest-([0-9a-f]{64})\.bin\Z")

# Runs a program: status and all that it printed. Raises OSError where there is none.
Runner = Callable[[Sequence[str]], Tuple[int, str]]


@dataclass(frozen=True)
class Places:
    """``qgs`` is auto (as in ``qgs_conf``), none (QGS is not asked) or an address."""

    efivars: str = efivars.FOLDER
    state: str = "/var/lib/attested-ai/tdx-registration"
    log: str = "/var/log/mpa_registration.log"
    qgs_conf: str = "/etc/qgs.conf"
    qgs: str = "auto"
    tool: str = TOOL

    def variable(self, path: str) -> str:
        return os.path.join(self.efivars, os.path.basename(path))

    @property
    def record(self) -> str:
        return os.path.join(self.state, "record.json")

    def manifest(self, digest: str) -> str:
        return os.path.join(self.state, "manifest-%s.bin" % digest)

    @property
    def csv(self) -> str:
        return os.path.join(self.state, "pckid.csv")


class Machine:
    def __init__(self, places: Places, run: Runner, ask: Callable[[str, bytes], bytes] = qgs_client.exchange) -> None:
        self._places, self._run, self._ask = places, run, ask

    def look(self) -> decision.Found:
        identity = self.identity()
        log = self._read(self._places.log, _LOG_END, from_end=True)
        said = mpa_log.last_run((log or b"").decode("utf-8", "replace"))
        state, problem, manifest = self._state()
        return decision.Found(state, problem, self._agent(), manifest, said, identity, self.kept())

    def record(self) -> Optional[record.Record]:
        data = self._read(self._places.record)
        return None if data is None else record.parse(data.decode("utf-8", "replace"), self._places.record)

    def identity(self) -> Dict[str, str]:
        """What QGS tells of the platform; nothing where it is not there or does not answer: the verification says why."""
        address = self._places.qgs
        try:
            if address == "auto":
                text = self._read(self._places.qgs_conf)
                address = "none" if text is None else qgs_client.address_of(qgs_conf.parse(text.decode("utf-8", "replace")))
            if address == "none":
                return {}
            return qgs_protocol.parse_platform_info(self._ask(address, qgs_protocol.platform_info_request())).to_dict()
        except (OSError, FormatError):
            return {}

    def kept(self) -> Tuple[str, ...]:
        """The digests of the manifests that are on the disk, and whole."""
        named = sorted(match.group(1) for match in map(_KEPT.match, self._names()) if match)
        return tuple(digest for digest in named if self._kept(digest) is not None)

    def keep_manifest(self, digest: str, given: Optional[bytes] = None) -> bytes:
        """The manifest with this digest: the kept one, else what waits in the firmware, else what was given. It is on the disk when this returns."""
        data, path = self._kept(digest), self._places.manifest(digest)
        if data is not None:
            return data
        waiting = self._request()
        for found in (waiting.data if waiting else None, given):
            if found is not None and pckid.digest(found) == digest:
                self._write(path, found)
                return found
        raise HostError("the manifest %s... is neither kept here nor offered by the firmware" % digest[:16], where=path, code="manifest-missing")

    def write_record(self, text: str) -> None:
        record.parse(text, "the record to be written")
        self._write(self._places.record, text.encode("utf-8"))

    def collect(self, manifest: str) -> bytes:
        """Run PCKIDRetrievalTool, which takes the manifest from the firmware if it waits; its line, kept on the disk. The manifest must be kept already."""
        waiting = self._request()
        if waiting is not None and self._kept(waiting.digest) is None:
            raise HostError("the manifest that waits is not kept yet", where=self._places.state, code="manifest-unsaved")
        self._refuse_upload()
        scratch = self._places.csv + ".new"
        with suppress(FileNotFoundError):
            os.unlink(scratch)
        try:
            status, said = self._run([self._places.tool, "-f", scratch])
        except OSError as error:
            raise HostError(
                "it cannot be run (%s)" % error.strerror, where=self._places.tool, fix="Install sgx-pck-id-retrieval-tool", code="tool-missing"
            ) from None
        data = self._read(scratch)
        if status != 0 or not data:
            end = " ".join(said.split())[-300:]
            raise HostError("it ended with status %d: %s" % (status, end or "it said nothing"), where=self._places.tool,
                            fix="See /dev/sgx_enclave and /dev/sgx_provision. The manifest is kept", code="tool-failed")  # fmt: skip
        found = pckid.parse(data, scratch)
        if found.manifest is not None and pckid.digest(found.manifest) != manifest:
            raise HostError("the tool's manifest is another than the one that was saved", where=scratch, fix="Keep this file, and look what ran beside",
                            code="manifest-differs")  # fmt: skip
        self._write(self._places.csv, data)
        os.unlink(scratch)
        return data

    def platform(self, manifest: str) -> Dict[str, str]:
        """The entry for a PCCS. Raises HostError if it was not collected."""
        data = self._read(self._places.csv)
        if data is None:
            raise HostError("it is missing", where=self._places.csv, fix="Run the task again", code="tool-failed")
        return pckid.parse(data, self._places.csv).platform(self.keep_manifest(manifest) if manifest else None)

    def _kept(self, digest: str) -> Optional[bytes]:
        data = self._read(self._places.manifest(digest))
        return data if data is not None and pckid.digest(data) == digest else None

    def _state(self) -> Tuple[str, str, str]:
        data = self._read(self._places.variable(efivars.STATUS))
        if data is None:
            return decision.UNSUPPORTED, "the firmware has no variable SgxRegistrationStatus", ""
        status, waiting = efivars.parse_status(data), self._request()
        if status.complete and not status.error:
            # Some firmware keeps the request until the next boot. Whoever set the bit has it.
            return decision.COMPLETE, "", ""
        if status.complete or 0 < status.error < 0x80:
            return decision.FAILED, status.problem, ""
        if waiting is None:
            return decision.MISSING, status.problem, ""
        return (decision.PENDING, status.problem, waiting.digest) if waiting.kind == efivars.MANIFEST else (decision.ADD_PACKAGE, "", "")

    def _agent(self) -> Optional[bool]:
        data = self._read(self._places.variable(efivars.CONFIGURATION))
        return None if data is None else efivars.parse_agent_enabled(data)

    def _request(self) -> Optional[efivars.Request]:
        data = self._read(self._places.variable(efivars.REQUEST))
        return None if data is None else efivars.parse_request(data)

    def _refuse_upload(self) -> None:
        """Told an address, the tool would send by itself, ask a terminal for the token, and wait for ever where there is none."""
        path = os.path.join(os.path.dirname(os.path.realpath(self._places.tool)), "network_setting.conf")
        text = (self._read(path) or b"").decode("utf-8", "replace")
        if re.search(r"^\s*PCCS_URL\s*=\s*\S", text, re.MULTILINE | re.IGNORECASE):
            raise HostError("PCCS_URL is set in it", where=path, fix="Comment it out: this collection delivers by itself, after the manifest is saved",
                            code="tool-uploads")  # fmt: skip

    def _names(self) -> Sequence[str]:
        try:
            return os.listdir(self._places.state)
        except OSError:
            return ()

    def _read(self, path: str, limit: int = _FILE_MAX, from_end: bool = False) -> Optional[bytes]:
        try:
            with open(path, "rb") as stream:
                if from_end:
                    stream.seek(max(0, os.fstat(stream.fileno()).st_size - limit))
                return stream.read(limit)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HostError("it cannot be read (%s)" % error.strerror, where=path, fix="Run the task as root (become: true)", code="host") from None

    def _write(self, path: str, data: bytes) -> None:
        try:
            os.makedirs(self._places.state, mode=0o700, exist_ok=True)
            os.chmod(self._places.state, 0o700)
            replace_file(path, data)
        except OSError as error:
            raise HostError("it cannot be written (%s)" % error.strerror, where=path, fix="Run the task as root (become: true)", code="host") from None


def blinded(data: bytes, key: bytes) -> bytes:
    """``data`` under a key stream; the same again gives it back. A key is for one piece of data only."""
    stream = hashlib.shake_256(key).digest(len(data))
    return bytes(left ^ right for left, right in zip(data, stream))


def found_to_dict(found: decision.Found) -> Dict[str, Any]:
    return {
        "state": found.state,
        "problem": found.problem,
        "agent": found.agent,
        "manifest": found.manifest,
        "log": found.log.to_dict(),
        "identity": dict(found.identity),
        "saved": list(found.saved),
    }
