#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_key_pull
short_description: Fetch a model's key in a guest, from a key broker
version_added: 0.1.0
description:
  - Makes a session with a key of its own in the memory of the guest, proves to a key broker (KBS) with evidence over that key what the guest is, and keeps
    what the broker releases in the session, for M(attested.ai.model_open). The controller never has the key.
  - Usually run by M(attested.ai.model_release) with C(mode=pull).
  - Nothing of a session is left if anything fails.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.guest_pull
attributes:
  check_mode:
    support: full
    details: The place for the session, the address and the pins are checked. The broker is not asked.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run is a handshake of its own.
options:
  session:
    description: Name of the session.
    type: str
    required: true
  directory:
    description: Directory of the sessions, in memory.
    type: path
    default: /run/attested-ai
  lifetime:
    description: Seconds after which the session is swept.
    type: int
    default: 900
  url:
    description: Address of the KBS, as the guest reaches it.
    type: str
    required: true
  pins:
    description:
      - SHA-256 of keys that its certificate may have, as C(sha256:<hexadecimal>). Needed for https.
      - Where the image holds C(/etc/attested-ai/kbs.json) with C(url) and C(pins), these have to be among them.
    type: list
    elements: str
    default: []
  ca:
    description: Certificates (PEM) that the KBS is verified by. The system's authorities if it is empty.
    type: str
    default: ""
  server_name:
    description: The name in its certificate, if it is another than that of O(url).
    type: str
    default: ""
  allow_http:
    description: Speak without TLS to other machines, too, for a trial. Keys are encrypted to the guest all the same, but anybody on the way could answer.
    type: bool
    default: false
  resource:
    description: The resource with the key, as C(kbs:///repository/type/tag), stored by M(attested.ai.kbs_model_key).
    type: str
    required: true
  minimum_release:
    description: Lowest release that may be opened, if what comes with the key does not ask for more.
    type: int
    default: 1
  signer:
    description: Public key (JWK) that has to be the manifest's signer. What comes with the key counts if it is not given.
    type: dict
notes:
  - Needs the Python library cryptography (38 or newer), as Debian 12 and Ubuntu 24.04 package it.
seealso:
  - module: attested.ai.model_release
  - module: attested.ai.kbs_model_key
  - module: attested.ai.model_open
"""

EXAMPLES = r"""
- name: Fetch the key of the model
  attested.ai.guest_key_pull:
    session: minilm
    url: https://kbs.example.org:8080
    ca: "{{ lookup('ansible.builtin.file', 'kbs-ca.pem') }}"
    pins: [sha256:3f2a1c0d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4938271605f4e3d2c1b0a99887]
    resource: kbs:///default/model-key/minilm-1
"""

RETURN = r"""
session:
  description: Name of the session, for M(attested.ai.model_open).
  returned: success
  type: str
  sample: minilm
expires_at:
  description: When the session is swept (RFC 3339).
  returned: success, not in check mode
  type: str
  sample: "2026-11-28T12:05:00Z"
thumbprint:
  description: RFC 7638 thumbprint of the session's key, which the evidence binds.
  returned: success, not in check mode
  type: str
  sample: NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs
filesystem:
  description: The memory file system under the session.
  returned: success
  type: str
  sample: tmpfs
swept:
  description: Names of stale sessions that were swept.
  returned: success
  type: list
  elements: str
  sample: []
anchored:
  description: Whether the image itself names the key broker. If not, whoever runs tasks on the guest chooses it.
  returned: success
  type: bool
  sample: false
resource:
  description: The resource that the key came from.
  returned: success, not in check mode
  type: str
  sample: kbs:///default/model-key/minilm-1
model_id:
  description: The model that the key is for.
  returned: success, not in check mode
  type: str
  sample: minilm
release:
  description: Its release.
  returned: success, not in check mode
  type: int
  sample: 1
minimum_release:
  description: Lowest release that the guest opens.
  returned: success, not in check mode
  type: int
  sample: 1
key_id:
  description: Name of the data key. Never the key.
  returned: success, not in check mode
  type: str
  sample: minilm-1-4f9a02c7
manifest_signer:
  description: RFC 7638 thumbprint of the key that has to have signed the manifest.
  returned: success, not in check mode
  type: str
  sample: NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs
evidence_digest:
  description: SHA-256 of the evidence that the broker got.
  returned: success, not in check mode
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull import pull
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull_options import BROKER, GUEST_PULL, prepared
from ansible_collections.attested.ai.plugins.module_utils.target.memory import harden_process
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors

ARGUMENT_SPEC = {
    "session": {"type": "str", "required": True},
    "directory": {"type": "path", "default": "/run/attested-ai"},
    "lifetime": {"type": "int", "default": 900},
    "allow_http": {"type": "bool", "default": False},
    "minimum_release": {"type": "int", "default": 1},
    "signer": {"type": "dict", "no_log": False},
    **BROKER,
    **GUEST_PULL,
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        with signals_as_errors():
            harden_process()
            result = pull(*prepared(module.params), module.check_mode)
        module.exit_json(**result)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
