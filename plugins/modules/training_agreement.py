#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: training_agreement
short_description: Write down what owners of data agree on before a job may run over it
version_added: 0.1.0
description:
  - Writes who brings which data set, which program runs by which command, and who gets which output, as one file of canonical JSON. Its SHA-256 is the
    agreement. A guest is launched with it, and each owner's key broker asks for it in the guest's evidence.
  - Each owner makes it from its own copy of the program, or reads the file that another one made, and compares RV(digest).
  - Runs on the controller, whatever the host of the task.
author: attested.ai contributors (@attested-ai)
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
options:
  path:
    description: The file. It is written if O(job) is given, and read otherwise.
    type: path
    required: true
  job:
    description: Name of the job, of small letters, digits and dashes. Goes with O(command), O(parties), O(outputs) and O(code).
    type: str
  code:
    description: Folder with the program. Where the file is only read, the program has to be the one that it names.
    type: path
  command:
    description:
      - What is run. It begins with an absolute path, and that program is part of the image. C({code}) is the folder of the program, C({data}) has a folder for
        each party, named by its id, and C({out}) is where the program makes a folder for each output.
    type: list
    elements: str
  parties:
    description: The owners, in any order.
    type: list
    elements: dict
    suboptions:
      id:
        description: Name of the owner, of small letters, digits and dashes.
        type: str
        required: true
      model_id:
        description: Name of its data set, as M(attested.ai.model_encrypt) was told.
        type: str
        required: true
      manifest_sha256:
        description: SHA-256 of its manifest, which names this release and each of its files, as M(attested.ai.model_encrypt) returned it.
        type: str
        required: true
      manifest_signer:
        description: Public key that signed the data set's manifest, as a JWK or the path of a JWK or PEM file. Its thumbprint is in the agreement.
        type: raw
        required: true
      result_key:
        description: Public key (EC P-256) that its results are encrypted to, as a JWK or the path of a JWK or PEM file.
        type: raw
        required: true
  outputs:
    description:
      - Names of outputs, each with V(all) or a list of parties that get it, in order.
      - C(log), if it is there, gets what the program prints. Without it nobody gets that.
    type: dict
  checkpoints:
    description:
      - What the program leaves in C({out}/checkpoints) while it runs is kept and encrypted, and outlives the job however that ends. Without it there are none.
      - An agreement without it has the bytes that it had before there was this option. One with it is refused by older versions of this collection, in the
        guest and at each owner.
    type: dict
    suboptions:
      recipients:
        description: V(all) or a list of parties that get them, in order.
        type: raw
        required: true
      keep:
        description: How many of the newest are kept, 1 to 64.
        type: int
        default: 2
seealso:
  - module: attested.ai.training_run
  - module: attested.ai.training_result
"""

EXAMPLES = r"""
- name: Write down what two clinics agree on
  attested.ai.training_agreement:
    path: agreement.json
    job: cells-1
    code: program
    command: [/usr/bin/python3, "{code}/train.py", "{data}", "{out}"]
    parties:
      - id: clinic-a
        model_id: cells-a
        manifest_sha256: 7c9e66790f1b3ad2c4e58b0d6f7a1e2c3b4d5f60718293a4b5c6d7e8f9a0b1c2
        manifest_signer: a/signer.pub.jwk
        result_key: a/result.pub.pem
      - id: clinic-b
        model_id: cells-b
        manifest_sha256: 1b3ad2c4e58b0d6f7a1e2c3b4d5f60718293a4b5c6d7e8f9a0b1c27c9e66790f
        manifest_signer: b/signer.pub.jwk
        result_key: b/result.pub.pem
    outputs: {metrics: all, model: [clinic-a]}
  register: agreed

- name: Read what another owner wrote, and compare the program
  attested.ai.training_agreement:
    path: agreement.json
    code: program
"""

RETURN = r"""
digest:
  description: SHA-256 of the agreement.
  returned: success
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
fields:
  description:
    - What the evidence of a guest holds that was launched for it, by kind of evidence, for C(host_data) or C(mrconfigid) of a policy, or for C(init_data) of a
      grant in M(attested.ai.kbs_policy).
  returned: success
  type: dict
  sample: {sev-snp: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0}
code_digest:
  description: SHA-256 over paths, sizes and contents of the program's files.
  returned: success
  type: str
  sample: 5d9c0e4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1
job:
  description: Name of the job.
  returned: success
  type: str
  sample: cells-1
command:
  description: What is run.
  returned: success
  type: list
  elements: str
  sample: [/usr/bin/python3, "{code}/train.py", "{data}", "{out}"]
parties:
  description: Ids of the owners.
  returned: success
  type: list
  elements: str
  sample: [clinic-a, clinic-b]
outputs:
  description: Who gets which output.
  returned: success
  type: dict
  sample: {metrics: [clinic-a, clinic-b], model: [clinic-a]}
checkpoints:
  description: Who gets checkpoints, and how many are kept.
  returned: success, if there are any
  type: dict
  sample: {keep: 2, recipients: [clinic-a]}
path:
  description: The file.
  returned: success
  type: str
  sample: /home/user/agreement.json
code:
  description: A stable word for the reason of a failure, for instance V(agreement-form) or V(training-code).
  returned: failure
  type: str
  sample: agreement-form
"""
