# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evidence of NVIDIA GPUs through NVML (libnvidia-ml), the library that comes with NVIDIA's driver.

Source: NVIDIA's nvml.h as published in NVIDIA/go-nvml: names, structures, and error numbers. What NVML tells besides the
report (driver, VBIOS, mode) is the word of the guest, for people; what counts is in the report.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError

DEFAULT_LIBRARY = "libnvidia-ml.so.1"
NONCE_SIZE = 32
DEVICES_MAX = 64
_TEXT_SIZE = 96
_REPORT_MAX = 0x2000
_CEC_REPORT_MAX = 0x1000
_CERTIFICATES_MAX = 0x1000
_ATTESTATION_CERTIFICATES_MAX = 0x1400
_SETTINGS_VERSION = 1

# nvmlDeviceArchitecture_t. Older ones know no confidential computing.
ARCHITECTURES = {9: "hopper", 10: "blackwell"}
# multiGpuMode of nvmlSystemConfComputeSettings_v1_t.
MULTI_GPU = {0: "none", 1: "ppcie", 2: "nvle"}

_SUCCESS, _NOT_SUPPORTED, _FUNCTION_NOT_FOUND = 0, 3, 13
_AS_ROOT = "Run as root (become: true)"
_DRIVER = "Look for the driver's error in dmesg"
_MATCH = "Install driver, modules and libraries of one version, and reboot"
# nvmlReturn_t -> (what it means, stable code, what to do).
ERRORS: Dict[int, Tuple[str, str, str]] = {
    1: ("NVML was not initialised", "gpu-error", _DRIVER),
    2: ("NVML takes this argument as invalid", "gpu-error", _DRIVER),
    3: ("the GPU or its driver does not support this", "gpu-not-supported", "Switch confidential computing on for this GPU, on the host"),
    4: ("no permission", "no-permission", _AS_ROOT),
    5: ("NVML was initialised already", "gpu-error", _DRIVER),
    6: ("the device was not found", "gpu-not-found", "Look for the GPU with lspci and nvidia-smi"),
    7: ("the answer is larger than its buffer", "gpu-error", "Update this collection"),
    8: ("the GPU's power cables are not attached", "gpu-error", "Attach them"),
    9: ("NVIDIA's driver is not loaded", "gpu-no-driver", "Install the driver, or load the module nvidia"),
    10: ("the GPU did not answer in time", "gpu-timeout", "Try again; if it stays so, reset the GPU"),
    11: ("the kernel found a problem with the GPU's interrupts", "gpu-error", _DRIVER),
    12: ("a library of the driver was not found", "gpu-no-driver", _MATCH),
    13: ("this NVML does not have the function", "gpu-not-supported", "Update the driver: confidential computing needs R535 or later"),
    14: ("the GPU's infoROM is corrupted", "gpu-error", "Take the GPU out of use"),
    15: ("the GPU has fallen off the bus", "gpu-lost", "Reset the GPU or reboot the machine"),
    16: ("the GPU needs a reset", "gpu-reset-required", "Reset the GPU"),
    17: ("the operating system blocks the GPU", "no-permission", "Look at the cgroup's device rules"),
    18: ("the driver's library and its kernel module differ in version", "gpu-version-mismatch", _MATCH),
    19: ("the GPU is in use", "gpu-busy", "Try again later"),
    20: ("not enough memory", "gpu-error", _DRIVER),
    21: ("the GPU has no such data", "gpu-not-supported", _DRIVER),
    22: ("the vGPU operation is not available with ECC", "gpu-not-supported", _DRIVER),
    23: ("a resource of the GPU ran out", "gpu-busy", "Try again later"),
    24: ("the frequency is not supported", "gpu-not-supported", _DRIVER),
    25: ("this NVML knows another version of the structure", "gpu-version-mismatch", "Update the driver, or this collection"),
    26: ("this NVML does not have the function any more", "gpu-not-supported", "Update this collection"),
    27: ("the system is not ready", "gpu-busy", "Wait until nvidia-persistenced runs, then try again"),
    28: ("no GPU was found", "gpu-not-found", "Look for the GPU with lspci and nvidia-smi"),
    29: ("the GPU is not in a state that allows this", "gpu-error", _DRIVER),
    30: ("this kind of reset is not supported", "gpu-not-supported", _DRIVER),
    999: ("the driver failed for a reason that it does not tell", "gpu-error", _DRIVER),
}


