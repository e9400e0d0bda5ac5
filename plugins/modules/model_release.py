#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_release
short_description: Release a model's data key to an attested guest
version_added: 0.1.0
description:
  - Has the guest make a key of its own in memory, attests the guest with a fresh nonce and that key bound into the evidence, and
    only if the policy accepts it wraps the model's data key to the guest's key and hands it over.
  - The data key never leaves the controller in any other form. It is not returned, logged, or written to a disk.
  - Every release and every refusal is written to a signed, append-only ledger before anything is handed over.
  - With O(mode=pull) the controller has no key. The guest proves to a key broker (KBS) what it is and fetches the key there. The policies of the KBS decide;
    the controller says which KBS, remembers the lowest release, and writes into the ledger what the guest says that it got.
  - The guest's key is swept on failure, after O(lifetime) seconds, and by M(attested.ai.model_open) in every outcome.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.attestation
  - attested.ai.key_source
  - attested.ai.key_source.counter
attributes:
  check_mode:
    support: full
    details:
      - In check mode release numbers are compared and the guest is attested without a key of its own. Nothing is released, stored or written.
      - With O(mode=pull) only the place for the session, the address and the pins are checked.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run is a release of its own, with a fresh nonce and a fresh guest key.
options:
  mode:
    description: Whether the controller attests the guest and hands the key over, or the guest fetches it from a key broker.
    type: str
    choices: [push, pull]
    default: push
  policy:
    description: As in M(attested.ai.attest). Required if O(mode=push), unless O(kek) is an edge bundle.
    required: false
  model:
    description:
      - Directory on the controller with the encrypted model, or at least its C(model-manifest.json) and C(model-manifest.jws).
      - Required if O(mode=push).
    type: path
  kek:
    description:
      - The key-encryption key that wraps the model's data key, in any form that M(attested.ai.model_encrypt) takes. Required if O(mode=push).
      - Or the edge bundle that is installed on this gateway, a dictionary with C(source=edge), C(gateway) (its directory), C(signer) (the centre's public
        key) and C(model_id). It brings O(policy), O(reference_values), O(collateral), O(model), O(signer) and O(ledger), which are refused besides it. See
        C(docs/edge.md).
    required: false
  signer:
    description:
      - Public key of the manifest's signer, as a JWK dictionary or as the path of a JWK or PEM file on the controller.
      - A manifest by any other signer is refused, here and on the guest.
      - Required if O(mode=push). With O(mode=pull) the signer that the key was stored for counts, and this has to be the same.
    type: raw
  ledger:
    description:
      - Directory on the controller with the release ledger and the counters of minimum releases. Made when missing.
      - A relative path is relative to the playbook, as are O(model), O(kek) and O(ledger_key).
      - Required if O(mode=push).
    type: path
  ledger_key:
    description: EC private key (P-256, PEM) that signs the ledger. Made when missing. The default is C(ledger.key.pem) in O(ledger).
    type: path
  minimum_release:
    description:
      - Lowest release of this model that the guest may open. The default is the release of the manifest.
      - The controller remembers the highest value per model and never goes below it.
    type: int
  requester:
    description: For whom the key is released. Goes into the ledger. The default is the user who runs the play.
    type: str
  session_directory:
    description: Directory on the guest, in memory, for the guest's key.
    type: path
    default: /run/attested-ai
  lifetime:
    description: Seconds after which the guest's key is swept even if the controller is gone.
    type: int
    default: 300
  kbs:
    description: The key broker, as the guest reaches it. Required if O(mode=pull).
    type: dict
    suboptions:
      url:
        description: Its address.
        type: str
        required: true
      pins:
        description: SHA-256 of keys that its certificate may have (SubjectPublicKeyInfo), as C(sha256:<hexadecimal>). Needed for https.
        type: list
        elements: str
        default: []
      ca_path:
        description: File on the controller with the certificates (PEM) that it is verified by. The authorities of the guest's system if it is not given.
        type: path
      server_name:
        description: The name in its certificate, if it is another than that of the address.
        type: str
        default: ""
      timeout:
        description: Seconds for one whole answer.
        type: int
        default: 20
      allow_http:
        description: Speak without TLS to other machines, too, for a trial.
        type: bool
        default: false
  resource:
    description: The resource with the key, C(kbs:///repository/type/tag), stored by M(attested.ai.kbs_model_key). Required if O(mode=pull).
    type: str
  init_data:
    description: File on the guest with the init-data that it was launched with, for a KBS whose policy asks for it. Only with O(mode=pull).
    type: path
seealso:
  - module: attested.ai.attest
  - module: attested.ai.edge_bundle
  - module: attested.ai.guest_key
  - module: attested.ai.guest_key_pull
  - module: attested.ai.kbs_model_key
  - module: attested.ai.key_ledger
  - module: attested.ai.model_encrypt
  - module: attested.ai.model_open
"""

EXAMPLES = r"""
- name: Release the key of the model to this guest, if it passes
  attested.ai.model_release:
    model: encrypted/minilm
    kek: secrets/kek.jwk
    signer: secrets/signer.pub.jwk
    policy: policy.yml
    reference_values: reference-values.yml
    ledger: ledger
  register: release

- name: Open the model in the guest's memory
  attested.ai.model_open:
    src: /srv/models/minilm
    dest: /run/model/minilm
    session: "{{ release.session }}"

- name: Release by the edge bundle of this gateway
  attested.ai.model_release:
    kek: {source: edge, gateway: gateway, signer: centre.pub.pem, model_id: minilm}
  register: release

- name: Have the guest fetch the key from a key broker
  attested.ai.model_release:
    mode: pull
    kbs:
      url: https://kbs.example.org:8080
      ca_path: kbs-ca.pem
      pins: [sha256:3f2a1c0d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4938271605f4e3d2c1b0a99887]
    resource: kbs:///default/model-key/minilm-1
    signer: secrets/signer.pub.jwk
    ledger: ledger
  register: release
"""

RETURN = r"""
edge:
  description: What is left of the edge bundle, as M(attested.ai.edge_bundle) returns it; after a release with that release counted.
  returned: when O(kek) is an edge bundle that could be read, also on failure
  type: dict
  sample: {sequence: 4, ends_at: "2026-11-30T00:00:00Z", days_left: 28.5, usable: true, models: [{model_id: minilm, uses: 20, used: 3, uses_left: 17}]}
session:
  description: Name of the session on the guest that holds the released key, for M(attested.ai.model_open).
  returned: when the key was released
  type: str
  sample: 9f6c1f0e5b7d4a51a3c8
session_directory:
  description: Directory on the guest that holds the session.
  returned: when the key was released
  type: str
  sample: /run/attested-ai
expires_at:
  description: When the guest sweeps the session by itself (RFC 3339).
  returned: when the key was released
  type: str
  sample: "2026-11-22T12:05:00Z"
key_id:
  description: Name of the released data key. Never the key.
  returned: when the manifest could be read
  type: str
  sample: minilm-1-4f9a
ledger_entry:
  description: Number, hash and decision of the ledger entry.
  returned: when an entry was written
  type: dict
  sample: {seq: 12, hash: 5d9c0e, decision: released}
model_id:
  description: The model that the guest got a key for.
  returned: when O(mode=pull), not in check mode
  type: str
  sample: minilm
release:
  description: The release that the guest got a key for.
  returned: when O(mode=pull), not in check mode
  type: int
  sample: 1
anchored:
  description: Whether the guest's image itself names the key broker. If not, whoever runs tasks on the guest chooses it.
  returned: when O(mode=pull)
  type: bool
  sample: false
result:
  description: The appraisal, as in M(attested.ai.attest).
  returned: when evidence was collected
  type: dict
  sample: {schema: attested.ai/result/1, accepted: true}
evidence:
  description: The evidence document.
  returned: when evidence was collected
  type: dict
  sample: {schema: attested.ai/evidence/1}
"""
