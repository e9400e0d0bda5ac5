#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: key_ledger
short_description: Verify the ledger of key releases and read it
version_added: 0.1.0
description:
  - Checks every line of a ledger that M(attested.ai.model_release) wrote. Signatures, the chain of hashes and the signed head must hold. Then returns the
    entries. Runs on the controller and changes nothing.
  - Fails if a line was changed, removed, doubled or moved, if the tail was cut off or torn, or if another key signed.
  - Whoever can replace ledger and head together by an older pair can roll both back. Keep RV(head) elsewhere and give it as O(known_head) to see that.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: Nothing is changed, so it verifies in check mode too.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: full
requirements:
  - cryptography >= 38 on the controller
options:
  path:
    description: Path of the ledger. The signed head is beside it, with C(.head) added.
    type: path
    required: true
  public_key:
    description: The public key of the ledger's signer, as JWK (a dictionary) or as the path of a file with a JWK or a PEM public key.
    type: raw
    required: true
  model_id:
    description: Return only the entries of this model. All are verified.
    type: str
  known_head:
    description: RV(head) of an earlier run. Fails if the ledger does not hold this entry any more.
    type: str
    default: ""
seealso:
  - module: attested.ai.model_release
"""

EXAMPLES = r"""
- name: Verify the ledger
  attested.ai.key_ledger:
    path: keys/ledger.jsonl
    public_key: keys/ledger.pub.pem
  register: ledger

- name: Show which evidence got a key of this model
  ansible.builtin.debug:
    msg: "{{ ledger.entries | selectattr('decision', 'equalto', 'released') | map(attribute='evidence_digest') }}"
"""

RETURN = r"""
verified:
  description: Always true. A ledger that does not hold fails the task.
  returned: success
  type: bool
  sample: true
entries:
  description: The entries in their order, as far as O(model_id) lets them through.
  returned: success
  type: list
  elements: dict
  sample:
    - seq: 1
      prev: "0000000000000000000000000000000000000000000000000000000000000000"
      hash: f6263dfc505b8041faf5970ba757ed16513ec5d4b880000955d897a9568f3c0f
      at: "2026-01-31T12:00:00Z"
      who: alice
      decision: released
      reasons: []
      model_id: llama
      release: 3
      key_id: kek-7d3c9f0e5b1a4c2d8e6f7a9b0c1d2e3f
      evidence_digest: 52fea888026db7a147131ea33bcc06cfe4d669bf19edcd9891aa7b00d9ce6d2c
      guest_key_thumbprint: gU8qDCR5Hr3CDxxvM_cD1d9wCrDH9qsNpl2xzQMppKc
      policy_id: production
      policy_digest: 0a7f2f7c6d1e9b3a5c8d4e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b
count:
  description: Number of all entries of the ledger.
  returned: success
  type: int
  sample: 1
head:
  description: Hash of the last entry. Keep it elsewhere for O(known_head).
  returned: success
  type: str
  sample: f6263dfc505b8041faf5970ba757ed16513ec5d4b880000955d897a9568f3c0f
code:
  description: A stable word for the damage, for instance V(ledger-truncated), V(ledger-torn), V(ledger-chain) or V(ledger-entry-damaged).
  returned: failure
  type: str
  sample: ledger-truncated
"""
