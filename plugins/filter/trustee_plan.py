# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter for key brokers: from a description to configuration, units and values."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.trustee import plan as core
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: trustee_plan
short_description: Make the configuration of a key broker of Confidential Containers
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Takes the description of a key broker (Trustee's KBS, attestation service and reference values) and returns its configuration, and what its units need. A
    description that would open it to everybody, lose its data or let it change by itself is an error.
  - It reads and changes nothing. The role P(attested.ai.trustee#role) uses it.
options:
  _input:
    description:
      - The description, with C(way) (V(helm), V(quadlet) or V(binaries)), C(layout) (V(builtin) or V(services)), C(name), C(listen), C(config_dir),
        C(data_dir), C(admin) (C(issuer), C(audience), C(acls), C(providers)), C(programs), C(images), C(verifiers), C(token_minutes), C(session_minutes),
        C(payload_mib), C(verbose_token), C(log) and C(helm). Unknown members are errors.
    type: dict
    required: true
seealso:
  - module: attested.ai.trustee_keys
  - module: attested.ai.trustee_smoke
"""

EXAMPLES = r"""
- name: Show the configuration of a key broker
  ansible.builtin.debug:
    msg: "{{ (description | attested.ai.trustee_plan).files['kbs.toml'] }}"
  vars:
    description:
      way: binaries
      layout: builtin
      name: trustee
      listen: ["0.0.0.0:8080"]
      config_dir: /etc/trustee
      data_dir: /var/lib/trustee
      programs: {kbs: /usr/local/bin/kbs}
      admin:
        issuer: ops.example.org
        audience: KBS
        acls: [{role: admin, allowed_endpoints: "^/kbs/.+$"}]
"""

RETURN = r"""
_value:
  description:
    - C(files) of the configuration folder by name, C(components) in the order of their start, C(warnings), and C(seed), the resource policy for an empty
      storage, which refuses everybody.
    - With the way V(helm), C(values) of the chart and C(render), what the post-renderer of the role has to know.
  type: dict
"""


@guarded
def trustee_plan(value: t.Any) -> dict[str, t.Any]:
    return core.make(unlazy(value))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"trustee_plan": trustee_plan}
