# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What GPUs and switches must be together: one nonce, one mode, and in protected PCIe one system with all of its switches.

In that mode the links between GPUs are not encrypted, so every switch on them must be attested, too. GPUs name the switches on their
links, switches name themselves and their GPUs, all of it in signed reports. The number of a GPU is in its certificate only; that
the switches mean this number is not documented, it holds on every public capture.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_policy import NvidiaPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import Check, failed, not_checked, passed

GPU, SWITCH = "nvidia-gpu", "nvidia-switch"
PPCIE = "ppcie"
NONCE, MODE, MEMBERS = "device-nonce", "gpu-mode-mixed", "ppcie-members"
LINKS, SWITCHES, PEERS, GPUS = "ppcie-gpu-links", "ppcie-switch-identity", "ppcie-switch-peers", "ppcie-gpu-identity"
_AGAIN = "collect the evidence of all devices of the system in one go"

Claims = Mapping[str, Any]


def check_topology(items: Mapping[str, ItemResult], policy: Policy) -> List[Check]:
    """The checks over all device items, by their submodule names. Tokens of a service do not say where a device hangs; they do not count."""
    gpus = {name: item.claims for name, item in items.items() if item.tee == GPU}
    switches = {name: item.claims for name, item in items.items() if item.tee == SWITCH}
    if not gpus and not switches:
        return []
    checks = [_nonce({**gpus, **switches}), _mode(gpus)]
    if PPCIE not in [claims.get("mode") for claims in gpus.values()] and not switches:
        detail = "no GPU is in protected PCIe mode"
        if any(claims.get("mode") == "mpt" for claims in gpus.values()):
            detail += "; in mode MPT links are encrypted, and the switches between the GPUs are not attested"
        return checks + [not_checked(MEMBERS, detail)]
    if policy.nvidia.topology == "off":
        return checks + [not_checked(MEMBERS, "the policy asks for no topology (nvidia.topology: off), so a device that is not attested may listen")]
    return checks + [
        _members(gpus, switches, policy.nvidia),
        _links(gpus, policy.nvidia),
        _switches(gpus, switches),
        _peers(switches, policy.nvidia),
        _gpus(gpus, switches),
    ]


def _nonce(devices: Mapping[str, Claims]) -> Check:
    nonces = {claims.get("nonce") for claims in devices.values()}
    if len(nonces) == 1 and None not in nonces:
        return passed(NONCE, "%d devices answer one nonce" % len(devices))
    return failed(NONCE, "%d devices answer %d nonces, all must answer one; %s" % (len(devices), len(nonces), _AGAIN))


def _mode(gpus: Mapping[str, Claims]) -> Check:
    modes = {name: claims.get("mode") or "not stated" for name, claims in gpus.items()}
    if len(set(modes.values())) <= 1:
        return passed(MODE, "%d GPUs, mode %s" % (len(gpus), next(iter(modes.values()), "none")))
    return failed(MODE, "the GPUs are in different modes (%s); set one mode on all of them" % _words("%s: %s" % pair for pair in sorted(modes.items())))


def _members(gpus: Mapping[str, Claims], switches: Mapping[str, Claims], policy: NvidiaPolicy) -> Check:
    others = [name for name, claims in gpus.items() if claims.get("mode") != PPCIE]
    if others:
        return failed(MEMBERS, "%s not in protected PCIe mode, but there are switches; set the mode on all of the system" % _words(others))
    text = "%d GPUs and %d switches in protected PCIe mode" % (len(gpus), len(switches))
    if (len(gpus), len(switches)) == (policy.ppcie_gpus, policy.ppcie_switches):
        return passed(MEMBERS, text)
    return failed(MEMBERS, "%s, the system has %d and %d (nvidia.ppcie_gpus, ppcie_switches); %s" % (text, policy.ppcie_gpus, policy.ppcie_switches, _AGAIN))


def _set(claims: Claims, name: str) -> FrozenSet[str]:
    """A list of PDIs as a set; empty if it is not there, if one occurs twice, or is all zeros."""
    value = claims.get(name)
    if not isinstance(value, (list, tuple)) or len(set(value)) != len(value) or any(not str(pdi).strip("0") for pdi in value):
        return frozenset()
    return frozenset(value)


def _common(devices: Mapping[str, Claims], name: str) -> Optional[FrozenSet[str]]:
    """The set that all devices state alike; None if they do not."""
    found = {_set(claims, name) for claims in devices.values()}
    return next(iter(found)) if len(found) == 1 and frozenset() not in found else None


def _links(gpus: Mapping[str, Claims], policy: NvidiaPolicy) -> Check:
    wrong = [name for name, claims in gpus.items() if len(_set(claims, "switch_pdis")) != policy.ppcie_switches]
    if wrong or not gpus:
        return failed(LINKS, "%s not linked to exactly %d switches; %s" % (_words(wrong) or "no GPU", policy.ppcie_switches, _AGAIN))
    if _common(gpus, "switch_pdis") is None:
        return failed(LINKS, "the GPUs are linked to different switches, so they are not of one system; %s" % _AGAIN)
    return passed(LINKS, "every GPU is linked to the same %d switches" % policy.ppcie_switches)


def _switches(gpus: Mapping[str, Claims], switches: Mapping[str, Claims]) -> Check:
    linked = _common(gpus, "switch_pdis")
    if linked is None:
        return not_checked(SWITCHES, "the GPUs do not name one set of switches")
    own: Dict[str, Any] = {name: claims.get("own_pdi") for name, claims in switches.items()}
    strangers = [name for name, pdi in own.items() if pdi not in linked]
    missing = sorted(linked.difference(own.values()))
    if strangers or missing:
        return failed(SWITCHES, "%s not on the GPUs' links, and of these is no report: %s; %s" % (
            _words(strangers) or "no switch is", _words(missing) or "none", _AGAIN
        ))  # fmt: skip
    return passed(SWITCHES, "the switches are the %d on the GPUs' links" % len(linked))


def _peers(switches: Mapping[str, Claims], policy: NvidiaPolicy) -> Check:
    wrong = [name for name, claims in switches.items() if len(_set(claims, "gpu_pdis")) != policy.ppcie_gpus]
    if wrong or not switches:
        return failed(PEERS, "%s not linked to exactly %d GPUs; %s" % (_words(wrong) or "no switch", policy.ppcie_gpus, _AGAIN))
    if _common(switches, "gpu_pdis") is None:
        return failed(PEERS, "the switches are linked to different GPUs, so they are not of one system; %s" % _AGAIN)
    return passed(PEERS, "every switch is linked to the same %d GPUs" % policy.ppcie_gpus)


def _gpus(gpus: Mapping[str, Claims], switches: Mapping[str, Claims]) -> Check:
    named = _common(switches, "gpu_pdis")
    if named is None:
        return not_checked(GPUS, "the switches do not name one set of GPUs")
    own = [claims.get("pdi") for claims in gpus.values()]
    if None in own:
        return not_checked(GPUS, "not every GPU's certificate says its number")
    strangers = [name for name, claims in gpus.items() if claims.get("pdi") not in named]
    missing = sorted(named.difference(str(pdi) for pdi in own))
    if strangers or missing:
        return failed(GPUS, "%s not on the switches' links, and of these is no report: %s; %s" % (
            _words(strangers) or "no GPU is", _words(missing) or "none", _AGAIN
        ))  # fmt: skip
    return passed(GPUS, "the GPUs are the %d on the switches' links" % len(named))


def _words(names: Any) -> str:
    return ", ".join(names)
