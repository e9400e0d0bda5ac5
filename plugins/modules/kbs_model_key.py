#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_model_key
short_description: Store the key of an encrypted model in a key broker
version_added: 0.1.0
description:
  - Stores the data key of one release of a model as a resource of a key broker (KBS of Trustee), together with the model's name, its release, the lowest
    release that may be opened, and the key that has to have signed the manifest. Guests fetch it there by themselves, once the KBS accepts their evidence.
  - Fetched by M(attested.ai.model_release) with C(mode=pull), and in pods by the program C(openmodel).
  - Give each release a resource of its own, and take the old one away when no guest shall open it any more. Who got it before keeps it.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.kbs
  - attested.ai.kbs.admin
  - attested.ai.kbs.state
  - attested.ai.key_source
  - attested.ai.key_source.counter
attributes:
  check_mode:
    support: full
    details: The data key is opened, the counters are read, and nothing is stored.
  diff_mode:
    support: full
    details: Shows digests that were made with the key of O(state_path), never content.
  idempotent:
    support: full
    details: By the digest in O(state_path), for a KBS gives nothing back to an admin.
options:
  path:
    description: The resource, C(repository/type/tag) or C(kbs:///repository/type/tag).
    type: str
    required: true
  state:
    description: Whether it shall be there.
    type: str
    choices: [present, absent]
    default: present
  model:
    description: Directory on the controller with the encrypted model, or at least its manifest and signature. Required if O(state=present).
    type: path
  kek:
    description: The key-encryption key that wraps the model's data key, in any form that M(attested.ai.model_encrypt) takes. Required if O(state=present).
    required: false
  signer:
    description: Public key of the manifest's signer, as a JWK dictionary or as the path of a JWK or PEM file. Required if O(state=present).
    type: raw
  minimum_release:
    description: Lowest release of this model that a guest may open. The default is the release of the manifest.
    type: int
  ledger:
    description: Directory of the release ledger, whose counter of minimum releases is then kept to and raised.
    type: path
  agreement:
    description:
      - File with an agreement (M(attested.ai.training_agreement)). The key is then for jobs of this agreement only, and is stored together with a key for the
        tags of their results. Guests that ask for a model, or run another agreement, refuse it.
      - Use a resource of its own for each agreement, and grant it for what guests of this agreement were launched with, and for nothing else. Whoever gets it
        can make results that M(attested.ai.training_result) believes.
    type: path
  result_key:
    description: File with the private half (PEM) of the owner's result key in O(agreement). The key for tags is derived from it. It stays here.
    type: path
seealso:
  - module: attested.ai.kbs_policy
  - module: attested.ai.kbs_resource
  - module: attested.ai.model_release
"""

EXAMPLES = r"""
- name: Let guests that the KBS accepts fetch the key
  attested.ai.kbs_model_key:
    url: [https://kbs.example.org:8080]
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    state_path: state/kbs.json
    path: default/model-key/minilm-1
    model: encrypted/minilm
    kek: secrets/kek.jwk
    signer: secrets/signer.pub.jwk
    ledger: ledger

- name: Let guests that run this agreement fetch the key of a data set
  attested.ai.kbs_model_key:
    url: [https://kbs.example.org:8080]
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    state_path: state/kbs.json
    path: default/training-key/cells-1
    model: encrypted/cells
    kek: secrets/kek.jwk
    signer: secrets/signer.pub.jwk
    agreement: agreement.json
    result_key: secrets/result.pem
"""

RETURN = r"""
changes:
  description: What was done at each KBS, as M(attested.ai.kbs_resource) returns it.
  returned: always
  type: list
  elements: dict
  sample: [{kbs: "https://kbs.example.org:8080", kind: resource, name: default/model-key/minilm-1, action: stored}]
not_changed:
  description: What was not done because something failed before.
  returned: failure after a part was done
  type: list
  elements: dict
  sample: []
model_id:
  description: The model's name.
  returned: when O(state=present)
  type: str
  sample: minilm
release:
  description: Its release.
  returned: when O(state=present)
  type: int
  sample: 1
minimum_release:
  description: The lowest release that goes with the key.
  returned: when O(state=present)
  type: int
  sample: 1
key_id:
  description: Name of the data key. Never the key.
  returned: when O(state=present)
  type: str
  sample: minilm-1-4f9a02c7
"""
