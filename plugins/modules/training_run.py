#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: training_run
short_description: Run a job over the encrypted data of several owners, as they agreed on it
version_added: 0.1.0
description:
  - Runs on the confidential guest. Looks whether the guest was launched for the agreement and the program is the one agreed on, fetches the key of each
    owner's data set from that owner's key broker, opens the data sets in memory, runs the program as a user without rights and without a network, and
    encrypts what came out for those who are to have it.
  - What the program leaves as checkpoints while it runs is encrypted then, where the agreement says so, and stays however the job ends. If one cannot be kept,
    the program is ended. If that is found when it has come to its end with status 0, its results are released all the same, with a warning.
  - While one broker refuses, nothing is opened. While one data set does not open, the program is not started. Then all keys are swept and what was opened is
    wiped.
  - Usually run by the role P(attested.ai.training_job#role).
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.guest_pull
attributes:
  check_mode:
    support: full
    details:
      - Agreement, launch, program and manifests are looked at. No broker is asked.
      - Results that lie there count as done by what they say. Otherwise they do not, see below.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - Where all results of this very agreement lie in O(results), made or verified since the guest booted, nothing is done.
      - If the guest does not know them, the brokers are asked for the keys, and all tags are checked with them. The program does not run again. Results with
        a wrong tag are an error.
options:
  agreement:
    description: File on the guest with the agreement, from M(attested.ai.training_agreement).
    type: path
    required: true
  state:
    description:
      - V(absent) ends what a run that was cut off left, and removes it from memory. Checkpoints stay. Results stay, and are verified anew by the next run.
    type: str
    choices: [present, absent]
    default: present
  code:
    description: Folder on the guest with the program. Required if O(state=present).
    type: path
  results:
    description:
      - Folder on the guest for the results, as ciphertext. It appears in one step. Required if O(state=present).
      - If the program fails and the agreement has an output C(log), that alone is there, and it says so. It does not count as a result.
    type: path
  checkpoints:
    description:
      - Folder on the guest for checkpoints, as ciphertext. Required if the agreement has checkpoints, and else not used.
      - Each appears in one step, while the program runs, under its number. The newest are kept, as many as the agreement says.
      - Where checkpoints lie there already, the job does not start.
    type: path
  directory:
    description: Folder in memory that is never swapped, in which the job has a folder while it runs.
    type: path
    default: /run/attested-training
  sources:
    description: For each party where its ciphertext lies and where its key is fetched. Required if O(state=present).
    type: list
    elements: dict
    suboptions:
      party:
        description: Its id in the agreement.
        type: str
        required: true
      src:
        description: Directory on the guest with the encrypted data set, made by M(attested.ai.model_encrypt). It may belong to the host.
        type: path
        required: true
      url:
        description: Address of its key broker, as the guest reaches it.
        type: str
        required: true
      pins:
        description: As in M(attested.ai.guest_key_pull).
        type: list
        elements: str
        default: []
      ca:
        description: As in M(attested.ai.guest_key_pull).
        type: str
        default: ""
      server_name:
        description: As in M(attested.ai.guest_key_pull).
        type: str
        default: ""
      resource:
        description: The resource with the key, stored by M(attested.ai.kbs_model_key) for this agreement.
        type: str
        required: true
  session_directory:
    description: Directory of the sessions, in memory.
    type: path
    default: /run/attested-ai
  session_lifetime:
    description: Seconds within which a broker has to release its key. How long it takes to open the data does not count.
    type: int
    default: 900
  isolation:
    description:
      - V(unit) runs the program in a transient unit of systemd.
      - V(process) is for trials with the Soft TEE. It is refused unless O(method=configfs) and O(tsm_path) is not on the kernel's configfs,
        wherever that is mounted.
    type: str
    choices: [unit, process]
    default: unit
  user:
    description: User of the program, in a group of the same name.
    type: str
    default: attested-training
  seconds:
    description: How long the program may run.
    type: int
    default: 86400
  memory_max:
    description: Memory that it may have, in the words of systemd.
    type: str
    default: 90%
  scratch_size:
    description: Size of each of its folders for temporary files, which are memory.
    type: str
    default: 25%
  gpu:
    description: Whether it sees the devices of the guest.
    type: bool
    default: false
notes:
  - Needs the Python library cryptography (38 or newer), and root and systemd with O(isolation=unit).
seealso:
  - module: attested.ai.training_agreement
  - module: attested.ai.training_result
  - module: attested.ai.guest_key_pull
"""

EXAMPLES = r"""
- name: Train over the data of two clinics
  attested.ai.training_run:
    agreement: /var/lib/attested-training/agreement.json
    code: /var/lib/attested-training/code
    results: /var/lib/attested-training/results
    sources:
      - party: clinic-a
        src: /var/lib/attested-training/data/clinic-a
        url: https://kbs.a.example.org:8080
        pins: [sha256:3f2a1c0d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4938271605f4e3d2c1b0a99887]
        resource: kbs:///default/training-key/cells-1
      - party: clinic-b
        src: /var/lib/attested-training/data/clinic-b
        url: https://kbs.b.example.org:8080
        pins: [sha256:88a7990a1b2c3d4e5f60718293a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2]
        resource: kbs:///default/training-key/cells-1
  become: true
"""

RETURN = r"""
agreement:
  description: SHA-256 of the agreement.
  returned: success
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
job:
  description: Name of the job.
  returned: success
  type: str
  sample: breast-cancer-1
outputs:
  description: Names of the results.
  returned: success, when O(state=present)
  type: list
  elements: str
  sample: [metrics, model]
released:
  description: For which keys the brokers said yes. Never a key.
  returned: when keys were fetched
  type: list
  elements: dict
  sample: [{party: clinic-a, model_id: cells-a, release: 1, key_id: cells-a-1-4f9a02c7, resource: "kbs:///default/training-key/cells-1", anchored: false}]
checkpoints:
  description: Numbers of the checkpoints that were kept.
  returned: when the program ran and the agreement has checkpoints
  type: list
  elements: int
  sample: [40, 50]
checkpoint_failure:
  description: Why its last checkpoint could not be kept. The results are whole.
  returned: when the program came to its end with status 0, and one of its checkpoints could not be kept
  type: str
  sample: "/run/attested-training/cells-1/out/checkpoints: checkpoint 60 cannot be kept: No space left on device. Earlier ones are kept."
code:
  description: A stable word for the reason of a failure, for instance V(training-code), V(training-launch), V(kbs-evidence) or V(kbs-policy-denied).
  returned: failure
  type: str
  sample: training-launch
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull_options import BROKER
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors
from ansible_collections.attested.ai.plugins.module_utils.training.options import SETTINGS, USER, apply

SOURCE = {"party": {"type": "str", "required": True}, "src": {"type": "path", "required": True}, **BROKER}
ARGUMENT_SPEC = {
    "agreement": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "code": {"type": "path"},
    "results": {"type": "path"},
    "checkpoints": {"type": "path"},
    "sources": {"type": "list", "elements": "dict", "options": SOURCE},
    "user": {"type": "str", "default": USER},
    **SETTINGS,
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_if=[("state", "present", ["code", "results", "sources"])], supports_check_mode=True)
    try:
        with signals_as_errors():
            result = apply(module.params, module.check_mode, lambda argv: module.run_command(list(argv)))
        if "checkpoint_failure" in result:
            module.warn("The job is done, but %s" % result["checkpoint_failure"])
        module.exit_json(**result)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
