#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_rewrap
short_description: Change which keys open an encrypted model, without encrypting it anew
version_added: 0.1.0
description:
  - Wraps the data key of a model that M(attested.ai.model_encrypt) made for other key-encryption keys, and signs the manifest anew. Not one byte of
    ciphertext changes; only C(model-manifest.json) and C(model-manifest.jws) have to be published again.
  - Rotates a key-encryption key in two runs, adding the new key while the old one still opens it, and taking the old one away when every copy has the
    new manifest.
  - Taking a key away revokes nothing that was handed out before, and says so.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.key_source
attributes:
  check_mode:
    support: full
    details: The data key is opened and wrapped, and nothing is written.
  diff_mode:
    support: full
    details: Shows names of keys.
  idempotent:
    support: full
    details: Who can open it already stays as it is.
options:
  model:
    description: Directory on the controller with the encrypted model, or at least its manifest and signature.
    type: path
    required: true
  kek:
    description: A key that opens the model's data key now, in any form that M(attested.ai.model_encrypt) takes.
  keks:
    description: Key-encryption keys that shall open it, each in the form of O(kek). For a key of Transit its newest version wraps.
    type: list
    elements: raw
    default: []
  recipients:
    description: Public keys that shall open it, as in M(attested.ai.model_encrypt).
    type: list
    elements: dict
    default: []
    suboptions:
      kid:
        description: Name of the key.
        type: str
        required: true
      jwk:
        description: Public EC key as JWK, a dictionary or the path of a file on the controller.
        type: raw
        required: true
  keep_others:
    description: Whether those stay who can open it and are not named. V(false) takes them away.
    type: bool
    default: true
  signing_key:
    description: File on the controller with the key (PEM) that signed the manifest, and signs it now. Only its owner may read it.
    type: path
    required: true
notes:
  - An OpenSSF signature (C(model.sig)) covers the manifest. Make it anew afterwards.
  - After this M(attested.ai.model_encrypt) compares contents once, because its local notes are of the manifest before.
seealso:
  - module: attested.ai.model_encrypt
  - module: attested.ai.model_release
"""

EXAMPLES = r"""
- name: Let the new key open the model, too
  attested.ai.model_rewrap:
    model: encrypted/minilm
    kek: secrets/kek-2025.jwk
    keks: [secrets/kek-2026.jwk]
    signing_key: secrets/signer.pem

- name: Take every other key away
  attested.ai.model_rewrap:
    model: encrypted/minilm
    kek: secrets/kek-2026.jwk
    keks: [secrets/kek-2026.jwk]
    keep_others: false
    signing_key: secrets/signer.pem
  register: rotated
"""

RETURN = r"""
model_id:
  description: The model's name.
  returned: success
  type: str
  sample: minilm
release:
  description: Its release, which stays.
  returned: success
  type: int
  sample: 1
key_id:
  description: Name of the data key, which stays. Never the key.
  returned: success
  type: str
  sample: minilm-1-4f9a02c7
recipients:
  description: Names of the keys that open it.
  returned: success
  type: list
  elements: str
  sample: ["vault-transit:transit/minilm:v2"]
added:
  description: Names of keys that could not open it before.
  returned: success
  type: list
  elements: str
  sample: ["vault-transit:transit/minilm:v2"]
removed:
  description: Names of keys that cannot open it any more.
  returned: success
  type: list
  elements: str
  sample: [kek-1f0c]
revocation:
  description: What taking a key away does not do. Empty where none was.
  returned: success
  type: str
  sample: It can still open every copy of the manifest from before
manifest_sha256:
  description: SHA-256 of the manifest.
  returned: success
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
"""
