#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_batch
short_description: Encrypted input files in, encrypted predictions out to their owner's key
version_added: 0.1.0
description:
  - In three steps, which may run on three machines that do not trust each other.
  - V(seal) is the owner's. It verifies the server as M(attested.ai.model_request) does and encrypts each file to the attested key,
    with the owner's public key inside as the one that the answer is for.
  - V(send) is anybody's. It carries the encrypted files to the server and stores the encrypted answers. Nothing can be read or changed on the way.
  - V(open) is the owner's again. It decrypts the answers, and refuses one that does not belong to its request.
  - Runs on the controller, whatever the host of the task.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: Says which files would be sealed, sent or opened. V(seal) verifies the server, V(open) decrypts without writing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: What is sealed, answered or opened already is left alone.
options:
  step:
    description: Which of the three.
    type: str
    choices: [seal, send, open]
    required: true
  src:
    description:
      - Folder with the files. Folders in it and hidden files are left alone.
      - For V(send) those that end in C(.request.jwe) count.
      - For V(open) those that end in C(.answer.jwe) count, and beside each lies the C(.request.id) that V(seal) wrote.
    type: path
    required: true
  dest:
    description: Folder for the outcome. Made when missing, for its owner alone.
    type: path
    required: true
  url:
    description: Address of the server. Needed to seal and to send.
    type: str
  target:
    description: Path to ask for, such as V(/v1/embeddings). Needed to seal.
    type: str
  content_type:
    description: What the files are.
    type: str
    default: application/json
  reply_to:
    description: The owner's public key, EC P-256, as JWK or as the path of a file with a JWK or PEM. Needed to seal.
    type: raw
  key:
    description: File with the owner's private key, EC P-256 in PEM, that only its owner may read. Needed to open.
    type: path
  valid_hours:
    description: For how long the server may answer the requests, 1 to 168 hours. It answers each once.
    type: int
    default: 24
  token_file:
    description:
      - File on the controller with the bearer token of a server that wants one.
      - To send with it needs O(policy), for it is sent to an attested key only.
    type: path
  timeout:
    description: Seconds for each exchange with the server, 1 to 86400.
    type: int
    default: 600
  model_id:
    description: Which model it must serve, by what the attested server says.
    type: str
  minimum_release:
    description: Which release of the model it must serve at least.
    type: int
  policy:
    description:
      - The appraisal policy, as a dictionary or as the path of a YAML or JSON file on the controller. Needed to seal.
    type: raw
  reference_values:
    description: The launch measurements that are good, as a dictionary or as the path of a YAML or JSON file on the controller.
    type: raw
  certificates:
    description: Files on the controller with certificates (PEM or DER) for the path from the evidence to a pinned root.
    type: list
    elements: path
    default: []
  crl:
    description: File on the controller with the certificate revocation list (PEM or DER) of the product's root.
    type: path
  collateral:
    description: Collateral on the controller, directories that M(attested.ai.collateral) keeps, signed bundles, or single files.
    type: list
    elements: path
    default: []
  collateral_key:
    description: The public key of the signer of bundles in O(collateral), as JWK or as the path of a file with a JWK or PEM.
    type: raw
  at:
    description: Evaluation time in RFC 3339, for tests. The default is the controller's clock.
    type: str
notes:
  - A server makes its keys when it starts. What was sealed before it was started anew does not open any more and has to be sealed again.
  - A file may be up to about 780 kB, as may its answer. Larger sets of data are encrypted with M(attested.ai.model_encrypt), released and opened as models are.
seealso:
  - module: attested.ai.model_request
"""

EXAMPLES = r"""
- name: Encrypt the input files to the attested key
  attested.ai.model_batch:
    step: seal
    url: https://model.example.org:8443
    policy: policy.yml
    reference_values: reference-values.yml
    src: input
    dest: sealed
    target: /v1/embeddings
    reply_to: owner.pub.pem

- name: Carry them to the server and back
  attested.ai.model_batch:
    step: send
    url: https://model.example.org:8443
    src: sealed
    dest: sealed

- name: Read the predictions
  attested.ai.model_batch:
    step: open
    src: sealed
    dest: predictions
    key: owner.pem
"""

RETURN = r"""
files:
  description: Names of the input files that were sealed, sent or opened.
  returned: success
  type: list
  elements: str
  sample: [january.json]
served:
  description: Which model the server says that it serves.
  returned: when O(step=seal)
  type: dict
  sample: {model_id: minilm, release: 1, manifest_sha256: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0}
tls_spki:
  description: The key of the server, which its evidence binds.
  returned: when O(step=seal)
  type: str
  sample: sha256:4f9a1c0e5b7d4a51a3c8f2d1e0c9b8a7968574635241302f1e0d9c8b7a695847
result:
  description: The appraisal, as in M(attested.ai.attest).
  returned: when O(step=seal)
  type: dict
  sample: {schema: attested.ai/result/1, accepted: true}
code:
  description: A stable word for the reason of a failure, for instance V(refused), V(request-refused), V(jwe-wrong-key) or V(answer-other).
  returned: failure
  type: str
  sample: answer-other
"""
