#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_open
short_description: Open an encrypted model in the memory of a confidential guest
version_added: 0.1.0
description:
  - Decrypts a model that M(attested.ai.model_encrypt) made, with the key that M(attested.ai.model_release) left in a session on this guest.
  - A model of profile V(files) is decrypted into memory, from a directory or while it is fetched from a server. One of profile V(image) is mapped by the
    kernel, and decrypted and verified when it is read.
  - Before the first byte is written it checks the manifest's signature by the signer that came with the key, model, release, key,
    the exact set of files and their sizes, and that the model fits into memory.
  - The model appears at O(dest) in one step when every authentication tag held. If anything fails, no plaintext of the attempt is left.
  - The session is swept in every outcome, so that a key is used once.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
    details: Checks files and sizes. The session is neither used nor swept, so that the signature is not checked.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A model that is open already, of the same manifest, is left alone. Its session is swept all the same.
options:
  src:
    description:
      - Directory on the guest with the encrypted model, or its address, such as V(https://models.example.org/minilm).
        It may belong to the host. Every byte is read once.
      - In a directory nothing may lie but what the manifest lists, the manifest, its signature, and C(model.sig).
      - An artifact in a registry, V(docker://registry.example.org/models/minilm:1) or with V(@sha256:...), decrypted while it is fetched like from any server.
        Or a copy of one on the guest, an OCI layout V(oci:FOLDER:TAG) or skopeo's V(dir:FOLDER), which may have V(@sha256:...) behind too. Each file is one
        blob, named as M(attested.ai.model_image) with C(kind=modelpack) or C(oras push) names it.
      - A server must know ranges. It is not trusted either. TLS is verified, each answer must be exactly the range that was asked for and of the same version
        of the file, and a connection that is cut is taken up where it was. No ciphertext is kept.
      - Required if O(state=present).
    type: str
  dest:
    description:
      - Directory for the plaintext. Its parent exists and lies in memory that is never swapped,
        which is a ramfs, a tmpfs with C(noswap), or any tmpfs while there is no swap.
      - Beside it lie C(<dest>.complete) when the model is open, for instance for C(ConditionPathExists=) of systemd, and
        C(<dest>.progress.json) while a long opening runs.
    type: path
    required: true
  state:
    description: Whether the model is to be open. V(absent) removes it, and what interrupted runs left.
    type: str
    choices: [present, absent]
    default: present
  session:
    description: Name of the session that holds the released key, from M(attested.ai.model_release). Not needed when the model is open already.
    type: str
  session_directory:
    description: Directory of the sessions.
    type: path
    default: /run/attested-ai
  threads:
    description: How many threads decrypt. The default is the number of processors, at most 8.
    type: int
  owner:
    description: User, by name or number, who is to own the files. The default is the user that runs the module.
    type: str
  group:
    description: Group, by name or number, of the files.
    type: str
  mode:
    description: Mode of the files, in octal. Directories get the matching right to enter. Nobody may write.
    type: str
    default: "0400"
  image:
    description:
      - Only for models of profile V(image). The file, or the disk, that holds C(model.img). The default is C(model.img) in O(src).
      - If O(src) is an address, the image is fetched to this place unless it is there, because it is mapped and not copied. An interrupted fetch to a file goes
        on. What was fetched is read once from end to end before it is opened, so that dm-verity has seen all of it.
      - A disk is overwritten, unless it is mounted or mapped. It looks like the image only when all of it is there.
    type: path
  urls:
    description: Addresses by path, such as C(config.json.tink), in place of those below O(src). For presigned ones see P(attested.ai.s3_presigned#filter).
    type: dict
  headers:
    description: Headers for the host in O(src), such as C(Authorization). They are not sent to others.
    type: dict
  redirect_hosts:
    description:
      - Hosts that the one in O(src) may redirect to. Others are refused, as are redirects from https to http.
      - With a registry also the host that makes its tokens, if that is another, or another port of the same. It gets the password of O(auth_file).
    type: list
    elements: str
    default: []
  auth_file:
    description:
      - File on the guest with user and password for the registry in O(src), as C(skopeo login --authfile) and C(podman login) write it. Without one nobody
        is named, which public artifacts allow.
      - Give it a place in memory, and a user who may read this artifact alone.
      - Refused with O(allow_http), unless the registry is on the guest itself. The password would be sent in clear.
    type: path
  ca_path:
    description: File with the certificate authorities for O(src). The default is those of the system.
    type: path
  allow_http:
    description:
      - Whether O(src) may be C(http://). A registry is asked over http then.
      - The model is authenticated and encrypted in any case, but everybody on the way sees which it is.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for a server, and over which O(minimum_rate) counts.
    type: int
    default: 30
  minimum_rate:
    description: Bytes per second and connection below which a server is given up.
    type: int
    default: 16384
notes:
  - Profile V(image) needs root on the guest, and a kernel with dm-crypt, dm-verity, EROFS, the key ring and, for a file, loop
    devices. O(dest) is then a link into a directory beside it, which carries O(owner), O(group) and the right to enter; files in it are readable.
  - Needs the Python library cryptography (38 or newer), as Debian 12 and Ubuntu 24.04 package it.
  - Removing the session does not make a guest forget a key that it was given before. Only a new release with a new key keeps it out.
seealso:
  - module: attested.ai.model_release
  - module: attested.ai.model_encrypt
"""

EXAMPLES = r"""
- name: Open the model in the guest's memory
  attested.ai.model_open:
    src: /srv/models/minilm
    dest: /run/model/minilm
    session: "{{ release.session }}"
    group: inference
    mode: "0440"
  become: true

- name: Open it while it is fetched
  attested.ai.model_open:
    src: https://models.example.org/minilm
    dest: /run/model/minilm
    session: "{{ release.session }}"
  become: true

- name: Open it straight from a registry
  attested.ai.model_open:
    src: docker://registry.example.org/models/minilm@sha256:8e7c54ddb0c17ac76c96b1fdefbef6910b1773ef6a925d39b18736fc122e14e3
    auth_file: /run/registry/auth.json
    dest: /run/model/minilm
    session: "{{ release.session }}"
  become: true

- name: Map a large model from the disk that the host attached
  attested.ai.model_open:
    src: /srv/models/llama
    image: /dev/vdb
    dest: /run/model/llama
    session: "{{ release.session }}"
    group: inference
    mode: "0440"
  become: true

- name: Remove the plaintext
  attested.ai.model_open:
    dest: /run/model/minilm
    state: absent
  become: true
"""

RETURN = r"""
dest:
  description: Directory of the model.
  returned: success
  type: str
  sample: /run/model/minilm
model_id:
  description: The model's name.
  returned: when O(state=present)
  type: str
  sample: minilm
release:
  description: The model's release.
  returned: when O(state=present)
  type: int
  sample: 1
files:
  description: How many files the model has.
  returned: when O(state=present)
  type: int
  sample: 6
bytes:
  description: Size of the model.
  returned: when O(state=present)
  type: int
  sample: 91627614
profile:
  description: How it is encrypted.
  returned: when O(state=present)
  type: str
  sample: files
manifest_sha256:
  description: SHA-256 of the manifest, which names exactly this content.
  returned: when O(state=present)
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
seconds:
  description: How long it took to decrypt, or to map.
  returned: when it was opened
  type: float
  sample: 0.061
bytes_per_second:
  description: The rate.
  returned: when it was decrypted
  type: int
  sample: 1502091049
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.opening import Order, run
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors

ARGUMENT_SPEC = {
    "src": {"type": "str"},
    "dest": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "session": {"type": "str"},
    "session_directory": {"type": "path", "default": "/run/attested-ai"},
    "threads": {"type": "int"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str", "default": "0400"},
    "image": {"type": "path"},
    # Signatures of presigned addresses and tokens stand in them.
    "urls": {"type": "dict", "no_log": True},
    "headers": {"type": "dict", "no_log": True},
    "redirect_hosts": {"type": "list", "elements": "str", "default": []},
    "auth_file": {"type": "path"},
    "ca_path": {"type": "path"},
    "allow_http": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 30},
    "minimum_rate": {"type": "int", "default": 16384},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_if=[("state", "present", ["src"])], supports_check_mode=True)
    try:
        with signals_as_errors():
            result = run(Order(**module.params), module.check_mode)
        module.exit_json(**result)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
