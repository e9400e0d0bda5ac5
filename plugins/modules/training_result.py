#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: training_result
short_description: Open a result of a job that ran over the data of several owners
version_added: 0.1.0
description:
  - Opens one output of M(attested.ai.training_run) with the owner's own key.
  - Before that it finds out whether the output came from this very agreement, and from a guest to which the owner's key broker had released what
    M(attested.ai.kbs_model_key) stored for jobs of it. Anybody can encrypt to a public key; only such a guest can make the tag.
  - Runs on the controller, whatever the host of the task.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: Agreement, key, tag, signature and sizes are checked. Nothing is decrypted.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  agreement:
    description: File with the agreement, as the owner signed it off.
    type: path
    required: true
  party:
    description: Id of the owner.
    type: str
    required: true
  output:
    description: Name of the output, or C(checkpoints) where the agreement has them.
    type: str
    required: true
  src:
    description: Folder with the results, as the role P(attested.ai.training_job#role) fetched them.
    type: path
    required: true
  checkpoint:
    description:
      - Number of the checkpoint. Without it the one with the highest number is opened, which is refused where they are of more than one run.
      - Refused for what is no checkpoint, as is O(checkpoint_minimum).
    type: int
  checkpoint_minimum:
    description: The lowest number that is taken, for who knows of that checkpoint already. Newer ones that the host left out are not missed otherwise.
    type: int
    default: 1
  dest:
    description: Folder for the plaintext, for the user of the task alone.
    type: path
    required: true
  key:
    description: File with the private half (PEM) of the owner's result key. Nobody else may read it.
    type: path
    required: true
seealso:
  - module: attested.ai.kbs_model_key
  - module: attested.ai.training_agreement
  - module: attested.ai.training_run
"""

EXAMPLES = r"""
- name: Open the model
  attested.ai.training_result:
    agreement: agreement.json
    party: clinic-a
    output: model
    src: results
    dest: opened/model
    key: secrets/result.pem

- name: Open the newest checkpoint of a job that did not come to its end
  attested.ai.training_result:
    agreement: agreement.json
    party: clinic-a
    output: checkpoints
    src: results
    dest: opened/checkpoint
    key: secrets/result.pem
"""

RETURN = r"""
dest:
  description: Where it is open.
  returned: success
  type: str
  sample: /home/user/opened/model
files:
  description: Its files.
  returned: success
  type: list
  elements: str
  sample: [model.json]
made_at:
  description: When the guest encrypted it, by the guest's clock.
  returned: success
  type: str
  sample: "2026-11-28T12:00:00Z"
succeeded:
  description: Whether the program did what it should. If not, this is its log. Of a checkpoint, which is made before that is known, it is true.
  returned: success
  type: bool
  sample: true
checkpoint:
  description: Number of the checkpoint.
  returned: success, where O(output) is C(checkpoints)
  type: int
  sample: 50
run:
  description: Of which start of the program it is, a random word.
  returned: success, where O(output) is C(checkpoints)
  type: str
  sample: 8d1c2f4b6a7e9035c1d2e3f4a5b6c7d8
agreement:
  description: SHA-256 of the agreement.
  returned: success
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
code:
  description: A stable word for the reason of a failure, for instance V(result-tag), V(result-other), V(result-recipient) or
    V(result-checkpoint-runs).
  returned: failure
  type: str
  sample: result-tag
"""
