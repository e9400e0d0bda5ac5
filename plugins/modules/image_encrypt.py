#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_encrypt
short_description: Encrypt a container image for guests of Confidential Containers
version_added: 0.1.0
description:
  - Makes an image of which every layer is encrypted (ocicrypt), under a key that a key broker (KBS) holds. Guests ask the KBS for it after attestation.
  - skopeo copies and encrypts. Our key provider wraps the key of each layer; it gets the key through memory, never by arguments, environment or a disk.
  - The encrypted image is made beside, every byte of it is decrypted in memory and compared with the source, and only then it gets its name.
  - Encryption hides, and proves nothing about who made an image. Sign the encrypted image, and see P(attested.ai.image_security_policy#filter).
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details:
      - Source and destination are read. The digest of what would be made is not known, for each encryption makes new keys.
      - A key, or a source in a layout, that is not there yet is a warning, for tasks before this one may make it.
  diff_mode:
    support: full
    details: Shows kinds and sizes of the layers.
  idempotent:
    support: full
    details:
      - What is at the destination is asked itself. Its packets must open with the key and name the layers of the source, and its manifest must carry an
        authentication code with the key over itself and the source's digest. Nobody without the key can make that up.
options:
  src:
    description:
      - The plain image, V(docker://HOST/NAME:TAG), V(docker://HOST/NAME@DIGEST) or V(oci:FOLDER:TAG) for an OCI layout on the controller.
      - Of a list of images the one for Linux on O(architecture) is taken.
    type: str
    required: true
  dest:
    description: Where the encrypted image goes, V(docker://HOST/NAME:TAG) or V(oci:FOLDER:TAG). Another name than the plain one's.
    type: str
    required: true
  key:
    description: The resource of the KBS that holds the key, V(kbs:///repository/type/tag). Guests find it in the image.
    type: str
    required: true
  key_file:
    description:
      - File on the controller with this key, 32 raw bytes, mode 0600 or encrypted by Ansible Vault.
      - M(attested.ai.kbs_resource) makes it (with C(create)) and stores it at the KBS, byte for byte.
    type: path
    required: true
  architecture:
    description: Which image of a list, as Go names architectures.
    type: str
    default: amd64
  verify:
    description:
      - How much of an image in a registry is looked at when its manifest says that nothing is to be done.
      - V(content) fetches and decrypts its layers, in memory. Layouts on the controller are always read whole, as is every new image.
    type: str
    choices: [manifest, content]
    default: manifest
  replace:
    description: Whether an image at O(dest) may be overwritten that is not encrypted, or not under this key.
    type: bool
    default: false
  policy:
    description:
      - Signature policy for reading O(src), see containers-policy.json(5). By default that of the machine counts for registries, and layouts are let in.
    type: path
  authfile:
    description: Credentials for registries, as C(skopeo login) writes them. By default those that skopeo finds by itself.
    type: path
  cert_dir:
    description: Folder with certificates of authorities (C(*.crt)) for registries.
    type: path
  tls_verify:
    description: Whether registries must speak TLS with a certificate that holds.
    type: bool
    default: true
  skopeo:
    description: Name or path of skopeo, 1.18 or newer.
    type: str
    default: skopeo
  work_path:
    description: Folder for ciphertext while it is made, as large as the image. By default beside a layout, else the system's folder for temporary files.
    type: path
  timeout:
    description: Seconds that one run of skopeo may take.
    type: int
    default: 3600
notes:
  - Guests open layers of the kinds tar and tar+gzip. Encrypted zstd layers they do not, so that these are refused.
  - The configuration of an image (names, environment, digests of its unpacked layers) and sizes stay visible.
seealso:
  - module: attested.ai.kbs_resource
  - module: attested.ai.model_image
  - plugin: attested.ai.image_security_policy
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make the key, and have the KBS hold it
  attested.ai.kbs_resource:
    url: https://kbs.example.org:8080
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    state_path: state/kbs.json
    resources:
      - path: default/key/inference-1
        key_file: secrets/inference-1.key
        create: true

- name: Encrypt the image under it
  attested.ai.image_encrypt:
    src: docker://registry.example.org/inference:1.4
    dest: docker://registry.example.org/inference:1.4-encrypted
    key: kbs:///default/key/inference-1
    key_file: secrets/inference-1.key
    authfile: secrets/registry.json
  register: encrypted

- name: Say what the pod has to name
  ansible.builtin.debug:
    var: encrypted.image
"""

RETURN = r"""
reason:
  description: Why it was encrypted, or would be, or that nothing is to be done.
  returned: success
  type: str
  sample: there is no image at the destination
encrypted:
  description: True. Said only of an image that was looked at with the key, every layer.
  returned: when it is
  type: bool
  sample: true
digest:
  description: Digest of the encrypted image.
  returned: when it is encrypted
  type: str
  sample: sha256:892067bba0c49e07201b1a504232eeabc3944f1ba81419cf4c47fcb5c2978dba
image:
  description: The encrypted image by its digest, as a pod may name it.
  returned: when it is encrypted, in a registry
  type: str
  sample: registry.example.org/inference@sha256:892067bba0c49e07201b1a504232eeabc3944f1ba81419cf4c47fcb5c2978dba
source:
  description: The image that was, or would be, encrypted.
  returned: success
  type: str
  sample: docker://registry.example.org/inference@sha256:8e7c54ddb0c17ac76c96b1fdefbef6910b1773ef6a925d39b18736fc122e14e3
key:
  description: Name of the key. Never the key.
  returned: success
  type: str
  sample: kbs:///default/key/inference-1
layers:
  description: How many layers the image has.
  returned: success, if the source is there
  type: int
  sample: 7
bytes:
  description: Size of the encrypted layers.
  returned: when it is encrypted
  type: int
  sample: 91629278
skopeo_version:
  description: The skopeo that was used.
  returned: success
  type: str
  sample: 1.18.0
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: image-source-encrypted
"""
