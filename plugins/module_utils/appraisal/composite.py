# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What several items of evidence must be together: enough of each kind, no device twice, all bound to one guest.

A device's report proves nothing about the guest that holds the device: it answers a nonce, and a nonce can be relayed. The device
reports are collected first, the CPU's evidence then covers them, so that only the measured guest can have presented them.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import KINDS, Policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.result import ItemResult
from ansible_collections.attested.ai.plugins.module_utils.checks import PASS, Check, failed, not_checked, passed

CPU = "cpu"
DEVICE_KINDS = tuple(kind for kind in KINDS if kind != CPU)
REPORT_DATA, NONCE = "report-data-mismatch", "nonce-mismatch"
REQUIRED, BINDING, DUPLICATE, TOPOLOGY = "required-evidence", "device-binding", "duplicate-device", "ppcie-members"
ONE_GUEST = "cpu-evidence"


def kind_of(submod: str) -> str:
    """The kind of an item by the name of its submodule: "cpu0" -> "cpu"."""
    return submod.rstrip("0123456789")


def devices(items: Mapping[str, ItemResult]) -> Dict[str, ItemResult]:
    """The items that are evidence of devices."""
    return {name: item for name, item in items.items() if kind_of(name) in DEVICE_KINDS}


def binds(submod: str, item: ItemResult) -> bool:
    """True if the item is authentic and answers our challenge: report data for a CPU, the nonce for a device."""
    code = REPORT_DATA if kind_of(submod) == CPU else NONCE
    return item.authentic is True and any(check.id == code and check.outcome == PASS for check in item.checks)


def check_composite(items: Mapping[str, ItemResult], policy: Policy, single: bool) -> List[Check]:
    """The checks over all items. ``single`` tells that one bare report was given and not a document of a guest."""
    checks = [_required(items, policy, single), *_one_guest(items)]
    found = devices(items)
    if not found:
        return checks
    checks += [_bound(items, found, single), _distinct(found)]
    if single:
        return checks + [not_checked(TOPOLOGY, "one bare device report: what it is linked to is not known")]
    # Imported on use: most guests have no such device.
    from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_topology import check_topology

    return checks + list(check_topology(found, policy))


def _required(items: Mapping[str, ItemResult], policy: Policy, single: bool) -> Check:
    counted: Dict[str, int] = {kind: 0 for kind in KINDS}
    for name, item in items.items():
        if kind_of(name) in counted:
            counted[kind_of(name)] += item.devices
    wanted = policy.require.to_dict()
    if single and counted[CPU] == 0:
        # What one device says of itself can be judged without a guest; the next check tells that it is bound to none.
        wanted[CPU] = 0
    missing = ["%d of %d %s" % (counted[kind], wanted[kind], kind) for kind in KINDS if counted[kind] < wanted[kind]]
    seen = ", ".join("%d %s" % (counted[kind], kind) for kind in KINDS if counted[kind]) or "nothing"
    if missing:
        return failed(REQUIRED, "the policy requires more evidence than was given (%s): collect that of the devices too (option gpus of "
                      "attest and tee_evidence), or change require" % ", ".join(missing))
    return passed(REQUIRED, "%s, as the policy requires" % seen)


def _one_guest(items: Mapping[str, ItemResult]) -> List[Check]:
    """Several items of the CPU must be different evidence of one machine: a guest runs on one, and nothing counts twice."""
    cpus = [(name, item) for name, item in items.items() if kind_of(name) == CPU]
    if len(cpus) < 2:
        return []
    names, again = ", ".join(name for name, _item in cpus), "collect the evidence of one guest in one task"
    machines, identities = {item.claims.get("machine") for _name, item in cpus}, {item.identity for _name, item in cpus}
    if len(machines) > 1 or None in machines:
        return [failed(ONE_GUEST, "%s do not all name one machine, so they may be of several guests; %s" % (names, again))]
    if len(identities) < len(cpus) or None in identities:
        return [failed(ONE_GUEST, "%s hold the same evidence twice, or some that is not proven; %s" % (names, again))]
    return [passed(ONE_GUEST, "%s are different evidence of one machine" % names)]


def _bound(items: Mapping[str, ItemResult], found: Mapping[str, ItemResult], single: bool) -> Check:
    vouching: Optional[str] = next((name for name, item in items.items() if kind_of(name) == CPU and binds(name, item)), None)
    if vouching is not None:
        return passed(BINDING, "the report data of %s covers the evidence of %d devices" % (vouching, len(found)))
    if single:
        return not_checked(BINDING, "one bare device report: nothing says in which guest the device is, it may have been relayed")
    return failed(BINDING, "no authentic CPU evidence covers the devices, so they may stand in another machine; collect both in one task")


def _distinct(found: Mapping[str, ItemResult]) -> Check:
    owners: Dict[str, str] = {}
    for name, item in found.items():
        device = item.claims.get("device")
        if not isinstance(device, str):
            continue
        # A service's token speaks of several devices and knows them by another number, which reports have, too.
        for known in {device, *("ueid %s" % ueid for ueid in item.claims.get("ueids") or (item.claims.get("ueid"),) if ueid)}:
            if known in owners:
                return failed(DUPLICATE, "%s and %s are the same device (%s); collect the evidence again" % (owners[known], name, known))
            owners[known] = name
    unnamed = [name for name, item in found.items() if not isinstance(item.claims.get("device"), str) and item.authentic is True]
    if unnamed:
        return failed(DUPLICATE, "%s does not say which device it is, so it may be counted twice" % ", ".join(unnamed))
    return passed(DUPLICATE, "%d devices, each once" % len(found))
