# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The section gcp of a policy: whether Google's signed launch endorsement of its firmware counts. See docs/clouds.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema

KEYS = ("launch_endorsement", "min_svn")
OFF, ACCEPTED, REQUIRED = "off", "accepted", "required"


@dataclass(frozen=True)
class GcpPolicy:
    """``launch_endorsement``: "off" (it counts for nothing), "accepted" (a measurement that it names is known, it covers the launch),
    "required" (as accepted, and evidence without one is refused). ``min_svn``: least security version number of the firmware."""

    launch_endorsement: str = OFF
    min_svn: int = 0

    def to_dict(self) -> Dict[str, Any]:
        return {name: getattr(self, name) for name in KEYS}


def load_gcp(section: schema.Section, document: str) -> GcpPolicy:
    """Read the section. Raises PolicyError."""
    # YAML 1.1 reads the bare word off as false; there is nothing else that it could mean here.
    off = section.raw("launch_endorsement") is False
    return GcpPolicy(
        launch_endorsement=OFF if off else section.choice("launch_endorsement", OFF, (OFF, ACCEPTED, REQUIRED)),
        min_svn=section.integer("min_svn", 0, 2**32 - 1),
    )
