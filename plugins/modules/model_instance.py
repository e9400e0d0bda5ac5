#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_instance
short_description: Change over to an instance of a model server, while the old one serves until the new one is ready
version_added: 0.1.0
description:
  - Starts an instance of the units that the role P(attested.ai.model_server#role) makes, beside the one that serves. It opens the model with the key of a
    session into memory that only its own unit sees, and starts the model server.
  - When it answers, new requests go to it. The old instance ends what it has begun, and its memory goes with it.
  - If anything fails, the new instance is ended, its memory is gone, and the old one serves as before.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
    details: Says whether another instance would serve. For that the session is not needed.
  diff_mode:
    support: full
    details: Shows which instances run and which one serves.
  idempotent:
    support: full
    details: An instance that serves already is left alone. Its session is neither needed nor used.
options:
  name:
    description: Name of the model server, of small letters, digits and dashes.
    type: str
    required: true
  state:
    description:
      - V(present) has O(instance) serve, and no other.
      - V(absent) ends all of them. Plaintext and keys in their memory are gone then.
    type: str
    choices: [present, absent]
    default: present
  instance:
    description:
      - Name of the instance, 16 hexadecimal digits. The role derives it from the manifest and from everything else that makes one instance another.
      - Required if O(state=present).
    type: str
  src:
    description: Directory on the guest with the encrypted model.
    type: path
  session:
    description: Name of the session that holds the released key, from M(attested.ai.model_release). Swept in every outcome of a start.
    type: str
  session_directory:
    description: Directory of the sessions.
    type: path
    default: /run/attested-ai
  dest:
    description: Directory on which the unit mounts its own memory. For everybody else it is empty, which is checked before anything is changed over.
    type: path
    default: /var/lib/attested-model/open
  order:
    description: What the instance is to do, as the role puts it together.
    type: dict
    suboptions:
      command:
        description: What starts the model server. C({path}), C({port}) and C({name}) are filled in.
        type: list
        elements: str
        required: true
      user:
        description: User of the model server.
        type: str
        required: true
      front_user:
        description: User of the front, who alone may connect.
        type: str
        required: true
      port:
        description: Port on the loopback of the unit's own network.
        type: int
        default: 8000
      file:
        description: The one file of the model that C({path}) names. When empty, it is the directory.
        type: str
        default: ""
      probe:
        description: Path that answers when the model server is ready. When empty, its port has to open.
        type: str
        default: ""
      env:
        description: Environment of the model server. No secrets belong here.
        type: dict
        default: {}
      start_seconds:
        description: How long it may take to be ready.
        type: int
        default: 900
      drain_seconds:
        description: How long requests that are under way may go on when it is ended.
        type: int
        default: 30
      restarts:
        description: How often a model server that fell over is started again.
        type: int
        default: 3
      copy:
        description: Whether the plaintext stays in memory when the model server is ready.
        type: str
        choices: [keep, drop_after_ready]
        default: keep
      threads:
        description: How many threads decrypt. The default is the number of processors, at most 8.
        type: int
notes:
  - Needs systemd, and root.
seealso:
  - module: attested.ai.model_release
  - module: attested.ai.model_request
"""

EXAMPLES = r"""
- name: See whether another instance would serve, before a key is released for it
  attested.ai.model_instance:
    name: minilm
    instance: 0d5c4f3e9f7b1a7f
  check_mode: true
  become: true
  register: wanted

- name: Change over
  attested.ai.model_instance:
    name: minilm
    instance: 0d5c4f3e9f7b1a7f
    src: /var/lib/attested-model/minilm/0d5c4f3e9f7b1a7f
    session: "{{ release.session }}"
    order:
      command: [/opt/server/bin/serve, --model, "{path}", --port, "{port}"]
      user: attested-model
      front_user: attested-front
  become: true

- name: End it, and with it the plaintext in its memory
  attested.ai.model_instance:
    name: minilm
    state: absent
  become: true
"""

RETURN = r"""
serving:
  description: The instance that serves now.
  returned: success
  type: str
  sample: 0d5c4f3e9f7b1a7f
before:
  description: The instance that served before.
  returned: success
  type: str
  sample: 5d9c0e4f3e9f7b1a
ended:
  description: Instances that were ended.
  returned: success
  type: list
  elements: str
  sample: [5d9c0e4f3e9f7b1a]
code:
  description: A stable word for the reason of a failure, for instance V(instance-failed), V(no-session) or V(not-private).
  returned: failure
  type: str
  sample: instance-failed
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.switching import Wish, apply
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors

ORDER = {
    "command": {"type": "list", "elements": "str", "required": True},
    "user": {"type": "str", "required": True},
    "front_user": {"type": "str", "required": True},
    "port": {"type": "int", "default": 8000},
    "file": {"type": "str", "default": ""},
    "probe": {"type": "str", "default": ""},
    "env": {"type": "dict", "default": {}},
    "start_seconds": {"type": "int", "default": 900},
    "drain_seconds": {"type": "int", "default": 30},
    "restarts": {"type": "int", "default": 3},
    "copy": {"type": "str", "choices": ["keep", "drop_after_ready"], "default": "keep"},
    "threads": {"type": "int"},
}
ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "instance": {"type": "str"},
    "src": {"type": "path"},
    "session": {"type": "str"},
    "session_directory": {"type": "path", "default": "/run/attested-ai"},
    "dest": {"type": "path", "default": "/var/lib/attested-model/open"},
    "order": {"type": "dict", "options": ORDER},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_if=[("state", "present", ["instance"])], supports_check_mode=True)
    try:
        with signals_as_errors():
            result = apply(Wish(**module.params), lambda argv: module.run_command(list(argv)), module.check_mode)
        module.exit_json(**result)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