class _State(ctypes.Structure):
    _fields_ = [("environment", ctypes.c_uint), ("ccFeature", ctypes.c_uint), ("devToolsMode", ctypes.c_uint)]


class _Settings(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint)] + list(_State._fields_) + [("multiGpuMode", ctypes.c_uint)]


class _Certificate(ctypes.Structure):
    _fields_ = [
        ("certChainSize", ctypes.c_uint),
        ("attestationCertChainSize", ctypes.c_uint),
        ("certChain", ctypes.c_ubyte * _CERTIFICATES_MAX),
        ("attestationCertChain", ctypes.c_ubyte * _ATTESTATION_CERTIFICATES_MAX),
    ]


class _Report(ctypes.Structure):
    _fields_ = [
        ("isCecAttestationReportPresent", ctypes.c_uint),
        ("attestationReportSize", ctypes.c_uint),
        ("cecAttestationReportSize", ctypes.c_uint),
        ("nonce", ctypes.c_ubyte * NONCE_SIZE),
        ("attestationReport", ctypes.c_ubyte * _REPORT_MAX),
        ("cecAttestationReport", ctypes.c_ubyte * _CEC_REPORT_MAX),
    ]


@dataclass(frozen=True)
class ConfidentialState:
    """What the driver says of confidential computing: ``feature`` and ``devtools`` on or off, ``multi_gpu`` one of MULTI_GPU's values,
    None where the driver is too old to tell. In protected PCIe mode ``feature`` is off, which is right."""

    feature: bool
    devtools: bool
    multi_gpu: Optional[str]

    @property
    def on(self) -> bool:
        return self.feature or self.multi_gpu == "ppcie"


@dataclass(frozen=True)
class GpuReport:
    """One GPU: ``report`` is the SPDM request and response, ``certificates`` the PEM chain as given. The rest is the guest's word."""

    index: int
    uuid: str
    architecture: str
    vbios: Optional[str]
    report: bytes
    certificates: bytes


