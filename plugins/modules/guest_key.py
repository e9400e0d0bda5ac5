#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_key
short_description: Make a short-lived key in the memory of a confidential guest
version_added: 0.1.0
description:
  - Makes an EC P-256 key pair in a session directory on a memory file system of the guest, and returns the public half. Bound into evidence
    with M(attested.ai.tee_evidence), it is what a data key is wrapped to.
  - The private half never leaves the session directory. It is in no return value, log, argument or environment.
  - A watchdog process on the guest sweeps the session when O(lifetime) is over, even if the controller is gone by then. Each call of the module also
    sweeps other sessions in O(directory) that are past their deadline.
  - Refuses a directory that is not in memory, and a C(tmpfs) without C(noswap) while swap is active.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows names of files and sessions, never a value.
  idempotent:
    support: full
    details: A session that is there keeps its key and its deadline, until that has passed.
requirements:
  - cryptography >= 38 on the guest
options:
  session:
    description:
      - Name of the session. Letters, digits, dots, dashes and underscores, at most 64, the first a letter or digit.
    type: str
    required: true
  state:
    description:
      - V(present) makes the session, or finds it.
      - V(absent) overwrites and removes it.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description:
      - Absolute path of the directory of all sessions. Made with mode V(0700) if its parent is there. It must belong to the user that the module runs as.
    type: path
    default: /run/attested-ai
  lifetime:
    description:
      - Seconds until the watchdog sweeps a session that this call makes, 1 to 86400. A session that is there keeps its deadline.
    type: int
    default: 900
  release:
    description:
      - A key release (flattened JWE) to store in the session. It is ciphertext.
      - It is stored only if it opens with the key of this session, was made for it, and has not expired.
    type: dict
notes:
  - C(systemd-logind) with C(KillUserProcesses=yes) ends the watchdog at logout of a user other than root. It then sweeps the session at once.
seealso:
  - module: attested.ai.tee_evidence
  - module: attested.ai.model_release
  - module: attested.ai.model_open
"""

EXAMPLES = r"""
- name: Make a key in the memory of the guest
  attested.ai.guest_key:
    session: llama
    lifetime: 600
  become: true
  register: guest_key

- name: Collect evidence that binds it
  attested.ai.tee_evidence:
    nonce: "{{ nonce }}"
    tee_pubkey: "{{ guest_key.jwk }}"
  become: true
  register: collected

- name: Sweep the session
  attested.ai.guest_key:
    session: llama
    state: absent
  become: true
"""

RETURN = r"""
session:
  description: The name of the session.
  returned: success
  type: str
  sample: llama
jwk:
  description: The public key.
  returned: success, when the session is there and O(state=present)
  type: dict
  sample:
    kty: EC
    crv: P-256
    alg: ECDH-ES+A256KW
    x: 6RRJaQPBhCq0X1ToJrbah7opIO16fN2buAmYw_Y9Vac
    y: 5Tfc9PdEZyPG0cY1gQ9qDS6GuWpQjKiFGMFJjLUSZZc
thumbprint:
  description: RFC 7638 thumbprint of RV(jwk).
  returned: success, when the session is there and O(state=present)
  type: str
  sample: gU8qDCR5Hr3CDxxvM_cD1d9wCrDH9qsNpl2xzQMppKc
expires_at:
  description: When the watchdog sweeps the session, in UTC.
  returned: success, when the session is there and O(state=present)
  type: str
  sample: "2026-01-31T12:00:00Z"
filesystem:
  description: Kind of the memory file system.
  returned: success, when O(state=present)
  type: str
  sample: tmpfs
swept:
  description: Names of other sessions that were past their deadline and were swept.
  returned: success
  type: list
  elements: str
  sample: []
code:
  description: A stable word for the reason of a failure, for instance V(not-in-memory), V(session-missing), V(session-unsafe) or V(jwe-wrong-key).
  returned: failure
  type: str
  sample: not-in-memory
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.guest import Wish, apply
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors

ARGUMENT_SPEC = {
    "session": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "directory": {"type": "path", "default": "/run/attested-ai"},
    "lifetime": {"type": "int", "default": 900},
    "release": {"type": "dict", "no_log": False},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        with signals_as_errors():
            result = apply(Wish(**module.params), module.check_mode)
        module.exit_json(**result)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
