# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A resource of the key broker, as a pod gets it: from the guest's own data hub (CDH of Confidential Containers), which attests for it."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.service import Service, make_transport

ADDRESS = "http://127.0.0.1:8006/cdh/resource"


@dataclass(frozen=True)
class Hub(Service):
    """Where it answers. Only inside of the guest: it speaks HTTP, and what it answers with is in the clear."""

    name = "data hub"
    codes = "hub"
    error = KbsError
    example = ADDRESS
    at_stake = "the key"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.allow_http or self.parts[1] not in ("localhost", "127.0.0.1", "::1"):
            raise self.fault("it is not in this guest", "url", fix="Use %s" % ADDRESS)


def fetch(hub: Hub, resource: Resource) -> bytes:
    """Raises KbsError. The hub tells nearly nothing of why it refuses: what it got from the broker is in its log alone."""
    answer = make_transport(hub)("GET", "/" + resource.path, None, {})
    if answer.status == 200:
        if not answer.body:
            raise hub.fault("its answer for %s is empty" % resource.path, "answer")
        return answer.body
    if answer.status == 404:
        raise hub.fault("it does not know the address of resources", "path",
                        fix="Compare ATTESTED_CDH_URL; resources have to be on (agent.guest_components_rest_api)")
    raise hub.fault("it does not give out %s (status %d): the broker cannot be reached, does not accept the evidence, its policy refuses, or there is no "
                    "such resource" % (resource.path, answer.status), "denied", fix="The logs of the guest's attestation agent and of the broker tell which")
