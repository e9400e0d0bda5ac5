#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: tdx_registration
short_description: Register a TDX platform with Intel, once and in one way
version_added: 0.1.0
description:
  - A platform's quotes have certificates only after it was registered. The firmware offers the platform manifest for that once; whoever takes it, takes it
    for good, and indirect registration rules direct registration out until SGX Factory Reset in the BIOS.
  - This task copies the manifest from the firmware's variables to the machine and to the controller, where nothing has used it yet, notes the choice on both,
    and only then registers. Each step is noted before the next, so that a run that was ended anywhere is finished by the next.
  - What has used up a manifest before, another choice than the recorded one, new platform keys, another processor and a TCB recovery are noticed and told.
  - It tells what firmware, Intel's agent and the record say. Only a quote proves that quotes work, see M(attested.ai.attest).
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  action:
    support: full
  check_mode:
    support: full
    details: The machine is only looked at, and a missing confirmation is told in RV(refused) and is no failure.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  variant:
    description:
      - How the platform is registered. V(none) only looks.
      - V(direct_automatic). Intel's agent sends the manifest. SGX Auto MP Registration Agent must be enabled in the BIOS, and only with this variant.
      - V(direct_manual). This task sends the manifest to Intel's service.
      - V(indirect_pccs). This task gives platform and manifest to a PCCS, which asks Intel for certificates.
      - V(indirect_offline). A list of platforms is written for C(pcs-client-tool fetch), and O(collateral_file), which that makes, is given to a PCCS.
      - V(indirect_local_cache). The same list for C(pcs-client-tool cache). There is no PCCS.
    type: str
    required: true
    choices: [none, direct_automatic, direct_manual, indirect_pccs, indirect_offline, indirect_local_cache]
  directory:
    description: Folder on the controller, with a folder for each machine. Keep it, it cannot be made again. For its owner alone.
    type: path
    default: tdx-registration
  manifest_confirm:
    description: The machine's name in the inventory. Without it nothing uses the manifest up. It confirms the choice of O(variant), too.
    type: str
    default: ""
  variant_confirm:
    description: The machine's name in the inventory, to change the choice that was recorded before.
    type: str
    default: ""
  reregister_ok:
    description:
      - Whether a new manifest, after new keys, another processor or a TCB recovery, is registered in the recorded way. O(manifest_confirm) is needed, too.
    type: bool
    default: false
  manifest_file:
    description: A manifest that was saved by hand before, as it is in the firmware or as PCKIDRetrievalTool's CSV file. On the controller.
    type: path
  send_from:
    description: Where requests to Intel and to the PCCS are made.
    type: str
    choices: [host, controller]
    default: host
  service_url:
    description: Intel's registration service. Pre-production CPUs have another, U(https://sbx.api.trustedservices.intel.com).
    type: str
    default: https://api.trustedservices.intel.com
  ca_path:
    description: Certificates that the service's certificate must lead to, where requests are made. Without it, those of the system.
    type: path
  proxy:
    description: Address of a proxy. Without it, what the environment names. The machine itself is never asked through one.
    type: str
    default: ""
  pccs_url:
    description: Address of the PCCS, such as V(https://pccs.example.com:8081).
    type: str
  pccs_ca_path:
    description: As O(ca_path), for the PCCS.
    type: path
  pccs_validate_certs:
    description: Whether the certificate of the PCCS is checked. V(false) is refused for all but the machine itself.
    type: bool
    default: true
  pccs_user_token:
    description: Token with which platforms are given to the PCCS.
    type: str
  pccs_admin_token:
    description: Token with which collateral is given to the PCCS.
    type: str
  collateral_file:
    description: What C(pcs-client-tool fetch) made, on the controller, for V(indirect_offline).
    type: path
  agent_ran:
    description: Whether Intel's agent was started, so that its result is waited for.
    type: bool
    default: false
  agent_timeout:
    description: For how many seconds.
    type: int
    default: 60
  efivars:
    description: Where the firmware's variables are.
    type: path
    default: /sys/firmware/efi/efivars
  state_dir:
    description: Where manifest, PCKIDRetrievalTool's answer and the record are kept on the machine, for root alone.
    type: path
    default: /var/lib/attested-ai/tdx-registration
  agent_log:
    description: The log of Intel's registration agent.
    type: path
    default: /var/log/mpa_registration.log
  qgs:
    description: V(auto) asks QGS who the platform is, where its configuration says that it listens; V(none) does not. Otherwise an address.
    type: str
    default: auto
  qgs_conf:
    description: The configuration of QGS.
    type: path
    default: /etc/qgs.conf
  retrieval_tool:
    description: The program PCKIDRetrievalTool.
    type: path
    default: /opt/intel/sgx-pck-id-retrieval-tool/PCKIDRetrievalTool
notes:
  - Run it as root (C(become)). Python's standard library is enough on the machine.
  - To add a processor package to a registered platform is not done. It is told.
seealso:
  - module: attested.ai.tdx_registration_step
  - module: attested.ai.attest
"""

EXAMPLES = r"""
- name: See how it stands
  attested.ai.tdx_registration:
    variant: none
  become: true

- name: Register with Intel
  attested.ai.tdx_registration:
    variant: direct_manual
    manifest_confirm: host1.example.org
  become: true

- name: Give the platform to a PCCS
  attested.ai.tdx_registration:
    variant: indirect_pccs
    pccs_url: https://pccs.example.com:8081
    pccs_user_token: "{{ vault_pccs_user_token }}"
    manifest_confirm: "{{ inventory_hostname }}"
  become: true
"""

RETURN = r"""
verdict:
  description:
    - V(unregistered), V(in-progress) and V(registered), as firmware, agent and record say; V(unsupported) and V(failed), as the firmware says.
    - V(consumed). The manifest was taken, by whom is not known.
    - V(changed). The platform is not the one that was registered any more. V(tcb-changed), its TCB level is another.
  returned: success
  type: str
  sample: registered
why:
  description: Why.
  returned: success
  type: str
  sample: direct_manual, recorded, PPID 00112233445566778899aabbccddeeff
variant:
  description: The recorded choice.
  returned: success, outside of check mode
  type: str
  sample: direct_manual
waits_for:
  description: V(agent), where Intel's agent must run first; otherwise empty.
  returned: success, outside of check mode
  type: str
  sample: ""
acts:
  description: In check mode, what is left to be done, V(agent), V(register), V(collect), V(deliver) and V(list).
  returned: success
  type: list
  elements: str
  sample: []
refused:
  description: In check mode, what must be confirmed first.
  returned: success
  type: str
  sample: ""
manifest:
  description: SHA-256 of the manifest.
  returned: success, outside of check mode
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
identity:
  description: What PCKIDRetrievalTool said of the platform, or QGS.
  returned: success, outside of check mode
  type: dict
  sample: {qe_id: 00112233445566778899aabbccddeeff, pce_id: "0000", cpu_svn: 0202020202020202020b000000000000, pce_svn: 0d00}
ppid:
  description: What Intel's service calls the platform.
  returned: success, outside of check mode
  type: str
  sample: 00112233445566778899aabbccddeeff
files:
  description: Files on the controller that concern this run, C(manifest), C(csv) and C(platform_list).
  returned: success, and after failures
  type: dict
  sample: {manifest: /srv/tdx-registration/host1.example.org/manifest-9f86d081884c7d65.bin}
code:
  description: >-
    A stable word for the reason of a failure, such as V(confirm-needed), V(variant-conflict), V(reregistration-needed), V(manifest-consumed),
    V(agent-enabled), V(platform-changed), V(record-conflict) or V(registration-refused).
  returned: failure
  type: str
  sample: confirm-needed
"""
