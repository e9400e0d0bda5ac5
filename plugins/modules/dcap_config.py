#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dcap_config
short_description: Set keys in the configuration files of QGS, QCNL and PCCS
version_added: 0.1.0
description:
  - Sets single keys in C(/etc/qgs.conf), C(/etc/sgx_default_qcnl.conf) and C(default.json) of PCCS. Comments, order and all other keys stay as they are.
  - What a key was before is recorded under O(state_dir). With O(state=absent), or when a key is not named any more, it is given back, unless somebody
    else has changed it since.
  - A file that its program would refuse to read is refused, too, and never written.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Values of O(secrets) are masked, and those of C(ApiKey), C(UserTokenHash), C(AdminTokenHash) and C(mysql) of PCCS whoever has set them.
  idempotent:
    support: full
options:
  path:
    description: The file. It comes with the program's package, and is not made. A link is followed.
    type: path
    required: true
  style:
    description: V(qgs) for lines with =, V(qcnl) and V(pccs) for JSON with comments.
    type: str
    required: true
    choices: [qgs, qcnl, pccs]
  settings:
    description: Keys of the outermost object, or names, and their values. Null takes a key away.
    type: dict
    default: {}
  secrets:
    description: Keys whose values are secret, such as C(ApiKey), C(UserTokenHash) and C(AdminTokenHash). With O(state=absent) they become empty.
    type: dict
    default: {}
  state:
    description: V(absent) gives back what the keys were before, and ignores O(settings) and O(secrets).
    type: str
    choices: [present, absent]
    default: present
  state_dir:
    description: Where the record is kept, for root alone.
    type: path
    default: /var/lib/attested-ai/dcap-config
notes:
  - Run it as root (C(become)). Python's standard library is enough on the machine. The programs read their files at start only.
"""

EXAMPLES = r"""
- name: QCNL asks our PCCS
  attested.ai.dcap_config:
    path: /etc/sgx_default_qcnl.conf
    style: qcnl
    settings:
      pccs_url: https://pccs.example.com:8081/sgx/certification/v4/
      use_secure_cert: true
  become: true

- name: QGS listens on its Unix socket
  attested.ai.dcap_config:
    path: /etc/qgs.conf
    style: qgs
    settings: {port: null}
  become: true

- name: PCCS knows its tokens by their digests
  attested.ai.dcap_config:
    path: /opt/intel/sgx-dcap-pccs/config/default.json
    style: pccs
    settings: {CachingFillMode: LAZY}
    secrets:
      UserTokenHash: "{{ vault_user_token | ansible.builtin.hash('sha512') }}"
  become: true
"""

RETURN = r"""
record:
  description: Path of the record of what was set.
  returned: success
  type: str
  sample: /var/lib/attested-ai/dcap-config/qgs.conf-5f0f4f8a1c2b.json
code:
  description: A stable word for the reason of a failure, V(config-missing), V(config-invalid), V(config-options) or V(record-invalid).
  returned: failure
  type: str
  sample: config-missing
"""

import os
import tempfile
from typing import NoReturn, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.config_file import Change, plan, record_name, secret_values

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "style": {"type": "str", "required": True, "choices": ["qgs", "qcnl", "pccs"]},
    "settings": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "state_dir": {"type": "path", "default": "/var/lib/attested-ai/dcap-config"},
}


def read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "no UTF-8"
        raise HostError("it cannot be read (%s)" % said, where=path, fix="Run the task as root (become: true)") from None


def apply(module: AnsibleModule, path: str, record: str, change: Change) -> None:
    """The record first: whatever happens after it, the next run knows what there was. The file keeps its owner and its mode."""
    try:
        if change.record is not None:
            os.makedirs(os.path.dirname(record), mode=0o700, exist_ok=True)
            replace_file(record, change.record.encode("utf-8"))
        handle, scratch = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(change.text)
            stream.flush()
            os.fsync(stream.fileno())
        module.atomic_move(scratch, path)
        if change.record is None and os.path.exists(record):
            os.unlink(record)
    except OSError as error:
        raise HostError("it cannot be written (%s)" % error.strerror, where=path, fix="Run the task as root (become: true)") from None


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options, present = module.params, module.params["state"] == "present"
    # Older versions of Ansible show what a module was called with.
    module.no_log_values.update(secret_values(options["style"], options["settings"]))
    path = os.path.realpath(options["path"])
    record = os.path.join(options["state_dir"], record_name(path))
    try:
        text = read(path)
        if text is None and not present:
            module.exit_json(changed=False, record=record)
        if text is None:
            raise HostError("it is missing", where=path, fix="Install the package that brings it", code="config-missing")
        change = plan(text, read(record), options["style"], options["settings"], options["secrets"], present, path)
        if change.changed and not module.check_mode:
            apply(module, path, record, change)
        diff = {"before": change.before, "after": change.after, "before_header": path, "after_header": path}
        module.exit_json(changed=change.changed, record=record, diff=diff)
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
