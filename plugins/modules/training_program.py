#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: training_program
short_description: Make the files of an image that runs a job of several owners by itself
version_added: 0.1.0
description:
  - Makes one file, a zip archive that Python runs, of the parts of this collection that M(attested.ai.training_run) runs; units of systemd that start it at
    boot; the user of the job's program; and settings. P(attested.ai.guest_image#role) puts them into an image, and they are measured with it.
  - A guest with that image takes agreement, program and ciphertext from a disk of its host, fetches the keys from the owners' brokers, leaves the encrypted
    results on another disk, checkpoints on a third one where they were agreed on, and powers off. Nobody logs in, and nothing is handed over.
  - The same version of the collection and the same options give the same bytes.
  - Runs on the controller, whatever the host of the task.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.guest_pull
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Of the archive, which is no text, the digests are shown.
  idempotent:
    support: full
options:
  dest:
    description: Folder on the controller for the files. It is made if it is not there.
    type: path
    required: true
  directory:
    description: As in M(attested.ai.training_run). The image mounts memory there, of which a job may fill four fifths. Another directory is smaller.
    type: path
    default: /run/attested/training
  session_directory:
    description: As in M(attested.ai.training_run).
    type: path
    default: /run/attested-ai
  session_lifetime:
    description: As in M(attested.ai.training_run).
    type: int
    default: 900
  isolation:
    description: As in M(attested.ai.training_run). Only the image has a say in it, never who brings the job.
    type: str
    choices: [unit, process]
    default: unit
  seconds:
    description: As in M(attested.ai.training_run).
    type: int
    default: 86400
  memory_max:
    description: As in M(attested.ai.training_run).
    type: str
    default: 90%
  scratch_size:
    description: As in M(attested.ai.training_run).
    type: str
    default: 25%
  gpu:
    description: As in M(attested.ai.training_run).
    type: bool
    default: false
notes:
  - The image needs Python 3.8 and the Python library cryptography (38 or newer), as Debian 12 and Ubuntu 24.04 package it, and whatever the job's command is.
seealso:
  - module: attested.ai.training_agreement
  - module: attested.ai.training_run
"""

EXAMPLES = r"""
- name: Make what starts the job
  attested.ai.training_program:
    dest: training-image
    seconds: 7200
  register: training
  delegate_to: localhost

- name: Build an image that nobody can log in to
  ansible.builtin.include_role:
    name: attested.ai.guest_image
  vars:
    guest_image_name: training
    guest_image_ssh: false
    guest_image_files: "{{ training.files }}"
    guest_image_enable: "{{ training.enable }}"
    guest_image_packages: "{{ training.packages + ['python3-sklearn'] }}"
"""

RETURN = r"""
dest:
  description: The folder.
  returned: success
  type: str
  sample: /home/user/training-image
files:
  description: The files, as the role C(guest_image) takes them.
  returned: success
  type: list
  elements: dict
  sample: [{src: /home/user/training-image/training.pyz, dest: /usr/lib/attested-ai/training.pyz, mode: "0644"}]
digests:
  description: SHA-256 of each file by its path in the image.
  returned: success
  type: dict
  sample: {/usr/lib/attested-ai/training.pyz: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0}
enable:
  description: Units that the image has to start.
  returned: success
  type: list
  elements: str
  sample: [attested-training.service]
packages:
  description: Packages that the image needs for it.
  returned: success
  type: list
  elements: str
  sample: [python3-cryptography]
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: training-options
"""
