#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_info
short_description: Look at a key broker of Confidential Containers
version_added: 0.1.0
description:
  - Looks at one or several key brokers (KBS of Trustee) from outside, and with an admin token at what they tell an admin. Changes nothing.
  - Tells whether a KBS lets admins in without a token, which is what a KBS does that has no C([admin]) in its configuration.
  - Runs on the controller. Use C(run_once) where several hosts are in the play.
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
    details: Nothing is changed, so it looks in check mode too.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: full
requirements:
  - cryptography >= 38 on the controller, with O(admin_key)
options:
  admin_key:
    description: Private key of the admin (PEM, mode 0600, Ed25519, EC P-256 or RSA), which mints a token for each request.
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
  state_path:
    description: The state that M(attested.ai.kbs_resource) keeps, to tell what we stored and whether the KBS still is the one that it speaks of.
    type: path
  reference_values:
    description: Names of reference values to read.
    type: list
    elements: str
    default: []
  fail_if_unsafe:
    description: Fail if a KBS lets admins in without a token.
    type: bool
    default: false
seealso:
  - module: attested.ai.kbs_resource
  - module: attested.ai.kbs_policy
  - module: attested.ai.kbs_reference_values
"""

EXAMPLES = r"""
- name: See that the KBS is there and closed
  attested.ai.kbs_info:
    url: https://kbs.example.org:8080
    ca_path: kbs-ca.pem
    fail_if_unsafe: true
  run_once: true

- name: Read two reference values
  attested.ai.kbs_info:
    url: https://kbs.example.org:8080
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    reference_values: [mr_td, rtmr_1]
  run_once: true
"""

RETURN = r"""
kbs:
  description:
    - One entry for each address. C(clock_skew) is how many seconds its clock is ahead of ours, null if it does not tell the time.
    - C(policies) and C(reference_values) are there with an admin token, C(known) and C(forgotten) with O(state_path). C(forgotten) is empty if the KBS is the
      one that the state speaks of, else it says why it is not.
    - C(counters) are those of its metrics that have no labels.
  returned: success
  type: list
  elements: dict
  sample:
    - url: https://kbs.example.org:8080
      healthy: true
      open_admin: false
      clock_skew: 0
      counters: {http_requests_total: 12}
      policies: [resource-policy]
      reference_values: {mr_td: null}
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: kbs-tls-name
"""
