#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_dossier
short_description: Keep, verify and hand over what a deployment showed of itself
version_added: 0.1.0
description:
  - A dossier is a folder on the controller with one signed record for each time that somebody looked at a deployment. A record has the evidence, the nonce, the
    policy, the reference values and the collateral that it was judged by, the signed verdict (EAR), the model's manifest, who got its key, digests of the
    configuration, and the TLS key that the connection showed.
  - Records are chained. One that is taken out, changed, doubled or moved shows, and so does a time without any.
  - Each can be verified years later, offline, at its own time. For each it is said what proves the three states of data, at rest, in transit and in use.
  - C(docs/dossier.md) says what a record proves and what it does not.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.appraisal
attributes:
  check_mode:
    support: full
    details: The server is asked and its evidence is judged, but nothing is written.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Each O(operation=add) is a record of its own. O(operation=export) writes only what is not there.
requirements:
  - cryptography >= 38 on the controller
options:
  operation:
    description: V(add) a record, V(verify) all of them, or V(export) them with names and a play that verifies them.
    type: str
    choices: [add, verify, export]
    required: true
  path:
    description: The dossier's folder. It may hold the records of many deployments. V(add) makes it.
    type: path
    required: true
  deployment:
    description: Name of the deployment. With V(verify) only its records are judged; the chain is looked at whole.
    type: str
  signing_key:
    description: EC P-256 private key (PEM, mode 0600) that signs records and verdicts. Needed to O(operation=add).
    type: path
  create_signing_key:
    description: Make O(signing_key) if it does not exist.
    type: bool
    default: false
  url:
    description:
      - A model server of the role P(attested.ai.model_server#role). It is asked for evidence over a fresh nonce, and the key of the connection is compared with
        the one that the evidence binds. Only then the record says something of data in transit.
      - One of O(url) and O(evidence) is needed to V(add).
    type: str
  timeout:
    description: Seconds that O(url) may take.
    type: int
    default: 60
  evidence:
    description: An evidence document that was collected elsewhere, as dictionary or path. With O(nonce).
    type: raw
  nonce:
    description: The verifier's own nonce for O(evidence), in standard base64. One that a record of this dossier has is refused.
    type: str
  policy:
    description: The appraisal policy, as a dictionary or as the path of a YAML or JSON file. Needed to V(add). The chain of trust is enforced.
    type: raw
    required: false
  at:
    description:
      - Time of the record in RFC 3339, for tests and archives. The default is the controller's clock.
      - With V(verify) the time up to which there should be records.
    type: str
  collateral:
    description: Stores, bundles or files of M(attested.ai.collateral). Of all of it, the record keeps what the verdict needs.
    type: list
    elements: path
    default: []
  model:
    description: Directory of the encrypted model, of which manifest and signature are kept. With O(signer).
    type: path
  signer:
    description: Public key of the signer of O(model), as JWK or path.
    type: raw
  ledger:
    description: Directory of a ledger of key releases. Of each guest that got the key of this release of O(model) the last decision is kept.
    type: path
  configuration:
    description:
      - Files that belong to the deployment, by names of your choice. They are kept as they are, so name no secrets.
      - A vaulted file is refused, here and wherever else the record keeps what a file says.
    type: dict
  guest:
    description: What the guest says of itself, such as what M(attested.ai.tee_guest_info) returned. Kept, and marked as the guest's own words.
    type: dict
  fail_on_refusal:
    description: Fail unless RV(accepted). The record is written first, since refusals belong into a dossier.
    type: bool
    default: true
  public_key:
    description:
      - The signer's public key (JWK or path), as you got it from the signer. Needed to V(verify) and V(export).
      - The one inside of a dossier proves nothing.
    type: raw
  known_head:
    description: RV(head) of an earlier run. It must be in the chain, so that a dossier that was put back or begun anew shows.
    type: str
    default: ""
  max_gap_hours:
    description: Fail where two accepted records of a deployment, or the last one and O(at), are further apart.
    type: float
  dest:
    description: Folder for V(export), which is not there, or has an earlier export of this dossier.
    type: path
notes:
  - Who holds O(signing_key) can write what is not true, as with every signed record. Keep it on the controller alone, and give RV(head) to somebody else
    now and then.
seealso:
  - module: attested.ai.evidence_verify
  - module: attested.ai.key_ledger
  - module: attested.ai.model_request
"""

EXAMPLES = r"""
- name: Add what the server shows today
  attested.ai.evidence_dossier:
    operation: add
    path: dossier
    deployment: minilm
    signing_key: secrets/dossier.pem
    create_signing_key: true
    url: https://model.example.org:8443
    policy: policy.yml
    reference_values: reference-values.yml
    collateral: [collateral]
    model: encrypted/minilm
    signer: secrets/signer.pub.jwk
    ledger: ledger
    configuration: {vars.yml: vars.yml}

- name: Verify it, a year later and without a network
  attested.ai.evidence_dossier:
    operation: verify
    path: dossier
    public_key: dossier.pub.jwk
    max_gap_hours: 25
  register: dossier

- name: Hand it to an auditor
  attested.ai.evidence_dossier:
    operation: export
    path: dossier
    public_key: dossier.pub.jwk
    dest: for-the-auditor

- name: Show the three states on a page
  ansible.builtin.include_role:
    name: attested.ai.report
  vars:
    report_runs: "{{ dossier.runs }}"
    report_html: dossier.html
"""

RETURN = r"""
seq:
  description: Number of the record.
  returned: when O(operation=add), and not in check mode
  type: int
  sample: 3
head:
  description: SHA-256 of the last line of the chain. Keep it elsewhere, and give it as O(known_head).
  returned: when O(operation=add), not in check mode, and when O(operation=verify)
  type: str
  sample: 7c9e6a3b0b4b5f0c7f9f8a7d6e5c4b3a29180716253443526170898796a5b4c3
accepted:
  description: Whether the evidence is accepted, the connection that of the attested key, and the model the one that was named. No check failed.
  returned: when O(operation=add)
  type: bool
  sample: true
result:
  description: The verdict, see C(docs/result-schema.md).
  returned: when O(operation=add)
  type: dict
  sample: {schema: attested.ai/result/1, accepted: true, authentic: true, status: affirming, anchor: vendor}
checks:
  description:
    - Checks of the record. V(appraisal), V(reproduced) (the same comes out now as then), V(ear), V(channel), V(manifest), V(served-model), V(releases),
      V(configuration), V(guest), and with O(operation=verify) V(file), V(order) (its time follows) and V(fresh) (its nonce is its own).
  returned: when O(operation=add), and in each of RV(entries)
  type: list
  elements: dict
  sample:
    - {id: channel, outcome: pass, detail: "TLS 1.3 to the key sha256:3f2a..., which the evidence binds"}
states:
  description: The three states of data, each with its proofs. With O(operation=verify) of the last record of each deployment, by its name.
  returned: when O(operation=add) or O(operation=verify)
  type: raw
  sample:
    - {state: at-rest, shown: true, proofs: [{id: manifest, outcome: pass, detail: "minilm release 1: 7 files of 91233418 bytes, ciphertext only"}]}
count:
  description: Number of all records of the chain.
  returned: when O(operation=verify)
  type: int
  sample: 212
entries:
  description:
    - C(seq), C(hash), C(at), C(deployment), C(accepted), C(intact) (it is what was signed, and says today what it said then), C(checks)
      and C(states) of each.
  returned: when O(operation=verify)
  type: list
  elements: dict
  sample:
    - {seq: 1, at: "2026-01-31T12:00:00Z", deployment: minilm, accepted: true, intact: true, status: affirming, anchor: vendor}
gaps:
  description: Where a deployment was silent for longer than O(max_gap_hours).
  returned: when O(operation=verify)
  type: list
  elements: dict
  sample:
    - {deployment: minilm, after: 1, begins: "2026-01-31T12:00:00Z", ends: "2026-02-03T12:00:00Z", hours: 72.0}
refused:
  description: Number of records that tell of a refusal.
  returned: when O(operation=verify)
  type: int
  sample: 0
verified:
  description: True if there is a record and each is what was signed.
  returned: when O(operation=verify)
  type: bool
  sample: true
runs:
  description: The last record of each deployment, and each that is not accepted, as the role P(attested.ai.report#role) takes them.
  returned: when O(operation=verify)
  type: list
  elements: dict
  sample:
    - {name: minilm record 1, workload: minilm, step: serve, ok: true, at: "2026-01-31T12:00:00Z", detail: TLS 1.3}
dest:
  description: Where it was written.
  returned: when O(operation=export)
  type: str
  sample: for-the-auditor
files:
  description: Number of files there.
  returned: when O(operation=export)
  type: int
  sample: 48
msg:
  description: One line that says how it went.
  returned: when O(operation=add) or O(operation=verify)
  type: str
  sample: 212 records, 212 accepted, 0 refused, 0 not what was signed
code:
  description: A stable word for the reason of a failure.
  returned: on failure
  type: str
  sample: ledger-chain
"""
