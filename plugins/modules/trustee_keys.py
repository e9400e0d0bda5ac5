#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trustee_keys
short_description: Keys and certificates of a key broker of Confidential Containers
version_added: 0.1.0
description:
  - Makes what a key broker (KBS of Trustee) needs in a folder, where it is missing, and renews certificates in time. Private keys are made where the module
    runs, have the mode 0600, and are never returned.
  - V(tls) and V(token) have an authority of their own each. It stays when a certificate is renewed, so that nothing changes for guests that know the authority.
  - Keys that anybody has, because they are in the sources of Trustee or of its demo setup, are refused.
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
    details: Shows names, reasons and ends, no keys.
  idempotent:
    support: full
requirements:
  - cryptography >= 38 where the module runs
options:
  path:
    description: The folder. It is made, for its owner alone.
    type: path
    required: true
  kind:
    description:
      - V(admin) makes C(admin.key) (Ed25519) and C(admin.pub). It belongs on the controller, never on the machine of the KBS.
      - V(tls) makes C(tls-ca.key), C(tls-ca.pem), C(tls.key) and C(tls.crt).
      - V(token) makes C(token-ca.key), C(token-ca.pem), C(token.key) and C(token.crt), EC P-256 as Trustee's token signer asks for.
    type: str
    choices: [admin, tls, token]
    required: true
  names:
    description: Names and addresses under which the KBS is reached, with V(tls).
    type: list
    elements: str
    default: []
  days:
    description: For how many days a certificate is valid.
    type: int
    default: 397
  ca_days:
    description: For how many days an authority is valid.
    type: int
    default: 3650
  renew_days:
    description: A certificate with fewer days left is renewed.
    type: int
    default: 30
  issue:
    description:
      - Whether the module issues certificates. V(false) for files that somebody else issued; these are only looked at, and a failure if they do not serve.
    type: bool
    default: true
  owner:
    description: User to whom folder and files belong, with that user's own group. Unchanged if it is not given.
    type: str
seealso:
  - module: attested.ai.trustee_smoke
  - module: attested.ai.kbs_info
"""

EXAMPLES = r"""
- name: Make the key of the admin, on the controller
  attested.ai.trustee_keys:
    path: secrets/kbs.example.org
    kind: admin
  delegate_to: localhost

- name: Make the certificate of the KBS
  attested.ai.trustee_keys:
    path: /etc/trustee/keys
    kind: tls
    names: [kbs.example.org]
    owner: trustee
  become: true
  register: tls
"""

RETURN = r"""
fingerprint:
  description: SHA-256 of the public key (SubjectPublicKeyInfo).
  returned: success, unless check mode would write something
  type: str
  sample: sha256:5e583a99031af15025cdc9714d2e6f16248b12c9c26186c0738694aab415616a
public_key:
  description: The public key of the admin, PEM.
  returned: success, with O(kind=admin), unless check mode would write something
  type: str
  sample: "-----BEGIN PUBLIC KEY----- ..."
ca:
  description: The authority, PEM. Guests and admins verify by it.
  returned: success, with O(kind=tls) and O(kind=token), unless check mode would write something
  type: str
  sample: "-----BEGIN CERTIFICATE----- ..."
ca_fingerprint:
  description: SHA-256 of the authority's public key.
  returned: success, with O(kind=tls) and O(kind=token), unless check mode would write something
  type: str
  sample: sha256:42491669ccb851d627ea9846cd24eccbeb7de7c2a62740120fff88001d38ebb6
not_after:
  description: When the certificate ends, in UTC.
  returned: success, with O(kind=tls) and O(kind=token), unless check mode would write something
  type: str
  sample: "2027-12-31T12:00:00Z"
ca_not_after:
  description: When the authority ends, in UTC.
  returned: success, with O(kind=tls) and O(kind=token), unless check mode would write something
  type: str
  sample: "2036-12-31T12:00:00Z"
names:
  description: Names in the certificate.
  returned: success, with O(kind=tls) and O(kind=token), unless check mode would write something
  type: list
  elements: str
  sample: [kbs.example.org]
written:
  description: Files that were written, or would be.
  returned: success
  type: list
  elements: str
  sample: [tls.crt]
reasons:
  description: Why.
  returned: success
  type: list
  elements: str
  sample: ["the certificate ends on 2026-12-01"]
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: trustee-demo-key
"""

import datetime
import pwd
from typing import Any, Dict, NoReturn, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.trustee.keys import Wish, apply, owned, plan
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "kind": {"type": "str", "choices": ["admin", "tls", "token"], "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "days": {"type": "int", "default": 397},
    "ca_days": {"type": "int", "default": 3650},
    "renew_days": {"type": "int", "default": 30},
    "issue": {"type": "bool", "default": True},
    "owner": {"type": "str"},
}


def owner_of(name: Optional[str], check: bool) -> Optional[Tuple[int, int]]:
    try:
        found = pwd.getpwnam(name) if name else None
    except KeyError:
        # Where a play is only tried, the user may not be there yet.
        if check:
            return None
        raise TrusteeError("there is no user %s" % name, where="owner", code="trustee-owner") from None
    return (found.pw_uid, found.pw_gid) if found else None


def wish_of(params: Dict[str, Any], check: bool) -> Wish:
    given = {name: params[name] for name in ("path", "kind", "days", "ca_days", "renew_days", "issue")}
    return Wish(names=tuple(params["names"]), owner=owner_of(params["owner"], check), **given)


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        wish = wish_of(module.params, module.check_mode)
        outcome = plan(wish, datetime.datetime.now(datetime.timezone.utc))
        changed = bool(outcome.write) or not owned(wish)
        if changed and not module.check_mode:
            apply(wish, outcome)
        written = sorted(outcome.write)
        diff = {"before": "", "after": "".join("%s\n" % line for line in (*written, *outcome.reasons))}
        # What check mode made is thrown away, so nothing is told of it.
        facts = {} if module.check_mode and outcome.write else outcome.facts
        module.exit_json(changed=changed, written=written, reasons=outcome.reasons, diff=diff, **facts)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
