# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a user gives: Intel's release archive or its two files. Compared with the digests that the user names, and with this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from typing import Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.cpu import INTEL, Cpu, read_cpu
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host
from ansible_collections.attested.ai.plugins.module_utils.target.probes.tdx_module import tdx_identity
from ansible_collections.attested.ai.plugins.module_utils.target.tdx_esp.sigstruct import MODULE_MAX, SIZE, Signed, read_signed, signature_of

MEMBERS = ("TDX-Module/intel_tdx_module.so", "TDX-Module/intel_tdx_module.so.sigstruct")


def checked(data: bytes, sha256: str, where: str) -> bytes:
    """``data`` if it has that digest. Raises HostError."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise HostError("it has the SHA-256 %s" % found, where=where, fix="Take it from Intel's release again, and compare", code="tdx-module-digest")
    return data


def unpacked(archive: bytes) -> Tuple[bytes, bytes]:
    """Module and sigstruct of Intel's intel_tdx_module.tar.gz. Nothing is written, and nothing but the two members is read. Raises FormatError."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
            found = {}
            for member in tar:
                name = member.name[2:] if member.name.startswith("./") else member.name
                if name not in MEMBERS:
                    continue
                if not member.isfile() or member.size > MODULE_MAX or name in found:
                    raise FormatError("%s is no plain file, too large, or there twice" % name, where="archive", code="tdx-module-form")
                stream = tar.extractfile(member)
                found[name] = b"" if stream is None else stream.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise FormatError("it cannot be unpacked (%s)" % error, where="archive", code="tdx-module-form") from None
    missing = [name for name in MEMBERS if name not in found]
    if missing:
        raise FormatError(
            "it has no %s" % " and no ".join(missing), where="archive", fix="Take intel_tdx_module.tar.gz of Intel's release", code="tdx-module-form"
        )
    return found[MEMBERS[0]], found[MEMBERS[1]]


def judged(host: Host, module: bytes, sigstruct: bytes, allow_older: bool) -> Signed:
    """What the module says of itself, if this CPU can take it. Raises FormatError and HostError."""
    if len(module) > MODULE_MAX or len(sigstruct) > SIZE:
        raise FormatError("it is too large", where="module", code="tdx-module-form")
    signed = read_signed(module, sigstruct)
    cpu = read_cpu(host)
    if not isinstance(cpu, Cpu) or cpu.vendor != INTEL or cpu.family is None or cpu.model is None:
        raise HostError("this is no Intel CPU", where="/proc/cpuinfo", fix="TDX modules are for Intel's CPUs", code="tdx-module-cpu")
    if signature_of(cpu.family, cpu.model) not in signed.cpus:
        name = "module %s" % signed.known.version if signed.known else "this module"
        said = ", ".join(signed.to_dict()["cpus"])
        raise HostError(
            "%s is for CPUs %s, and this one is 0x%x (family %d, model %d)" % (name, said, signature_of(cpu.family, cpu.model), cpu.family, cpu.model),
            where="sigstruct",
            fix="Take the line of modules for this CPU: 1.5 for the 4th and 5th Gen Xeon and Xeon 6 E-core, 2.0 for Xeon 6 P-core",
            code="tdx-module-cpu",
        )  # fmt: skip
    older = _older(host, signed)
    if older and not allow_older:
        raise HostError(
            older, where="sigstruct", fix="Take a newer one, or set allow_older: guests are then attested with the older one", code="tdx-module-older"
        )
    return signed


def _older(host: Host, signed: Signed) -> Optional[str]:
    """Why the module is older than the one that runs; None where it is not, or where that is not known."""
    running = tdx_identity(host.kernel_log())
    if running is None:
        return None
    if "svn" not in running:
        # One that is newer than the table, perhaps. In each line of modules builds are counted upwards.
        if signed.known is None or signed.known.build >= running["build"]:
            return None
        return "its build is %d, that of the running module (%s) is %d" % (signed.known.build, running["version"], running["build"])
    if running["svn"] <= signed.svn:
        return None
    return "its security version is %d, that of the running module (%s) is %d" % (signed.svn, running["version"], running["svn"])
