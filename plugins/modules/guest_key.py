#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_key
short_description: Make, use and sweep a guest's own key in memory
version_added: 0.1.0
description:
  - Makes an EC P-256 key inside the guest, in memory that is never swapped, for one key release. The private half is never returned.
  - M(attested.ai.model_release) drives this module. Use it by itself where you bring your own protocol.
  - A session is swept when it is used by M(attested.ai.model_open), when O(state=absent) asks for it, and by a small process on the guest
    after O(lifetime) seconds even if the controller is gone.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - A session that is there already is returned unchanged, and one that is not there is not swept.
requirements:
  - cryptography >= 38 on the guest (the distribution's python3-cryptography)
options:
  session:
    description: Name of the session, 8 to 64 lower-case letters and digits. Use a random one.
    type: str
    required: true
  state:
    description: Whether the session is to be there.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description:
      - Directory of all sessions. It must lie on a ramfs, on a tmpfs with C(noswap), or on a tmpfs while no swap is active.
    type: path
    default: /run/attested-ai
  lifetime:
    description: Seconds after which a new session is swept, whatever happens.
    type: int
    default: 300
  release:
    description:
      - A sealed key release (JWE) to keep in the session. It is kept only if it opens with the session's key.
      - The sealed form is stored. The key in it is not.
    type: dict
seealso:
  - module: attested.ai.model_release
  - module: attested.ai.model_open
"""

EXAMPLES = r"""
- name: Make a key in the guest's memory
  attested.ai.guest_key:
    session: 9f6c1f0e5b7d4a51
    lifetime: 120
  register: guest

- name: Sweep it
  attested.ai.guest_key:
    session: 9f6c1f0e5b7d4a51
    state: absent
"""

RETURN = r"""
jwk:
  description: The public key, in the form that a KBS wraps to.
  returned: when O(state=present), outside check mode
  type: dict
  sample: {kty: EC, crv: P-256, alg: ECDH-ES+A256KW, x: 9mLfPzb8sBY0SYaOVeDHnMrPxGMAEnXAJVYYH3aF5uQ, y: Xo_wnPLVhqH0UhZTKOLmSvDlBcwjVFzyzLJFbxa5DGs}
thumbprint:
  description: RFC 7638 thumbprint of the public key.
  returned: when O(state=present), outside check mode
  type: str
  sample: jYzQ5wC0xBnS0b3vDNOxZ2TnP4q1M6C5l2OQqjPo1mA
expires_at:
  description: When the session is swept by itself (RFC 3339).
  returned: when O(state=present), outside check mode
  type: str
  sample: "2026-11-22T12:05:00Z"
session:
  description: Name of the session.
  returned: always
  type: str
  sample: 9f6c1f0e5b7d4a51
filesystem:
  description: What the directory lies on, and why that is good enough.
  returned: when O(state=present)
  type: dict
  sample: {kind: tmpfs, mount_point: /run, reason: no swap is active}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats.jwk import thumbprint
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.session import (
    DEFAULT_DIRECTORY,
    create_session,
    find_session,
    now_utc,
    sweep_session,
)
from ansible_collections.attested.ai.plugins.module_utils.target.memory import require_memory


def present(params, check_mode):
    """Make the session unless it is there, and keep a release in it."""
    found = require_memory(params["directory"])
    result = {"session": params["session"], "filesystem": {"kind": found.kind, "mount_point": found.mount_point, "reason": found.reason}}
    session = find_session(params["directory"], params["session"])
    changed = session is None or (params["release"] is not None and not session.has_release())
    if check_mode:
        return dict(result, changed=changed)
    if session is None:
        session = create_session(params["directory"], params["session"], params["lifetime"], now_utc())
    if params["release"] is not None and changed:
        session.store_release(params["release"], now_utc())
    jwk = session.jwk()
    return dict(result, changed=changed, jwk=jwk, thumbprint=thumbprint(jwk), expires_at=session.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def absent(params, check_mode):
    """Sweep the session, whatever its state."""
    if check_mode:
        return {"session": params["session"], "changed": find_session(params["directory"], params["session"]) is not None}
    return {"session": params["session"], "changed": sweep_session(params["directory"], params["session"])}


def main():
    module = AnsibleModule(
        argument_spec={
            "session": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "directory": {"type": "path", "default": DEFAULT_DIRECTORY},
            "lifetime": {"type": "int", "default": 300},
            "release": {"type": "dict", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        act = present if module.params["state"] == "present" else absent
        module.exit_json(**act(module.params, module.check_mode))
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
