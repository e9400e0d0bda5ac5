#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_policy
short_description: Set the policies of a key broker of Confidential Containers
version_added: 0.1.0
description:
  - Brings the resource policy (who gets what) or an attestation policy (what counts as sound) of one or several key brokers (KBS of Trustee) to what it shall
    be. It is given as Rego, or made from O(grants) or from the O(policy) that M(attested.ai.attest) uses.
  - Trustee does not tell its policies everything that a policy may ask. What it cannot check is a gap, and the task fails unless O(accept_gaps) names it.
  - Trustee 0.21 takes Rego that it cannot read, and then refuses everybody. So Rego of your own is looked at before. This is no whole parser.
  - There is one resource policy for a whole KBS. Give all grants in one task.
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
  diff_mode:
    support: full
    details: Shows digests, and with O(dest) the text. A KBS does not give a policy back.
  idempotent:
    support: full
requirements:
  - cryptography >= 38 on the controller
options:
  kind:
    description: V(resource) for the policy of the KBS, V(attestation) for one of its attestation service.
    type: str
    choices: [resource, attestation]
    required: true
  policy_id:
    description: Which attestation policy. Others than these have no effect.
    type: str
    choices: [default_cpu, default_gpu, default_switch, default_ppcie]
    default: default_cpu
  src:
    description: File on the controller with Rego.
    type: path
  content:
    description: Rego.
    type: str
  policy:
    description: The appraisal policy, as a dictionary or as the path of a file, to make C(default_cpu) from.
    type: raw
  reference_values:
    description: The measurements that go with O(policy). They become part of the Rego, each with its end.
    type: raw
  accept_gaps:
    description: Names of what O(policy) asks and Trustee cannot check, to be left out. A name that is no gap is an error.
    type: list
    elements: str
    default: []
  allow_sample:
    description: Accept the sample TEE, which is software and proves nothing. For trials.
    type: bool
    default: false
  grants:
    description:
      - Who gets what, to make the resource policy from. An empty list lets nobody have anything.
      - A guest gets a resource if a grant names it, its CPU and all devices in its token are affirming, and its init-data is one that the grant pins.
      - Guests also fetch what they need themselves through this policy, such as image policies, credentials of registries and the key of sealed secrets.
    type: list
    elements: dict
    suboptions:
      name:
        description: For people, a comment in the Rego.
        type: str
        required: true
      resources:
        description: Patterns C(repository/type/tag). An asterisk may stand for the type or the tag.
        type: list
        elements: str
        required: true
      tees:
        description: Kinds of CPU evidence. V(sample) is software and proves nothing.
        type: list
        elements: str
        choices: [snp, tdx, sample]
        default: [snp, tdx]
      gpu:
        description: How many GPUs must be in the token, affirming.
        type: int
        default: 0
      switch:
        description: How many NVSwitches must be in the token, affirming.
        type: int
        default: 0
      init_data:
        description:
          - Init-data that the workload may have been launched with. Each is what the filter P(attested.ai.initdata#filter) returned, the path of a document
            (C(.toml)), or a digest as it is in the token.
        type: list
        elements: raw
        default: []
      init_data_waiver:
        description: Why init-data need not be pinned. It is printed each time.
        type: str
  dest:
    description: File on the controller to keep the Rego in, for people to read. Its diff is shown.
    type: path
seealso:
  - module: attested.ai.kbs_reference_values
  - module: attested.ai.kbs_resource
  - plugin: attested.ai.initdata
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Give the model's key to this workload on machines with a GPU, and to nobody else
  attested.ai.kbs_policy:
    url: https://kbs.example.org:8080
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    state_path: state/kbs.json
    kind: resource
    grants:
      - name: inference
        resources:
          - default/key/model-7
          - default/signing-key/sealed-secret
          - default/security-policy/prod
        gpu: 1
        init_data: [initdata.toml]
    dest: state/resource-policy.rego
  run_once: true

- name: Let Trustee ask for what attest asks for
  attested.ai.kbs_policy:
    url: https://kbs.example.org:8080
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    state_path: state/kbs.json
    kind: attestation
    policy: trustee-policy.yml
    reference_values: reference-values.yml
    accept_gaps:
      - sev_snp.allow_masked_chip_id
      - sev_snp.require_platform_info.alias_check_complete
    dest: state/default_cpu.rego
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
      kind: resource-policy
      name: resource-policy
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

rego:
  description: The policy.
  returned: success
  type: str
  sample: "package policy ..."
digest:
  description: SHA-256 of the policy, hexadecimal.
  returned: success
  type: str
  sample: 9d4dc4c2b3f3f0a3f1c6c1c0a1d2a5f0b7a8a9a0a1a2a3a4a5a6a7a8a9b0b1b2
gaps:
  description: What O(policy) asks for and this Rego does not, with the reason.
  returned: success
  type: list
  elements: dict
  sample: [{name: sev_snp.products, why: "Trustee accepts Milan, Genoa and Turin and does not tell which"}]
notes:
  description: What else a person should know, also printed as warnings.
  returned: success
  type: list
  elements: str
  sample: []
"""
