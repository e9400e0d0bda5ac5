#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redfish_bios
short_description: Bring the BIOS of a server to the settings of a TEE through Redfish
version_added: 0.1.0
description:
  - Sets what Intel TDX or AMD SEV-SNP need in the BIOS, out of band, through the server's management controller. Runs on the controller.
  - Names and values are looked up in the AttributeRegistry of the machine itself. The names that vendors use are data, each with its source and a mark of how
    far it is to be trusted. Nothing is written that the registry does not name.
  - Many settings are hidden or read-only until others are applied. They are written in stages with a reboot after each, as many as it takes.
  - Nothing is remembered between runs. A run that was cut off at any point is continued by the next one.
  - Nothing was run against hardware yet. See C(docs/bios.md) for what was.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: Opens and closes a session and reads. Where a registry has no rules, what later stages need is a guess, marked as such in RV(stages).
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  baseuri:
    description: Address of the management controller, such as V(bmc7.example.com) or V(192.0.2.7:8443). Redirections to other hosts are refused.
    type: str
    required: true
  username:
    description: An account that may change the BIOS (privilege C(ConfigureComponents)).
    type: str
    required: true
  password:
    description: Its password. It is sent to O(baseuri) only, after its certificate was verified.
    type: str
    required: true
  auth:
    description: V(session) opens a session and closes it at the end, and falls back to V(basic) if the service has none.
    type: str
    choices: [session, basic]
    default: session
  validate_certs:
    description: Whether the certificate of the controller must be right. Also forbids C(http://).
    type: bool
    default: true
  ca_path:
    description: File (or folder) of certificates to trust instead of the system's. Relative to the playbook.
    type: path
  system_id:
    description: Which system, if the controller has several.
    type: str
  vendor:
    description: Whose names to use. Without it, whom the system names as its manufacturer.
    type: str
    choices: [asrock, cisco, dell, hpe, lenovo, nvidia, supermicro]
  state:
    description:
      - V(tdx) and V(snp) set what hosts of TDX and SEV-SNP guests need.
      - V(none) turns TDX and SEV-SNP off. Memory encryption and what else was set stay. RV(before) of the run that set them can be given as O(attributes).
        What the BIOS does not show is left out, as it cannot be on.
      - Without it only O(attributes) are set.
    type: str
    choices: [tdx, snp, none]
  overrides:
    description:
      - Other values for settings of O(state), by their names in C(docs/bios.md), such as V(Enabled) for C(tme_bypass). Null leaves a setting alone.
        A bare C(On) or C(Off), which YAML reads as true or false, is understood.
      - C(tme_bypass), C(transparent_sme) and C(intel_txt) are left alone by default, because sources contradict each other.
    type: dict
    default: {}
  names:
    description: "Attributes to use for settings of O(state) instead of what would be found, such as V(TrustDomainExtension_TDX_#3C38) for C(tdx)."
    type: dict
    default: {}
  attributes:
    description: Attributes to set besides, by their names and values in the registry. They win over O(state).
    type: dict
    default: {}
  keys_confirm:
    description:
      - Allows settings that make new platform keys or spend the registration manifest (SGX Factory Reset, SGX Auto Registration). Refused otherwise, in check
        mode as well. Cannot be undone.
    type: bool
    default: false
  reboot_ok:
    description: Whether the machine may be reset, once per stage. Without it the first stage is left pending, and RV(needs_reboot) is true.
    type: bool
    default: false
  apply_time:
    description:
      - V(auto) asks for V(on_reset) where the service offers to be asked. V(immediate) lets the service restart the machine itself. It needs O(reboot_ok),
        and a service that offers it.
    type: str
    choices: [auto, on_reset, immediate]
    default: auto
  reset_type:
    description:
      - V(graceful) asks the operating system, V(force) does not. V(power_cycle) switches off and on, which the SEAM loader may need. A machine that is off
        is switched on instead.
      - If the operating system ignores the request, the task ends with an error after O(reboot_timeout). It never forces on its own.
    type: str
    choices: [graceful, force, power_cycle]
    default: graceful
  reboot_timeout:
    description: Seconds for one stage to be applied.
    type: int
    default: 1800
  poll_interval:
    description: Seconds between two looks at a machine that restarts.
    type: int
    default: 15
  settle_timeout:
    description:
      - Seconds after which a value that is neither pending nor applied counts as refused by the firmware, and after which a machine that is in its BIOS at the
        beginning is no longer waited for.
    type: int
    default: 300
  timeout:
    description: Seconds for one answer.
    type: int
    default: 30
  attempts:
    description: How often a request is tried if the service is busy, or, where it changes nothing, if the connection is dropped.
    type: int
    default: 6
seealso:
  - module: attested.ai.tee_info
  - module: community.general.redfish_config
"""

EXAMPLES = r"""
- name: Show what TDX needs on this machine
  attested.ai.redfish_bios:
    baseuri: "{{ bmc_address }}"
    username: admin
    password: "{{ bmc_password }}"
    ca_path: pki/bmc-ca.pem
    state: tdx
  check_mode: true
  diff: true

- name: Set it, with as many reboots as it takes
  attested.ai.redfish_bios:
    baseuri: "{{ bmc_address }}"
    username: admin
    password: "{{ bmc_password }}"
    ca_path: pki/bmc-ca.pem
    state: tdx
    overrides:
      tme_bypass: Enabled
    reboot_ok: true
    reset_type: force

- name: Leave it pending until somebody restarts the machine
  attested.ai.redfish_bios:
    baseuri: "{{ bmc_address }}"
    username: admin
    password: "{{ bmc_password }}"
    ca_path: pki/bmc-ca.pem
    state: snp
  register: bios

- name: Say so
  ansible.builtin.debug:
    msg: "Restart this machine: {{ bios.pending }}"
  when: bios.needs_reboot
"""

RETURN = r"""
needs_reboot:
  description: Whether something is pending, or will be in a run outside of check mode, that only a reboot applies.
  returned: success
  type: bool
  sample: false
reboots:
  description: How often the machine was reset.
  returned: success
  type: int
  sample: 2
vendor:
  description: Whose names were used.
  returned: success
  type: str
  sample: hpe
system:
  description: The system.
  returned: success
  type: str
  sample: /redfish/v1/Systems/1
settings_uri:
  description: Where pending settings are written on this service.
  returned: success
  type: str
  sample: /redfish/v1/Systems/1/Bios/settings
before:
  description: Attributes that change, as they were applied. Outside of check mode also those that showed only on the way.
  returned: success
  type: dict
  sample: {AmdSecureMemoryEncryption: Disabled, AmdSecureNestedPaging: Disabled, MinimumSevAsid: 1}
after:
  description: The same as they are applied at the end, or would be. Without O(reboot_ok) this is RV(before).
  returned: success
  type: dict
  sample: {AmdSecureMemoryEncryption: Enabled, AmdSecureNestedPaging: Enabled, MinimumSevAsid: 100}
pending:
  description: What is pending at the end, or would be.
  returned: success
  type: dict
  sample: {}
foreign:
  description: What somebody else left pending, without passwords. The same reboot applies it.
  returned: success
  type: dict
  sample: {}
stages:
  description:
    - The stages as planned at the beginning, each with its C(changes), with C(patch), the part of them that was not pending yet, and with C(guess), which says
      that the registry has no rule from which it follows that they can be written then.
  returned: success
  type: list
  elements: dict
  sample:
    - changes: {AmdSecureMemoryEncryption: Enabled, MinimumSevAsid: 100}
      patch: {AmdSecureMemoryEncryption: Enabled, MinimumSevAsid: 100}
      guess: false
settings:
  description:
    - What was wanted. C(how) says how the attribute was found, V(exact), V(suffixed), V(spelling), V(display) or V(given). C(mark) says what its name rests on,
      V(verified) (read in the named source), V(agreed), V(conflict) or V(unverified).
  returned: success
  type: list
  elements: dict
  sample: [{setting: smee, attribute: AmdSecureMemoryEncryption, value: Enabled, how: exact, mark: unverified}]
unresolved:
  description: Settings of the state that this BIOS does not seem to have, with the reason and attributes that may be meant. Required ones fail the task.
  returned: success
  type: list
  elements: dict
  sample: [{setting: rmp, reason: no attribute of this name, candidates: []}]
trace:
  description:
    - What was done, in order, each with stage, step, attributes and detail. What was written comes with C(before), the values that were applied until then.
  returned: always, outside of check mode
  type: list
  elements: dict
  sample: [{stage: 1, step: reset, attributes: {}, detail: GracefulRestart}]
code:
  description: A stable word for what went wrong, such as V(redfish-blocked), V(redfish-unresolved), V(redfish-timeout), V(redfish-tls) or V(redfish-login).
  returned: failure
  type: str
  sample: redfish-blocked
"""