class Nvml:
    """An open NVML. Use it as a context manager. Every failure is a CollectError; ``load`` is there for tests."""

    def __init__(self, library: str = DEFAULT_LIBRARY, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._library = library
        try:
            self._functions = load(library)
        except OSError as error:
            raise CollectError(
                "NVIDIA's library cannot be loaded (%s)" % error, where=library, fix="Install NVIDIA's driver, or correct nvml_library", code="gpu-no-library"
            ) from None

    def __enter__(self) -> Nvml:
        self._call("nvmlInit_v2")
        return self

    def __exit__(self, *details: object) -> None:
        try:
            self._call("nvmlShutdown")
        except CollectError:
            # All that is wanted has been read, or a better error is on its way.
            pass

    def driver_version(self) -> str:
        """For example 580.95.05."""
        return self._text("nvmlSystemGetDriverVersion")

    def confidential_state(self) -> ConfidentialState:
        """The state of confidential computing, from the settings or, with older drivers, without the multi-GPU mode."""
        settings = _Settings(version=ctypes.sizeof(_Settings) | _SETTINGS_VERSION << 24)
        try:
            self._call("nvmlSystemGetConfComputeSettings", ctypes.byref(settings))
        except _NvmlError as error:
            if error.number not in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND):
                raise
        else:
            mode = int(settings.multiGpuMode)
            return ConfidentialState(bool(settings.ccFeature), bool(settings.devToolsMode), MULTI_GPU.get(mode, "unknown (%d)" % mode))
        state = _State()
        self._call("nvmlSystemGetConfComputeState", ctypes.byref(state))
        return ConfidentialState(bool(state.ccFeature), bool(state.devToolsMode), None)

    def reports(self, nonce: bytes) -> List[GpuReport]:
        """A report over ``nonce`` (32 bytes) of every GPU, in NVML's order. Never of some: one that fails fails all."""
        if len(nonce) != NONCE_SIZE:
            raise CollectError("the nonce has %d bytes, %d are needed" % (len(nonce), NONCE_SIZE), code="nonce")
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        if not 0 < count.value <= DEVICES_MAX:
            raise CollectError("NVML knows %d GPUs" % count.value, where=self._library, fix="Look for the GPU with lspci and nvidia-smi", code="gpu-not-found")
        return [self._one(index, nonce) for index in range(count.value)]

    def _one(self, index: int, nonce: bytes) -> GpuReport:
        where = "GPU %d" % index
        device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device), where=where)
        uuid = self._text("nvmlDeviceGetUUID", device, where=where)
        where = "GPU %d (%s)" % (index, uuid)
        number = ctypes.c_uint()
        self._call("nvmlDeviceGetArchitecture", device, ctypes.byref(number), where=where)
        if number.value not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES.values()))
            what = "its architecture (%d) is none of %s" % (number.value, known)
            raise CollectError(what, where=where, fix="Leave it out of the guest", code="gpu-not-supported")
        try:
            vbios: Optional[str] = self._text("nvmlDeviceGetVbiosVersion", device, where=where)
        except CollectError:
            # Only for people; the report has its own.
            vbios = None
        # The report first: what follows must belong to it, and a driver that reloads in between gives other certificates.
        report = self._report(device, nonce, where)
        return GpuReport(index, uuid, ARCHITECTURES[number.value], vbios, report, self._certificates(device, where))

    def _report(self, device: Any, nonce: bytes, where: str) -> bytes:
        answer = _Report()
        ctypes.memmove(answer.nonce, nonce, NONCE_SIZE)
        self._call("nvmlDeviceGetConfComputeGpuAttestationReport", device, ctypes.byref(answer), where=where)
        return _part(answer.attestationReport, answer.attestationReportSize, "report", where)

    def _certificates(self, device: Any, where: str) -> bytes:
        answer = _Certificate()
        self._call("nvmlDeviceGetConfComputeGpuCertificate", device, ctypes.byref(answer), where=where)
        # Some drivers count the zero that ends the text.
        return _part(answer.attestationCertChain, answer.attestationCertChainSize, "certificate chain", where).rstrip(b"\0")

    def _text(self, name: str, *arguments: Any, where: str = "") -> str:
        buffer = ctypes.create_string_buffer(_TEXT_SIZE)
        self._call(name, *arguments + (buffer, ctypes.c_uint(_TEXT_SIZE)), where=where)
        return buffer.value.decode("ascii", "replace")

    def _call(self, name: str, *arguments: Any, where: str = "") -> None:
        try:
            function = getattr(self._functions, name)
        except AttributeError:
            raise _NvmlError(_FUNCTION_NOT_FOUND, name, where or self._library) from None
        number = int(function(*arguments))
        if number != _SUCCESS:
            raise _NvmlError(number, name, where or self._library)


class _NvmlError(CollectError):
    """NVML returned ``number``."""

    def __init__(self, number: int, function: str, where: str) -> None:
        what, code, fix = ERRORS.get(number, ("NVML gave an error that is not known here", "gpu-error", _DRIVER))
        super().__init__("%s (%s: error %d)" % (what, function, number), where=where, fix=fix, code=code)
        self.number = number


def _part(array: Any, size: int, what: str, where: str) -> bytes:
    data = bytes(array)
    if not 0 < size <= len(data):
        raise CollectError("NVML announces a %s of %d bytes, 1 to %d are possible" % (what, size, len(data)), where=where, fix=_DRIVER, code="gpu-error")
    return data[:size]
