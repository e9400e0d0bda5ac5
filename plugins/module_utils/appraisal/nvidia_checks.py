# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a policy asks of an NVIDIA device, one stable check each. The report is taken as authentic: verify/nvidia.py says whether it is.

Every detail names what was seen and what was expected, and on failure what to do next.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_policy import NvidiaPolicy
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed
from ansible_collections.attested.ai.plugins.module_utils.verify.nvidia import SWITCH, NvidiaClaims


def check_policy(claims: NvidiaClaims, policy: NvidiaPolicy) -> List[Check]:
    """All checks of the policy over one device, most telling first."""
    checks = [_architecture(claims, policy), _device(claims, policy)]
    if claims.kind == SWITCH:
        return checks + [
            _identity(claims),
            _floor("policy-switch-bios-floor", "switch BIOS", claims.opaque.vbios, policy.min_switch_bios, 16, "min_switch_bios"),
            _listed("policy-switch-bios", "switch BIOS", claims.opaque.vbios, policy.switch_bios, "switch_bios"),
        ]
    return checks + [
        _mode(claims, policy),
        _floor("policy-driver-floor", "driver", claims.opaque.driver_version, policy.min_driver, 10, "min_driver"),
        _listed("policy-driver", "driver", claims.opaque.driver_version, policy.drivers, "drivers"),
        _vbios_floor(claims, policy),
        _listed("policy-vbios", "VBIOS", claims.opaque.vbios, policy.vbios, "vbios"),
        _svn(claims, policy),
        _nvle(claims, policy),
    ]


def _architecture(claims: NvidiaClaims, policy: NvidiaPolicy) -> Check:
    code, allowed = "policy-architecture", ", ".join(policy.architectures)
    text = "the device is a %s (%s), allowed are %s" % (claims.chip, claims.architecture, allowed)
    if claims.architecture in policy.architectures:
        return passed(code, text)
    return failed(code, text + "; add it to nvidia.architectures to accept it")


def _device(claims: NvidiaClaims, policy: NvidiaPolicy) -> Check:
    code, device = "device-not-allowed", claims.device
    if device in policy.devices.deny:
        return failed(code, "device %s is on nvidia.devices.deny" % device)
    if not policy.devices.allow:
        return passed(code, "any device is accepted; pin yours with nvidia.devices.allow: [%s]" % device)
    if device in policy.devices.allow:
        return passed(code, "device %s is on nvidia.devices.allow" % device)
    return failed(code, "device %s is not on nvidia.devices.allow; add its digest if it is yours" % device)


def _identity(claims: NvidiaClaims) -> Check:
    """A switch says its own number in the report, and its certificate says it, too: seen on every public capture."""
    code = "switch-identity"
    own, certified = claims.opaque.own_pdi, claims.pdi
    if own is None:
        return failed(code, "the report does not say the switch's own PDI; collect it with the library that belongs to the driver")
    if certified is None:
        return not_checked(code, "the certificate does not say the PDI, the report says %s" % own.hex())
    if own == certified:
        return passed(code, "report and certificate say the PDI %s" % own.hex())
    return failed(code, "the report says the PDI %s, the certificate %s; collect the evidence again" % (own.hex(), certified.hex()))


def _mode(claims: NvidiaClaims, policy: NvidiaPolicy) -> Check:
    code = "policy-mode"
    if claims.mode_offence:
        return failed(code, "%s; genuine firmware never says so, collect the evidence again" % claims.mode_offence)
    if claims.mode is None:
        if policy.allow_unstated_mode:
            return passed(code, "the report does not state the mode, and the policy allows it")
        return failed(code, "the report states neither feature flag nor protected PCIe; use a driver that does, or set nvidia.allow_unstated_mode")
    text = "the GPU is in mode %s, allowed are %s" % (claims.mode, ", ".join(policy.modes))
    return passed(code, text) if claims.mode in policy.modes else failed(code, text + "; set the mode on the host, or add it to nvidia.modes")


def _number(version: str, base: int) -> Tuple[int, ...]:
    return tuple([int(part, base) for part in version.split(".")])


def _floor(code: str, what: str, seen: Optional[str], least: Optional[str], base: int, key: str) -> Check:
    if least is None:
        return not_checked(code, "no least %s is asked for (nvidia.%s), it is %s" % (what, key, seen))
    if seen is not None and _number(seen, base) >= _number(least, base):
        return passed(code, "%s %s, at least %s" % (what, seen, least))
    return failed(code, "%s %s, the policy asks for at least %s; update it" % (what, seen or "not stated", least))


def _vbios_floor(claims: NvidiaClaims, policy: NvidiaPolicy) -> Check:
    floors = dict(policy.min_vbios)
    if floors and claims.chip not in floors:
        return failed("policy-vbios-floor", "nvidia.min_vbios has no version for %s; add one" % claims.chip)
    return _floor("policy-vbios-floor", "VBIOS", claims.opaque.vbios, floors.get(claims.chip or ""), 16, "min_vbios")


def _listed(code: str, what: str, seen: Optional[str], allowed: Optional[Sequence[str]], key: str) -> Check:
    if allowed is None:
        return not_checked(code, "any %s is accepted, it is %s; its manifest says what must run" % (what, seen))
    text = "%s %s, allowed are %s" % (what, seen or "not stated", ", ".join(allowed))
    return passed(code, text) if seen in allowed else failed(code, text + "; add it to nvidia.%s to accept it" % key)


def _svn(claims: NvidiaClaims, policy: NvidiaPolicy) -> Check:
    code, seen = "policy-fsp-svn", claims.opaque.fsp_svn
    if not policy.min_fsp_svn:
        return not_checked(code, "no least SVN of the FSP is asked for (nvidia.min_fsp_svn), it is %s" % ("not stated" if seen is None else seen))
    if seen is not None and seen >= policy.min_fsp_svn:
        return passed(code, "SVN %d of the FSP, at least %d" % (seen, policy.min_fsp_svn))
    text = "not stated" if seen is None else str(seen)
    return failed(code, "SVN %s of the FSP, the policy asks for at least %d; update the firmware" % (text, policy.min_fsp_svn))


def _nvle(claims: NvidiaClaims, policy: NvidiaPolicy) -> Check:
    code, seen = "policy-nvle", claims.nvle_status
    if policy.nvle_status is None:
        return not_checked(code, "nothing is asked of NVLink encryption, its status is %s" % (seen or "not stated"))
    text = "the status of NVLink encryption is %s, allowed are %s" % (seen or "not stated", ", ".join(policy.nvle_status))
    return passed(code, text) if seen in policy.nvle_status else failed(code, text + "; add it to nvidia.nvle_status to accept it")
