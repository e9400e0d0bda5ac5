# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options certificates, crl and collateral of a task: all that the relying party brings to an appraisal."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs


def read_endorsements(options: t.Mapping[str, t.Any], inputs: Inputs) -> Endorsements:
    """Read the files that the options name. Raises AttestedError."""
    given = inputs.endorsements(options["certificates"], options["crl"])
    if not options["collateral"]:
        return given
    # Imported on use: it knows the formats of all vendors.
    from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load
    from ansible_collections.attested.ai.plugins.plugin_utils.public_key import read_public_key

    key = options["collateral_key"]
    return given + load(options["collateral"], inputs.resolve, None if key is None else read_public_key(key, inputs))
