#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_verify
short_description: Appraise attestation evidence on the controller
version_added: 0.1.0
description:
  - Verifies evidence of confidential guests and holds it against a policy and reference values. Runs on the controller, and needs no network.
  - Gives two answers. C(authentic) says whether signatures, certificates and what they bind hold. C(accepted) says whether the evidence is
    authentic and all that the policy asks is fulfilled. Every check has an outcome of its own, V(not_checked) included.
  - Judges evidence that was collected earlier or elsewhere. To collect and judge in one task, use M(attested.ai.attest), which also
    compares the SSH host keys of the connection.
  - Physical attack on the machine is out of scope of every attestation report. Each result says so.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: Nothing is changed, so it judges in check mode too.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: full
    details: With O(at) the same input gives the same result. Only O(ear_key) makes a new signature each time.
requirements:
  - cryptography >= 38 on the controller
options:
  evidence:
    description:
      - Evidence document, as a dictionary such as RV(attested.ai.tee_evidence#module:evidence), or the path of its JSON file.
      - A list of these judges a fleet in one task. The result is then RV(results), one entry for each document in the same order.
      - Exactly one of O(evidence) and O(report) is needed.
    type: raw
  report:
    description:
      - Path of raw evidence without an evidence document around it, of the type O(tee). For instance a SEV-SNP report of 1184 bytes, a TDX
        quote, a CCA token, or the SPDM request and response of a GPU.
    type: path
  tee:
    description: What O(report) is.
    type: str
    choices: [sev-snp, tdx, cca, az-snp-vtpm, az-tdx-vtpm, nvidia-gpu, nvidia-switch, nvidia-nras]
    default: sev-snp
  auxiliary:
    description: What belongs to O(report).
    type: dict
    suboptions:
      certificates:
        description: File with the certificates that came with it. For a GPU or switch the PEM chain of the device.
        type: path
      event_log:
        description: File with the event log of the firmware (CCEL), for a TDX quote.
        type: path
  nonce:
    description:
      - The nonce of this run, in standard base64, as the verifier drew and kept it. It is never taken from the evidence.
      - With a list of documents, one nonce for all or a list of as many.
      - Needed with O(evidence), unless O(freshness=unchecked).
    type: raw
  report_data:
    description:
      - The 64 bytes, in hexadecimal, that the report must carry, for a device the 32 bytes of its nonce.
      - Needed with O(report), unless O(freshness=unchecked).
    type: str
  freshness:
    description:
      - V(unchecked) judges evidence whose nonce you do not know, such as archived evidence. The result is marked, since such evidence may be
        old or replayed.
    type: str
    choices: [checked, unchecked]
    default: checked
  certificates:
    description:
      - Files with certificates (PEM or DER), such as the VCEK of the chip fetched beforehand, or an intermediate certificate.
      - None is trusted for being here. The path must end at a pinned root. Certificates inside the evidence are used in the same way.
    type: list
    elements: path
    default: []
  crl:
    description: Files with the revocation lists (PEM or DER) of the products' roots. Without one, revocation is V(not_checked).
    type: list
    elements: path
    default: []
  collateral:
    description:
      - Collateral on the controller, directories that M(attested.ai.collateral) keeps, signed bundles, or single files.
      - It may hold chip certificates, revocation lists, Intel's TCB information, NVIDIA's manifests and OCSP responses, CPAKs of CCA platforms.
      - Nothing in it is trusted for being here. What an appraisal uses of it must lead to a pinned root.
    type: list
    elements: path
    default: []
  collateral_key:
    description: The public key of the signer of bundles in O(collateral), as JWK or as the path of a file with a JWK or PEM.
    type: raw
  policy:
    description:
      - The policy, as a dictionary or as the path of a YAML or JSON file. C(docs/policy-reference.md) describes every key. Unknown keys are errors.
      - Without it every default holds. They are strict. No debugging, no migration, VMPL 0, committed firmware, shipped TCB floors, no Milan,
        and a launch measurement that matches O(reference_values).
    type: raw
  reference_values:
    description:
      - The launch measurements that are yours, as a dictionary, the path of a YAML or JSON file, or a list of these.
    type: raw
  at:
    description: Evaluation time in RFC 3339, such as V(2026-11-01T00:00:00Z). The default is the controller's clock.
    type: str
  ear_key:
    description:
      - PEM file with an EC private key on P-256 or P-384, not encrypted, readable by its owner only. With it, the result is also signed as an
        EAR (draft-ietf-rats-ear-04).
    type: path
  ear_lifetime:
    description: Lifetime of the EAR in seconds. It never outlives the certificates and reference values that the verdict rests on.
    type: int
    default: 300
  fail_on_refusal:
    description: Fail the task if the evidence, or any of a list, is refused. Set to V(false) to handle RV(accepted) yourself.
    type: bool
    default: true
seealso:
  - module: attested.ai.tee_evidence
"""

EXAMPLES = r"""
- name: Draw the nonce of this run
  ansible.builtin.set_fact:
    my_nonce: "{{ lookup('ansible.builtin.pipe', 'head -c 32 /dev/urandom | base64') }}"

- name: Collect evidence in the guest
  attested.ai.tee_evidence:
    nonce: "{{ my_nonce }}"
  register: collected

- name: Judge it on the controller
  attested.ai.evidence_verify:
    evidence: "{{ collected.evidence }}"
    nonce: "{{ my_nonce }}"
    policy: policies/production.yml
    reference_values: images/inference.yml

- name: Judge an archived report as of a past day, and only tell
  attested.ai.evidence_verify:
    report: archive/node7.report.bin
    certificates:
      - archive/node7.vcek.der
    freshness: unchecked
    at: "2026-11-01T00:00:00Z"
    policy:
      schema: attested.ai/policy/1
      id: archive
      measurements_required: false
      sev_snp:
        products: [milan]
    fail_on_refusal: false
  register: archived

- name: Judge a fleet in one task and sign each result
  attested.ai.evidence_verify:
    evidence: "{{ query('ansible.builtin.fileglob', 'evidence/*.json') }}"
    freshness: unchecked
    policy: policies/production.yml
    reference_values: images/inference.yml
    ear_key: keys/verifier.pem
    fail_on_refusal: false
  register: fleet
"""

RETURN = r"""
accepted:
  description: True if the evidence, or every document of a list, is authentic and fulfils the policy.
  returned: always
  type: bool
  sample: true
msg:
  description: One line that says what came out and, on refusal, why and what to do.
  returned: always
  type: str
  sample: "The evidence is refused under policy production. policy-vmpl: VMPL 1, allowed are 0; under an SVSM or on AWS add it to sev_snp.vmpl"
result:
  description: The result, as described in C(docs/result-schema.md).
  returned: with one evidence document or report
  type: dict
  sample:
    schema: attested.ai/result/1
    accepted: true
    authentic: true
    status: affirming
    anchor: vendor
    evaluated_at: "2026-11-01T00:00:00Z"
    expires_at: "2027-06-01T00:00:00Z"
    policy: {id: production, digest: b9817e9267ab730c38696fa7cf3c11dad7e50d42bbd6da661fb388c85e1157f0}
    chain_of_trust: {reaches: service, required: service, waived: false, reason: the measured chain reaches service}
    reasons: []
ear:
  description: The result as a signed EAR, a compact JWT. Absent if what the verdict rests on has expired.
  returned: with one evidence document or report, and O(ear_key)
  type: str
  sample: eyJhbGciOiJFUzM4NCIsImtpZCI6Ii4uLiIsInR5cCI6ImVhdCtqd3QifQ.eyJlYXRfcHJvZmlsZSI6Ii4uLiJ9.c2lnbmF0dXJl
jwks:
  description: The JWK set with the public key of O(ear_key), for those who verify the EAR.
  returned: with O(ear_key)
  type: dict
  sample: {keys: [{kty: EC, crv: P-384, alg: ES384, use: sig, kid: 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I, x: "...", y: "..."}]}
results:
  description: One entry for each document of the list, in the same order.
  returned: with a list of evidence documents
  type: list
  elements: dict
  contains:
    accepted:
      description: Whether this document is accepted.
      type: bool
    result:
      description: Like RV(result); null if the document could not be read.
      type: dict
    ear:
      description: Like RV(ear).
      type: str
    msg:
      description: Like RV(msg).
      type: str
"""
