#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trustee_smoke
short_description: Try a key broker of Confidential Containers that is in service
version_added: 0.1.0
description:
  - Goes through the whole handshake with a key broker (KBS of Trustee) as a guest of the sample TEE, which proves nothing, and has to be refused. A sound key
    broker verifies the evidence, issues a token signed by its own key that calls nothing affirming, and gives out nothing. Its policies stay as they are.
  - Further it has to be healthy, closed to admins without a token, of our time, on TLS 1.3 only, and to refuse evidence that binds another challenge.
  - That a real TEE is let in, only a real TEE can show.
  - Runs on the controller. Changes nothing; the session of the handshake ends by itself.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.kbs
attributes:
  check_mode:
    support: full
    details: Nothing is changed, so it tries in check mode too.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: full
requirements:
  - cryptography >= 38 on the controller
options:
  admin_key:
    description: Private key of the admin (PEM, mode 0600), to see that it is accepted.
    type: path
  admin_token:
    description: File (mode 0600) with an admin token that somebody else issued.
    type: path
  issuer:
    description: Claim C(iss) of the tokens. Needed with O(admin_key).
    type: str
  audience:
    description: Claim C(aud) of the tokens.
    type: str
    default: KBS
  subject:
    description: Claim C(sub) of the tokens.
    type: str
    default: admin
  role:
    description: Claim C(role) of the tokens.
    type: str
    default: admin
  token_lifetime:
    description: Seconds that a token is valid.
    type: int
    default: 120
  token_ca:
    description: The authority of attestation tokens, PEM text. Without it the signature of the token is not checked, and the check says so.
    type: str
    default: ""
  attestation:
    description: Whether the handshake is tried, too.
    type: bool
    default: true
  waivers:
    description: Checks that may fail, as a dictionary of their ids and the reasons.
    type: dict
    default: {}
seealso:
  - module: attested.ai.kbs_info
  - module: attested.ai.trustee_keys
"""

EXAMPLES = r"""
- name: See that the key broker works and lets nobody in who proves nothing
  attested.ai.trustee_smoke:
    url: https://kbs.example.org:8080
    ca_path: secrets/kbs.example.org/tls-ca.pem
    admin_key: secrets/kbs.example.org/admin.key
    issuer: ops.example.org
    token_ca: "{{ lookup('ansible.builtin.file', 'secrets/kbs.example.org/token-ca.pem') }}"
  run_once: true
"""

RETURN = r"""
kbs:
  description:
    - One entry for each address, with its C(checks). Each has C(id), C(outcome) (V(pass), V(fail) or V(not_checked)) and C(detail).
    - Ids are C(healthy), C(admin-closed), C(clock), C(tls-1.3), C(admin-token), C(unattested-refused), C(binding), C(handshake), C(token) and
      C(sample-refused).
  returned: success, and failure of a check
  type: list
  elements: dict
  sample:
    - url: https://kbs.example.org:8080
      checks:
        - {id: sample-refused, outcome: pass, detail: the resource policy refuses the sample TEE}
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: trustee-smoke
"""
