# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The network as the KBS clients see it. Standard library only, for guests use it too."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.service import LOOPBACK, Answer, Patience, Service, Transport, make_transport, patient

__all__ = ["LOOPBACK", "Answer", "Patience", "Server", "Transport", "make_transport", "patient"]


@dataclass(frozen=True)
class Server(Service):
    """Where a KBS is, and how it proves that it is the one: see Service."""

    name = "KBS"
    codes = "kbs"
    error = KbsError
    example = "https://kbs.example.org:8080"
    at_stake = "the admin token and what is stored"
