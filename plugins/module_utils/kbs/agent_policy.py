# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A look at the policy of Kata's agent: what it lets the host ask of a guest without a condition.

A policy that lets containers in has to be made by genpolicy from the pod; this only sees whether one is closed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.kbs import regotext
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError

_WHERE = "policy of the agent"
# Request -> what the host gets with it, if nothing is asked.
OPENS: Dict[str, str] = {
    "AllowRequestsFailingPolicy": "every request that fails is allowed: the policy is off",
    "SetPolicyRequest": "the host replaces this policy",
    "CreateContainerRequest": "the host starts any container, with any command and environment",
    "ExecProcessRequest": "the host runs commands in the containers",
    "CopyFileRequest": "the host writes files into the guest",
    "ReadStreamRequest": "the host reads what the containers print",
    "WriteStreamRequest": "the host writes to the containers' input",
    "UpdateEphemeralMountsRequest": "the host changes mounts of running containers",
    "AddSwapRequest": "the guest's memory goes to a disk of the host",
    "SetGuestDateTimeRequest": "the host sets the guest's clock, and with it what has expired",
}
_DEFAULT = re.compile(r"^\s*default\s+(\w+)\s*:?=\s*(true|false)\s*$", re.MULTILINE)
# X := true, X if true, X { true }, X := true if { true } and so on.
_ALWAYS = re.compile(r"^\s*(\w+)(?:\s*:?=\s*true|(?:\s*:?=\s*true)?(?:\s+if\s+true|(?:\s+if)?\s*\{\s*true\s*\}))\s*$", re.MULTILINE)
_DATA = "policy_data := {"


@dataclass(frozen=True)
class AgentPolicy:
    """``open``: dangerous requests that are allowed without a condition. ``containers``: how many the data lists, None if there is no data."""

    open: Tuple[str, ...]
    allowed: Tuple[str, ...]
    containers: Optional[int]
    images: Tuple[str, ...]

    def to_dict(self) -> Dict[str, Any]:
        return {"open": list(self.open), "allowed": list(self.allowed), "containers": self.containers, "images": list(self.images)}


def look(text: str) -> AgentPolicy:
    """Raises KbsError if it is no policy of the agent's."""
    body, data = _split(text)
    bare, opened = regotext.without_strings(body, _WHERE)
    if opened:
        raise KbsError("%s of line %d is not closed" % opened, where=_WHERE, code="agent-policy")
    package = regotext.PACKAGE.search(bare)
    if package is None or package.group(1) != "agent_policy":
        raise KbsError("it is not of the package agent_policy", where=_WHERE, code="agent-policy")
    allowed = {name for name, value in _DEFAULT.findall(bare) if value == "true"} | set(_ALWAYS.findall(bare))
    containers = None if data is None else data.get("containers", [])
    images: List[str] = []
    for container in containers if isinstance(containers, list) else []:
        try:
            images.append(str(container["OCI"]["Annotations"]["io.kubernetes.cri.image-name"]))
        except (KeyError, TypeError):
            continue
    return AgentPolicy(
        tuple(name for name in OPENS if name in allowed), tuple(sorted(allowed)), len(containers) if isinstance(containers, list) else None,
        tuple(dict.fromkeys(images)),
    )  # fmt: skip


def closed(text: str, allow: Sequence[str] = ()) -> str:
    """The same text, if nothing dangerous is open but what is named. Raises KbsError."""
    found = look(text)
    unknown = sorted(set(allow) - set(OPENS))
    if unknown:
        raise KbsError("%s is none of %s" % (quoted(unknown[0]), ", ".join(OPENS)), where="allow", code="agent-policy")
    bad = [name for name in found.open if name not in allow]
    if bad:
        told = "; ".join("%s: %s" % (name, OPENS[name]) for name in bad)
        raise KbsError("it opens the guest to the host (%s)" % told, where=_WHERE, fix="Make it with genpolicy from the pod, or allow these by name",
                       code="agent-policy-open")
    return text


def _split(text: str) -> Tuple[str, Optional[Dict[str, Any]]]:
    """(rules, data). The attestation service, too, expects the data to be JSON and the last thing in the file."""
    start = text.find(_DATA)
    if start < 0:
        return text, None
    try:
        found = json.loads(text[start + len(_DATA) - 1 :])
    except (ValueError, RecursionError):
        return text, None
    return text[:start], found if isinstance(found, dict) else None
