#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_encrypt
short_description: Encrypt a model directory
version_added: 0.1.0
description:
  - Encrypts every file of a model into a directory that can be published anywhere, and signs a manifest of it.
  - By default each file becomes C(<name>.tink) in Tink's AES-GCM-HKDF streaming format (AES-256), bound to model, release and path.
    Names and sizes of the files stay visible. See O(profile) for the others.
  - Each release has a data key of its own. It is made here, wrapped for O(kek) and O(recipients) into the manifest, and never returned or logged.
  - Appears at O(dest) in one step when everything is done. A run that was interrupted goes on where it was, file by file.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.key_source
attributes:
  check_mode:
    support: full
    details: Keys that are missing are not made, so what would be wrapped and signed with them is not checked either.
  diff_mode:
    support: full
    details: Shows names and sizes of the files, and no content.
  idempotent:
    support: full
    details: By default a file counts as unchanged when its size, modification time and inode are. See O(verify).
options:
  src:
    description:
      - Directory on the controller with the model. Every file in it is encrypted, hidden ones and configuration too. Empty directories are left out.
      - Symbolic links are refused, also those that stay inside, as are special files and names that two systems may take for different files.
    type: path
    required: true
  dest:
    description:
      - Directory on the controller for the encrypted model.
      - While it is written, C(<dest>.partial) and C(<dest>.partial.state) lie beside it, afterwards C(<dest>.state), which is not to be published.
    type: path
    required: true
  model_id:
    description: Name of the model. 1 to 128 letters, digits, dots, dashes and underscores.
    type: str
    required: true
  release:
    description:
      - Number of the release, from 1. Guests can be told to refuse lower ones.
      - A higher one than that at O(dest) encrypts again with a new data key. A lower one is refused.
    type: int
    required: true
  create_kek:
    description: Whether to make the key-encryption key when O(kek) does not exist, in a file or in KV. A key of Transit is made in the Vault.
    type: bool
    default: false
  signing_key:
    description: File on the controller with the EC private key (PEM, P-256) that signs the manifest. Only its owner may read it.
    type: path
    required: true
  create_signing_key:
    description: Whether to make the signing key when O(signing_key) does not exist.
    type: bool
    default: false
  openssf_key:
    description:
      - File on the controller with an EC private key (PEM) that makes an OpenSSF Model Signing signature C(model.sig) over the ciphertext and its manifest.
        May be O(signing_key). Only its owner may read it.
      - A signature that is missing or over other files is made again. O(verify=content) checks it whole.
      - Needs the Python packages model-signing and pyOpenSSL on the controller.
    type: path
  recipients:
    description: Who else can unwrap the data key, for instance an escrow key in another place.
    type: list
    elements: dict
    default: []
    suboptions:
      kid:
        description: Name of the key.
        type: str
        required: true
      jwk:
        description: Public EC key as JWK, a dictionary or the path of a file on the controller. Used with C(ECDH-ES+A256KW).
        type: raw
        required: true
  key_uris:
    description: Where the data key can be asked for, for instance C(kbs:///default/key/minilm-1). Goes into the manifest as it is.
    type: list
    elements: str
    default: []
  profile:
    description:
      - V(files) encrypts file by file. Guests decrypt the model into memory, also while they fetch it.
      - V(image) makes one file C(model.img), EROFS and dm-verity under dm-crypt (the layout of EMWP). Guests map it, so that it opens at once and needs no
        memory of its own; for models that are large next to the guest's memory. Made without root and without device mapper.
        An interrupted run begins again.
      - V(kserve) makes C(<name>.jwe), which KServe 0.20 and later opens by itself. At most 4 GiB for each file. Nothing in that format binds a file to its name
        or release, so use O(openssf_key) with it. KServe gets the data key of the release, from a KBS for instance.
    type: str
    choices: [files, image, kserve]
    default: files
  segment_size:
    description: Only for O(profile=files). Bytes of ciphertext per segment, the unit of authentication and of parallel work. 57 to 67108864.
    type: int
    default: 1048576
  threads:
    description: How many threads encrypt, or processes with O(profile=image). The default is the number of processors, at most 8.
    type: int
  verify:
    description:
      - How to find out whether the model is still the one that was encrypted.
      - V(stat) compares size, modification time and inode of each file with local notes, and reads no content unless these differ.
      - V(content) decrypts what is published, in memory, and compares it with the source.
    type: str
    choices: [stat, content]
    default: stat
  replace:
    description:
      - Whether other content may be published under the same O(release), or over a model that another key signed.
      - Guests that hold the data key of the first one cannot open the second.
    type: bool
    default: false
notes:
  - Needs the Python library cryptography (38 or newer) on the controller. From version 50 on it encrypts in parallel, as do versions up to 41.
seealso:
  - module: attested.ai.model_release
  - module: attested.ai.model_open
"""

EXAMPLES = r"""
- name: Encrypt a model for publication
  attested.ai.model_encrypt:
    src: models/minilm
    dest: encrypted/minilm
    model_id: minilm
    release: 1
    kek: secrets/kek.jwk
    create_kek: true
    signing_key: secrets/signer.pem
    create_signing_key: true
  register: encrypted

- name: Keep the public key of the signer for model_release
  ansible.builtin.copy:
    content: "{{ encrypted.signer | to_json }}"
    dest: secrets/signer.pub.jwk
    mode: "0644"
"""

RETURN = r"""
reason:
  description: Why it was encrypted, or that nothing changed.
  returned: success
  type: str
  sample: there is no encrypted model yet
manifest_path:
  description: Path of the manifest on the controller.
  returned: success
  type: str
  sample: /home/user/encrypted/minilm/model-manifest.json
manifest_sha256:
  description: SHA-256 of the manifest.
  returned: when there is one
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
model_id:
  description: The model's name.
  returned: success
  type: str
  sample: minilm
release:
  description: The release.
  returned: success
  type: int
  sample: 1
profile:
  description: The profile.
  returned: success
  type: str
  sample: files
published:
  description: What lies at O(dest) and is to be published, paths relative to it.
  returned: when there is a manifest
  type: list
  elements: str
  sample: [config.json.tink, model.safetensors.tink, model-manifest.json, model-manifest.jws]
files:
  description: How many files the model has.
  returned: success
  type: int
  sample: 6
bytes:
  description: Size of the model.
  returned: success
  type: int
  sample: 91627614
ciphertext_bytes:
  description: Size of the encrypted files.
  returned: success
  type: int
  sample: 91629278
key_id:
  description: Name of the data key. Never the key.
  returned: when there is a manifest
  type: str
  sample: minilm-1-4f9a02c7
keys_created:
  description: Files of keys that were made, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/home/user/secrets/kek.jwk]
signer:
  description: Public key that verifies the manifest's signature.
  returned: when the signing key exists
  type: dict
  sample: {kty: EC, crv: P-256, x: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU, y: x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0}
"""
