# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evidence of NVSwitches through NSCQ (libnvidia-nscq), for guests in protected PCIe mode that own the switches.

Source: NVIDIA's nscq.h, version 2, and its use in NVIDIA/attestation-sdk: types, paths and result codes. NSCQ answers through
callbacks, which get their values by value. A callback must not raise: what it saw is looked at afterwards.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError

DEFAULT_LIBRARY = "libnvidia-nscq.so.2"
NONCE_SIZE = 32
SWITCHES_MAX = 64
ARCHITECTURES = {2: "ls10"}
_LABEL_SIZE = 64
_REPORT_MAX = 0x2000
_CERTIFICATES_MAX = 0x1400
_MOUNT_DEVICES = 1
_UUIDS, _ARCHITECTURE = b"/drv/nvswitch/{device}/uuid", b"/{nvswitch}/id/arch"
_CERTIFICATE, _REPORT = b"/config/certificate", b"/config/attestation_report"
_MATCH = "Install libnvidia-nscq in the version of the driver, and look for the driver's error in dmesg"
# nscq_rc_t -> (what it means, stable code). 1 to 127 are warnings.
ERRORS: Dict[int, Tuple[str, str]] = {
    -1: ("this is not implemented", "switch-not-supported"),
    -2: ("the switch is not known", "switch-not-found"),
    -3: ("the switch cannot be opened", "no-permission"),
    -4: ("the answer is larger than its buffer", "switch-error"),
    -5: ("a value was not expected", "switch-error"),
    -6: ("the driver's version is not supported", "switch-version-mismatch"),
    -7: ("the driver failed", "switch-error"),
    -8: ("the switch did not answer in time", "switch-timeout"),
    -127: ("something outside of the library failed", "switch-error"),
    -128: ("it failed for a reason that it does not tell", "switch-error"),
}


class _Uuid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 16)]


class _Label(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char * _LABEL_SIZE)]


class _ReportValue(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("data", ctypes.c_ubyte * _REPORT_MAX)]


class _CertificateValue(ctypes.Structure):
    _fields_ = [("data", ctypes.c_ubyte * _CERTIFICATES_MAX), ("size", ctypes.c_uint32)]


class _SessionResult(ctypes.Structure):
    _fields_ = [("rc", ctypes.c_int8), ("session", ctypes.c_void_p)]


_UuidPointer = ctypes.POINTER(_Uuid)
_UUID_CALLBACK = ctypes.CFUNCTYPE(None, _UuidPointer, ctypes.c_int8, _UuidPointer, ctypes.c_void_p)
_NUMBER_CALLBACK = ctypes.CFUNCTYPE(None, _UuidPointer, ctypes.c_int8, ctypes.c_int8, ctypes.c_void_p)
_REPORT_CALLBACK = ctypes.CFUNCTYPE(None, _UuidPointer, ctypes.c_int8, _ReportValue, ctypes.c_void_p)
_CERTIFICATE_CALLBACK = ctypes.CFUNCTYPE(None, _UuidPointer, ctypes.c_int8, _CertificateValue, ctypes.c_void_p)


@dataclass(frozen=True)
class SwitchReport:
    """One switch: ``report`` is the SPDM request and response, ``certificates`` the PEM chain as given."""

    index: int
    uuid: str
    architecture: str
    report: bytes
    certificates: bytes


