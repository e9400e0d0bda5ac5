#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: attest
short_description: Attest a confidential guest with a fresh nonce
version_added: 0.1.0
description:
  - Draws a nonce on the controller, has the guest answer it with hardware evidence, and appraises that evidence on the controller
    by a policy, offline. One task, nothing installed on the guest, no third-party library needed there.
  - On ssh connections the guest also binds its SSH host keys, and they are compared with the keys that the connection in use
    accepts, so that a relay in front of a genuine guest is noticed. The policy key C(ssh_binding) controls this.
  - The task fails when the guest is refused. The registered variable then still holds RV(result) with every check.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.attestation
attributes:
  check_mode:
    support: full
    details:
      - Attesting changes nothing on the guest. O(result_file) is not written in check mode.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  nonce:
    description:
      - Base64 of 16 to 64 bytes to use instead of a fresh nonce. For tests and for protocols in which somebody else draws it.
      - Evidence for a nonce that was used before proves nothing about the present.
    type: str
  tls_certificate:
    description:
      - Path of a PEM certificate on the guest. The digest of its public key is bound into the evidence, so that clients can
        tell that a TLS connection ends in this guest.
    type: path
  result_file:
    description:
      - File on the controller that receives the result as JSON, or, with O(record_key), as a signed record.
      - P(attested.ai.attested#inventory) takes the name of the host from that of the file, C(<host>.json) or C(<host>.jws).
    type: path
  record_key:
    description:
      - EC private key (P-256 or P-384, PEM, C(0600)) on the controller. With it O(result_file) receives a record with the result and the name of the host
        under one signature, as P(attested.ai.attestation_monitor#role) keeps it.
      - P(attested.ai.attested#inventory) calls a host affirming only by a signed result.
    type: path
  ear_key:
    description:
      - EC private key (P-256 or P-384, PEM) on the controller. With it the result is also returned as a signed EAR token.
    type: path
  fail_on_refusal:
    description: Whether the task fails when the guest is refused. Turn it off only where the result is looked at by a later task.
    type: bool
    default: true
notes:
  - Over ssh, unless the policy says C(ssh_binding=off), the connection is opened anew and accepts keys from C(known_hosts) only.
    An earlier one may have been opened under weaker rules.
seealso:
  - module: attested.ai.evidence_verify
  - module: attested.ai.model_release
  - module: attested.ai.tee_evidence
"""

EXAMPLES = r"""
- name: Attest the guest
  attested.ai.attest:
    policy: policy.yml
    reference_values: reference-values.yml
  register: attestation

- name: Attest, and bind the key of the service's TLS certificate
  attested.ai.attest:
    policy: policy.yml
    reference_values: reference-values.yml
    tls_certificate: /run/model/tls.crt
    result_file: "results/{{ inventory_hostname }}.jws"
    record_key: secrets/attest.pem

- name: Look at a refusal instead of failing
  attested.ai.attest:
    policy: policy.yml
    fail_on_refusal: false
  register: attestation

- name: Show the codes of the failed checks
  ansible.builtin.debug:
    msg: "{{ attestation.result.reasons | map(attribute='id') | list }}"
"""

RETURN = r"""
result:
  description:
    - The appraisal. V(authentic) answers whether the evidence is genuine, V(accepted) whether the policy accepts it.
    - Its schema C(attested.ai/result/1) is described in C(docs/result-schema.md).
  returned: when evidence was collected
  type: dict
  sample:
    schema: attested.ai/result/1
    accepted: true
    authentic: true
    status: affirming
    anchor: vendor
    reasons: []
evidence:
  description: The evidence document, which M(attested.ai.evidence_verify) can appraise again later.
  returned: when evidence was collected
  type: dict
  sample:
    schema: attested.ai/evidence/1
    profile: attested/1
ear:
  description: The result as a signed EAR token (draft-ietf-rats-ear-04, JWT).
  returned: when O(ear_key) is given
  type: str
  sample: eyJhbGciOiJFUzI1NiIsInR5cCI6ImVhdCtqd3QifQ...
"""
