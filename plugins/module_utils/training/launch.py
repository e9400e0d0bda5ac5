# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is this guest the one that was launched for the agreement? Asked of its own evidence, before anything is fetched.

The owners' brokers ask the same. This is for what they cannot see: that what runs here is the agreement they released their keys for.
"""

from __future__ import annotations

import os

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem
from ansible_collections.attested.ai.plugins.module_utils.formats.snp_report import parse_report
from ansible_collections.attested.ai.plugins.module_utils.formats.tdx_quote import parse_quote
from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

_NAMES = {"sev-snp": "HOST_DATA", "tdx": "MRCONFIGID"}


def require_launched_for(agreement: Agreement, own: OwnEvidence) -> str:
    """The kind of TEE. Raises AttestedError, with the code training-launch if the guest was launched for something else."""
    request = own.request._replace(nonce=strict.encode_base64(os.urandom(32)), gpus="none", switches="none", event_log="none")
    item = own.gather(request).items[0]
    found, expected = launch_field(item), agreement.fields()[item.type]
    if found != expected:
        raise TrainingError("this guest has %s %s, one for this agreement has %s" % (_NAMES[item.type], found, expected), where="agreement %s" % agreement.job,
                            fix="Launch a guest with that value, or give the agreement that this one was launched for", code="training-launch")  # fmt: skip
    return item.type


def launch_field(item: EvidenceItem) -> str:
    """The field that is set at launch and measured for nothing else, in hexadecimal. Raises AttestedError."""
    if item.type == "sev-snp":
        return parse_report(item.evidence).host_data.hex()
    if item.type == "tdx":
        return parse_quote(item.evidence).body.mrconfigid.hex()
    raise TrainingError("evidence of %s is not looked into for this yet" % item.type, where="evidence", fix="Take a guest of SEV-SNP or TDX",
                        code="training-tee")