class Nscq:
    """An open NSCQ session. Use it as a context manager. Every failure is a CollectError; ``load`` is there for tests."""

    def __init__(self, library: str = DEFAULT_LIBRARY, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._library = library
        self._session = ctypes.c_void_p()
        try:
            self._functions = load(library)
            self._prepare()
        except (OSError, AttributeError) as error:
            raise CollectError(
                "NVIDIA's library for switches cannot be loaded (%s)" % error, where=library,
                fix="Install libnvidia-nscq, or correct nscq_library", code="switch-no-library",
            ) from None  # fmt: skip

    def _prepare(self) -> None:
        functions = self._functions
        functions.nscq_session_create.restype = _SessionResult
        functions.nscq_session_create.argtypes = [ctypes.c_uint32]
        functions.nscq_session_destroy.restype = None
        functions.nscq_session_destroy.argtypes = [ctypes.c_void_p]
        functions.nscq_session_set_input.restype = ctypes.c_int8
        functions.nscq_session_set_input.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32]
        functions.nscq_session_path_observe.restype = ctypes.c_int8
        # The callbacks differ in type; ctypes keeps what it needs alive for the call.
        functions.nscq_session_path_observe.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
        functions.nscq_uuid_to_label.restype = ctypes.c_int8
        functions.nscq_uuid_to_label.argtypes = [_UuidPointer, ctypes.POINTER(_Label), ctypes.c_uint32]

    def __enter__(self) -> Nscq:
        result = self._functions.nscq_session_create(_MOUNT_DEVICES)
        self._check(int(result.rc), "nscq_session_create", self._library)
        if not result.session:
            raise CollectError("NSCQ gave no session", where=self._library, fix=_MATCH, code="switch-error")
        self._session = ctypes.c_void_p(result.session)
        return self

    def __exit__(self, *details: object) -> None:
        self._functions.nscq_session_destroy(self._session)
        self._session = ctypes.c_void_p()

    def reports(self, nonce: bytes) -> List[SwitchReport]:
        """A report over ``nonce`` (32 bytes) of every switch, in NSCQ's order; empty if there is none. One that fails fails all."""
        if len(nonce) != NONCE_SIZE:
            raise CollectError("the nonce has %d bytes, %d are needed" % (len(nonce), NONCE_SIZE), code="nonce")
        uuids = [label for _device, label in self._observe(_UUIDS, _UUID_CALLBACK, self._label, "the switches")]
        if len(uuids) > SWITCHES_MAX:
            raise CollectError("NSCQ knows %d switches" % len(uuids), where=self._library, fix=_MATCH, code="switch-error")
        kinds = dict(self._observe(_ARCHITECTURE, _NUMBER_CALLBACK, int, "the switches")) if uuids else {}
        buffer = ctypes.create_string_buffer(nonce, NONCE_SIZE)
        return [self._one(index, uuid, kinds.get(uuid, -1), buffer) for index, uuid in enumerate(uuids)]

    def _one(self, index: int, uuid: str, number: int, nonce: Any) -> SwitchReport:
        where = "switch %d (%s)" % (index, uuid)
        if number not in ARCHITECTURES:
            raise CollectError("its architecture (%d) gives no evidence" % number, where=where, fix="Leave it out of the guest", code="switch-not-supported")
        # Set anew for each: whether one input serves several reports is not documented.
        self._check(int(self._functions.nscq_session_set_input(self._session, 0, nonce, NONCE_SIZE)), "nscq_session_set_input", where)
        report = self._blob(uuid, _REPORT, _REPORT_CALLBACK, where)
        return SwitchReport(index, uuid, ARCHITECTURES[number], report, self._blob(uuid, _CERTIFICATE, _CERTIFICATE_CALLBACK, where).rstrip(b"\0"))

    def _blob(self, uuid: str, path: bytes, kind: Any, where: str) -> bytes:
        found = self._observe(b"/" + uuid.encode("ascii") + path, kind, lambda value: (bytes(value.data), int(value.size)), where)
        if len(found) != 1:
            raise CollectError("NSCQ gave %d answers, one was expected" % len(found), where=where, fix=_MATCH, code="switch-error")
        data: bytes = found[0][1][0]
        size: int = found[0][1][1]
        if not 0 < size <= len(data):
            raise CollectError("NSCQ announces %d bytes, 1 to %d are possible" % (size, len(data)), where=where, fix=_MATCH, code="switch-error")
        return data[:size]

    def _observe(self, path: bytes, kind: Any, read: Callable[[Any], Any], where: str) -> List[Tuple[str, Any]]:
        """(label of the switch, value) of every answer at ``path``."""
        found: List[Tuple[str, Any]] = []
        failures: List[int] = []

        def answer(device: Any, status: int, value: Any, _data: Any) -> None:
            try:
                if status < 0:
                    failures.append(status)
                else:
                    # Copied here: the value lasts no longer than the callback.
                    found.append((self._label(device), read(value)))
            except (CollectError, ValueError):
                # Exceptions end at the boundary to C, where nobody would see them.
                failures.append(-128)

        callback = kind(answer)
        status = int(self._functions.nscq_session_path_observe(self._session, path, ctypes.cast(callback, ctypes.c_void_p), None, 0))
        self._check(status, "nscq_session_path_observe", where)
        if failures:
            self._check(failures[0], path.decode("ascii"), where)
        return found

    def _label(self, uuid: Any) -> str:
        label = _Label()
        self._check(int(self._functions.nscq_uuid_to_label(uuid, ctypes.byref(label), 0)), "nscq_uuid_to_label", self._library)
        text: str = label.data.decode("ascii", "replace")
        if not text or not all(character.isalnum() or character == "-" for character in text) or not text.isascii():
            raise CollectError("the label %s of a switch is none" % ascii(text), where=self._library, fix=_MATCH, code="switch-error")
        return text

    def _check(self, status: int, function: str, where: str) -> None:
        if status < 0:
            what, code = ERRORS.get(status, ("NSCQ gave an error that is not known here", "switch-error"))
            raise CollectError("%s (%s: error %d)" % (what, function, status), where=where, fix=_MATCH, code=code)
