#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_reference_values
short_description: Set the reference values of a key broker of Confidential Containers
version_added: 0.1.0
description:
  - Brings the reference values of one or several key brokers (KBS of Trustee with its own attestation service) to those of a document that
    M(attested.ai.reference_values) keeps, in the names that Trustee's default policies read.
  - Reference values can be read back, so that diff and check mode show what is there.
  - Trustee keeps flat lists. What it cannot keep apart is told in RV(notes). A policy made by M(attested.ai.kbs_policy) does not have this limit, because it
    holds the values itself.
  - Trustee forgets no name. What shall not be there becomes an empty list, which nothing is in.
  - Runs on the controller. Use C(run_once) where several hosts are in the play.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.kbs
  - attested.ai.kbs.admin
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - cryptography >= 38 on the controller
options:
  reference_values:
    description:
      - The document, as a dictionary, a path or a list of these. What has expired is left out.
      - It decides about all names that it can have a value for; those without become empty.
    type: raw
  values:
    description: Further values by name, as Trustee's policies expect them, such as C(snp_bootloader). Whether a list or a single value is right depends on the
      policy.
    type: dict
  absent:
    description: Further names that shall have no value. At least one of O(reference_values), O(values) and O(absent) must be given.
    type: list
    elements: str
  at:
    description: Time at which values must still count, in RFC 3339. The default is the controller's clock.
    type: str
seealso:
  - module: attested.ai.reference_values
  - module: attested.ai.kbs_policy
"""

EXAMPLES = r"""
- name: Let Trustee know our measurements and the firmware that we accept
  attested.ai.kbs_reference_values:
    url: https://kbs.example.org:8080
    ca_path: kbs-ca.pem
    admin_key: secrets/kbs-admin.pem
    issuer: ops.example.org
    reference_values: reference-values.yml
    values:
      snp_bootloader: [10]
      snp_microcode: [84]
      snp_snp_svn: [27]
      snp_tee_svn: [0]
  run_once: true
"""

RETURN = r"""
kbs:
  description: One entry for each address, with the values C(before) and C(after), and the names that were C(changed).
  returned: success, and what was done before a failure
  type: list
  elements: dict
  sample:
    - kbs: https://kbs.example.org:8080
      before: {snp_bootloader: null}
      after: {snp_bootloader: [10]}
      changed: [snp_bootloader]
notes:
  description: What Trustee's lists cannot say, also printed as warnings.
  returned: success
  type: list
  elements: str
  sample: ["image inference guest 3: host_data cannot be exported, ask for it in a policy of Trustee's"]
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: kbs-rvps
"""
