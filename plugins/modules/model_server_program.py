#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_server_program
short_description: Put the program of attested model servers on a guest
version_added: 0.1.0
description:
  - Makes one file, a zip archive that Python runs, of the parts of this collection that open a model, collect evidence and answer clients, and copies it.
  - The same version of the collection gives the same bytes. So it can be put into an image and measured with it,
    and the task is changed only by another version.
  - For images, run it on C(localhost). The role P(attested.ai.model_server#role) runs it on the guest.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details: Tells that the file differs. It is no text.
  idempotent:
    support: full
options:
  dest:
    description: Path of the file on the guest, of mode V(0644). Its directory must be there.
    type: path
    required: true
notes:
  - The guest needs Python 3.8 and the Python library cryptography (38 or newer), as Debian 12 and Ubuntu 24.04 package it.
seealso:
  - module: attested.ai.model_instance
"""

EXAMPLES = r"""
- name: Put the program there
  attested.ai.model_server_program:
    dest: /usr/local/lib/attested-ai/model-server.pyz
  become: true
"""

RETURN = r"""
dest:
  description: Path of the file.
  returned: success
  type: str
  sample: /usr/local/lib/attested-ai/model-server.pyz
sha256:
  description: SHA-256 of the file.
  returned: success
  type: str
  sample: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0
size:
  description: Size of the file.
  returned: success
  type: int
  sample: 164022
"""
