#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_known_hosts
short_description: Keep the known_hosts file of a guest that makes its host keys anew at each boot
version_added: 0.1.0
description:
  - Writes a file of C(known_hosts) on the controller that holds the host keys of one guest, and nothing else, under the name by which the connection in use
    looks them up. Keys that it held before are gone, so that a key that once lay on a disk is no longer accepted.
  - A key in this file says which guest is spoken to, and not what that guest is. M(attested.ai.attest) compares these keys with those that the guest bound
    into its evidence, and refuses it where they differ.
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
    support: full
  idempotent:
    support: full
    details: With O(keyscan=true) as long as the guest offers the same keys.
options:
  path:
    description:
      - The file on the controller. Relative paths are relative to the playbook's directory.
      - The connection must read it, and no other file that knows this guest, such as by C(ansible_ssh_common_args=-o UserKnownHostsFile=...).
    type: path
    required: true
  keys:
    description: Public keys of the guest, each as C(type base64), such as RV(attested.ai.tee_guest_info#module:ssh) brings them over the present connection.
    type: list
    elements: str
    default: []
  keyscan:
    description:
      - Take the keys that C(ssh-keyscan) is offered now, after a reboot. Whoever sits in between can offer keys of his own. Attest the guest before anything
        is done with it.
      - Mutually exclusive with O(keys). Without either nothing is written, and RV(wired) tells whether the connection would take the file.
    type: bool
    default: false
  keep:
    description: Keep the keys that are in the file, for the time of a change.
    type: bool
    default: false
notes:
  - On connections that are not ssh nothing is done.
seealso:
  - module: attested.ai.attest
  - module: attested.ai.tee_guest_info
"""

EXAMPLES = r"""
# The inventory says, of the group of guests
#   ansible_ssh_common_args: -o UserKnownHostsFile={{ inventory_dir }}/known_hosts.d/{{ inventory_hostname }}

- name: Learn the keys of a guest that was rebooted
  attested.ai.guest_known_hosts:
    path: "{{ inventory_dir }}/known_hosts.d/{{ inventory_hostname }}"
    keyscan: true

- name: Find out whether they are those of a genuine guest
  attested.ai.attest:
    policy: policy.yml
    reference_values: reference-values.yml
"""

RETURN = r"""
ssh:
  description: Whether the connection is ssh.
  returned: success
  type: bool
  sample: true
checked:
  description: Whether it compares host keys at all.
  returned: success
  type: bool
  sample: true
wired:
  description: Whether it takes the keys of this guest from O(path), and from nowhere else.
  returned: success
  type: bool
  sample: true
problem:
  description: Why it does not. Empty if it does.
  returned: success
  type: str
  sample: this connection reads /root/.ssh/known_hosts, not /srv/inventory/known_hosts.d/guest1
path:
  description: The file, as a full path.
  returned: success
  type: str
  sample: /srv/inventory/known_hosts.d/guest1
code:
  description: A stable word for the reason of a failure, V(ssh-client), V(ssh-key-invalid), V(ssh-unreachable) or V(controller).
  returned: failure
  type: str
  sample: ssh-unreachable
"""
