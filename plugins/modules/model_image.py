#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_image
short_description: Pack a model directory into an image
version_added: 0.1.0
description:
  - Makes an image of a model, in an OCI layout on the controller. The same files give the same image, on every machine.
  - With O(kind=image) the files become layers of a container image, alone or on top of a server's, which M(attested.ai.image_encrypt) then encrypts. Pods
    have their model with their image, and nothing else is to be mounted.
  - With O(kind=modelpack) what M(attested.ai.model_encrypt) made becomes an artifact with the media types of ModelPack, for any registry. It is ciphertext
    already; M(attested.ai.model_open) opens it on the guest, from the registry or from a copy, as it is.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: The model is read whole, so that the digest is the one that would come out.
  diff_mode:
    support: full
    details: Shows kinds and sizes of layers and the digest of the manifest.
  idempotent:
    support: full
    details: Each run reads the model, and what is there, byte by byte. What differs, or is damaged, is written anew.
options:
  src:
    description: Directory on the controller with the model. Links, special files and names that would delete files of lower layers are refused.
    type: path
    required: true
  dest:
    description:
      - V(oci:FOLDER:TAG), a layout on the controller. Other images in it stay. What only the image before needed is removed.
      - With O(kind=image) it holds the model in the clear, like O(src).
    type: str
    required: true
  kind:
    description: What to make.
    type: str
    choices: [image, modelpack]
    default: image
  path:
    description: Where the files lie in the container.
    type: str
    default: /models
  base:
    description: V(oci:FOLDER:TAG), the image of the server that the layers go on top of. Without one the image holds the model alone, and no program.
    type: str
  architecture:
    description: Architecture of an image without a base, and which image of a list is the base.
    type: str
    default: amd64
  split_size:
    description: Files of this many bytes and more get a layer of their own.
    type: int
    default: 67108864
seealso:
  - module: attested.ai.image_encrypt
  - module: attested.ai.model_encrypt
  - module: attested.ai.model_open
"""

EXAMPLES = r"""
- name: Put the model on top of the server
  attested.ai.model_image:
    src: models/minilm
    base: oci:images/server:1.4
    path: /models/minilm
    dest: oci:images/server-minilm:1

- name: Encrypt and publish it
  attested.ai.image_encrypt:
    src: oci:images/server-minilm:1
    dest: docker://registry.example.org/server-minilm:1
    key: kbs:///default/key/minilm
    key_file: secrets/minilm.key

# skopeo copy --preserve-digests oci:images/minilm:1 docker://registry.example.org/models/minilm:1 publishes it.
- name: Make an artifact of a model that is encrypted already
  attested.ai.model_image:
    kind: modelpack
    src: encrypted/minilm
    dest: oci:images/minilm:1
"""

RETURN = r"""
digest:
  description: Digest of the image, also in check mode.
  returned: success
  type: str
  sample: sha256:8e7c54ddb0c17ac76c96b1fdefbef6910b1773ef6a925d39b18736fc122e14e3
layers:
  description: How many layers it has, those of the base included.
  returned: success
  type: int
  sample: 3
bytes:
  description: Size of the layers with the model.
  returned: success
  type: int
  sample: 91637760
encrypted:
  description: Whether the model in it is encrypted. With O(kind=image) it is not, yet.
  returned: success
  type: bool
  sample: false
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: image-base
"""
