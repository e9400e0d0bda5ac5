# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the policy that says which images guests let in."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import signature_policy
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded

DOCUMENTATION = r"""
name: image_security_policy
short_description: Say which images guests of Confidential Containers let in
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Makes the policy that lies in the KBS and that a guest checks signatures of images by, before it runs one.
  - Takes a list of scopes with the keys that must have signed, and returns a policy that rejects everything else.
  - Takes a policy that exists, as a dictionary or JSON text, too, and returns it if it lets in nothing that nobody signed. It fails on
    C(insecureAcceptAnything) anywhere, on a default that is not C(reject), on an empty list of requirements (which guests take for consent), on signatures
    without a signed identity (which guests take from any other image), and on keys that lie anywhere but in the KBS.
  - Encrypted images are signed after encryption. It makes another manifest, and signatures are over that.
positional: _input
options:
  _input:
    description:
      - A list of dictionaries. C(scope) is C(HOST), C(HOST/NAMESPACE), C(HOST/NAME), C(HOST/NAME:TAG) or C(*.DOMAIN), C(key) the resource of the KBS with the
        public key.
      - C(kind) is C(cosign) (the default) or C(gpg) for simple signing. C(identity) names the repository that was signed, where it is another one, as for a
        mirror.
      - Or the policy to check.
    type: raw
    required: true
seealso:
  - plugin: attested.ai.image_security_policy_keys
    plugin_type: filter
  - plugin: attested.ai.initdata_kbs
    plugin_type: filter
  - module: attested.ai.kbs_resource
"""

EXAMPLES = r"""
- name: Let in what our key signed, and nothing else
  attested.ai.kbs_resource:
    url: https://kbs.example.org:8080
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    state_path: state/kbs.json
    resources:
      - path: default/cosign-public-key/inference
        src: cosign.pub
      - path: default/security-policy/inference
        content: "{{ images | attested.ai.image_security_policy | to_json }}"
  vars:
    images:
      - {scope: registry.example.org/inference, key: kbs:///default/cosign-public-key/inference}
"""

RETURN = r"""
_value:
  description: The policy. Guests read it as JSON.
  type: dict
"""


@guarded
def image_security_policy(value: t.Any) -> dict[str, t.Any]:
    if isinstance(value, str):
        return signature_policy.check(strict.loads(str(value), "image policy"))
    given = plain(value, "image_security_policy")
    return signature_policy.generate(given) if isinstance(given, list) else signature_policy.check(given)


@guarded
def image_security_policy_keys(value: t.Any) -> list[str]:
    return list(signature_policy.keys(image_security_policy(value)))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"image_security_policy": image_security_policy, "image_security_policy_keys": image_security_policy_keys}
