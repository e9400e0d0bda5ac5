#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: key_ledger
short_description: Verify and read the ledger of key releases
version_added: 0.1.0
description:
  - Verifies the ledger that M(attested.ai.model_release) writes, entry by entry, the chain between entries, and its signed head.
  - Fails if an entry was changed, removed, repeated, moved or cut off, and says which.
  - Runs on the controller. On the command line, C(ansible localhost -m attested.ai.key_ledger -a 'path=ledger public_key=ledger.pub.jwk').
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: N/A
    details: Nothing is changed.
options:
  path:
    description: Directory of the ledger on the controller.
    type: path
    required: true
  public_key:
    description:
      - Public key of the ledger, as a JWK dictionary or as the path of a JWK file.
      - Use a copy that you keep elsewhere. The C(ledger.pub.jwk) beside the ledger could be replaced together with it.
    type: raw
    required: true
  expected_head:
    description:
      - Digest of the last entry that you noted on an earlier day (RV(head.digest)). It must be in the ledger, otherwise an older copy was
        put in its place.
    type: str
  model_id:
    description: Return only the entries of this model. All are verified anyway.
    type: str
seealso:
  - module: attested.ai.model_release
"""

EXAMPLES = r"""
- name: Verify the ledger
  attested.ai.key_ledger:
    path: ledger
    public_key: audit/ledger.pub.jwk
  register: ledger

- name: Show which guests got the key of a model
  ansible.builtin.debug:
    msg: "{{ ledger.entries | selectattr('decision', 'eq', 'released') | map(attribute='host') | list }}"
"""

RETURN = r"""
entries:
  description: The verified entries, oldest first.
  returned: success
  type: list
  elements: dict
  sample:
    - seq: 1
      at: "2026-11-22T12:00:00Z"
      who: alice
      host: guest-1
      decision: released
      model_id: minilm
      release: 1
      key_id: minilm-1
      evidence_digest: 0f1a
      policy: {id: production, digest: 77c0}
      guest_key: jYzQ5wC0
      anchor: vendor
      reasons: []
count:
  description: Number of entries in the whole ledger.
  returned: success
  type: int
  sample: 1
head:
  description: Number and digest of the last entry. Note the digest elsewhere, for O(expected_head).
  returned: success
  type: dict
  sample: {seq: 1, digest: 5d9c}
"""
