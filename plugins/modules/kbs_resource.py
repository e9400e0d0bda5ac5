#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_resource
short_description: Store secrets in a key broker of Confidential Containers
version_added: 0.1.0
description:
  - Brings resources of one or several key brokers (KBS of Trustee) to what they shall be.
  - A KBS gives nothing back to an admin. What was stored is therefore remembered on the controller by digests (O(state_path)), and compared with these.
  - All resources of a task are checked before anything is sent, then stored one after the other. If one fails, the rest is left, and RV(changes) and
    RV(not_changed) say how far it came. Run it again when the cause is mended.
  - A guest that holds a secret keeps it. Replacing a resource changes what is given out from then on, and recalls nothing. Data that was encrypted under the
    old key needs the old key, so that a new key is best stored at a new path.
  - Runs on the controller. Use C(run_once) where several hosts are in the play.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.kbs
  - attested.ai.kbs.admin
  - attested.ai.kbs.state
attributes:
  check_mode:
    support: full
    details: Whether a resource that shall be absent is there is known for those that we stored; of others check mode says that nothing changes.
  diff_mode:
    support: full
    details: Shows digests made with the key of the state, never content.
  idempotent:
    support: full
requirements:
  - cryptography >= 38 on the controller
options:
  resources:
    description: The resources. None may occur twice.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: C(repository/type/tag) or C(kbs:///repository/type/tag).
        type: str
        required: true
      state:
        description:
          - With V(absent) it is deleted. A KBS does not tell a resource that is not there from a storage that fails, so that in this case a value of no
            meaning is stored and deleted beside it, under a random name, to see that the storage works.
        type: str
        choices: [present, absent]
        default: present
      src:
        description: File on the controller, decrypted if Ansible Vault encrypted it.
        type: path
      content:
        description: Text.
        type: str
      content_b64:
        description: Bytes in standard base64.
        type: str
      key_file:
        description: File on the controller with a key, mode 0600.
        type: path
      create:
        description: Make O(resources[].key_file) if it is not there, with 32 random bytes, as encrypted images and models need them.
        type: bool
        default: false
seealso:
  - module: attested.ai.kbs_policy
  - module: attested.ai.kbs_info
  - plugin: attested.ai.sealed_secret
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Store the key of a model and the public key of sealed secrets in both KBS
  attested.ai.kbs_resource:
    url:
      - https://kbs-1.example.org:8080
      - https://kbs-2.example.org:8080
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    state_path: state/kbs.json
    resources:
      - path: default/key/model-7
        key_file: secrets/model-7.key
        create: true
      - path: default/signing-key/sealed-secret
        content: "{{ 'secrets/sealed.pem' | attested.ai.sealed_secret_jwk | to_json }}"
      - path: default/key/model-6
        state: absent
  run_once: true
"""

RETURN = r"""
changes:
  description:
    - What was done at each KBS, or would be, in order. C(action) is C(stored), C(replaced), C(deleted) or C(unchanged), C(reason) says why.
    - C(before) and C(after) are digests made with the key of the state. They tell nothing of the content.
  returned: success, and what was done before a failure
  type: list
  elements: dict
  sample:
    - kbs: https://kbs.example.org:8080
      kind: resource
      name: default/key/model-7
      action: stored
      reason: it was not stored by us
      before: null
      after: 52fea888026db7a147131ea33bcc06cfe4d669bf19edcd9891aa7b00d9ce6d2c
not_changed:
  description: What was left undone.
  returned: failure after a part was done
  type: list
  elements: dict
  sample: []
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: kbs-admin-denied

created_files:
  description: Keys that were made, or would be.
  returned: success
  type: list
  elements: str
  sample: [/srv/attestation/secrets/model-7.key]
"""
