#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_report
short_description: Carry what a gateway released back to the centre
version_added: 0.1.0
description:
  - V(exported) writes the lines of a gateway's ledger since the last bundle, and its signed head, as one signed file.
  - V(received) verifies that file at the centre and joins it to the centre's copy of this gateway's ledger. A gap, an older report, and a ledger that was
    replaced or put back are refused. The copy is a ledger that M(attested.ai.key_ledger) reads.
  - The next bundle that M(attested.ai.edge_bundle) makes names the last entry that the centre has. A gateway whose ledger lacks it does not install it.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A report is written, and taken, only if it has something new.
requirements:
  - cryptography >= 38 on the controller
options:
  state:
    description: V(exported) on the gateway, V(received) at the centre.
    type: str
    required: true
    choices: [exported, received]
  report:
    description: The report's file. Written if O(state=exported), read if O(state=received).
    type: path
    required: true
  gateway:
    description: The gateway's directory. Required if O(state=exported).
    type: path
  signer:
    description: The centre's public key. Required if O(state=exported), where the installed bundle says what the centre has.
    type: raw
  since:
    description: Export what follows this entry. By default what follows the last one that the centre had when it made the installed bundle.
    type: int
  centre:
    description: The directory in which the centre remembers its gateways. Required if O(state=received).
    type: path
  name:
    description: Whose report is expected. Required if O(state=received).
    type: str
seealso:
  - module: attested.ai.edge_bundle
  - module: attested.ai.key_ledger
"""

EXAMPLES = r"""
- name: Pack what was released (at the site)
  attested.ai.edge_report:
    state: exported
    gateway: gateway
    signer: centre.pub.pem
    report: out/plant-1-report.tar

- name: Take it (at the centre)
  attested.ai.edge_report:
    state: received
    centre: centre
    name: plant-1
    report: in/plant-1-report.tar
  register: back

- name: Nothing was released that was not granted
  ansible.builtin.assert:
    that: back.findings == []
"""

RETURN = r"""
entries:
  description: The entries that are new, as M(attested.ai.key_ledger) returns them.
  returned: O(state=received)
  type: list
  elements: dict
  sample: [{seq: 1, decision: released, model_id: minilm, release: 1, host: guest-1, at: "2026-11-02T08:00:00Z"}]
count:
  description: Entries in the report if O(state=exported), entries that the centre has now if O(state=received).
  returned: success
  type: int
  sample: 3
head:
  description: SHA-256 of the last entry.
  returned: success
  type: str
  sample: f6263dfc505b8041faf5970ba757ed16513ec5d4b880000955d897a9568f3c0f
since:
  description: After which entry the report begins.
  returned: O(state=exported)
  type: int
  sample: 0
findings:
  description:
    - What a ledger that holds tells all the same, with C(code) and C(detail). V(edge-overused) are more releases than granted, V(edge-ungranted) is one
      that no bundle granted, V(edge-clock-back) is a time before that of the entry before. Each is a warning, too.
  returned: O(state=received)
  type: list
  elements: dict
  sample: []
sequence:
  description: Number of the bundle that was installed when the report was made.
  returned: O(state=received)
  type: int
  sample: 4
reported_at:
  description: When the report was made, by the gateway's clock.
  returned: O(state=received)
  type: str
  sample: "2026-11-20T09:00:00Z"
code:
  description: A stable word for what went wrong, for instance V(edge-report-gap), V(edge-report-forked) or V(edge-report-signature).
  returned: failure
  type: str
  sample: edge-report-gap
"""
