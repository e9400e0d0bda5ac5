#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: tdx_registration_step
short_description: Look at a platform's registration with Intel, or take one step of it
version_added: 0.1.0
description:
  - The part of M(attested.ai.tdx_registration) that runs on the machine. That one decides which steps are taken, and in which order; use this one by itself
    for O(step=look), which changes nothing.
  - The registration state is read from the firmware's UEFI variables and the log of Intel's agent. QGS is asked who the platform is, if it answers.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: partial
    details: Steps other than O(step=look) are refused in check mode, because some of them cannot be taken back.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Every step may be repeated. O(step=register) and O(step=deliver) always report a change.
options:
  step:
    description:
      - V(look) changes nothing.
      - V(keep) copies the manifest with O(digest) from the firmware to O(state_dir), or O(given), and returns it blinded by O(key).
      - V(record) writes O(content) as the record.
      - V(collect) runs PCKIDRetrievalTool, which takes the manifest from the firmware if it waits there. It refuses unless the manifest is kept.
      - V(register) sends the manifest with O(digest) to Intel's registration service.
      - V(deliver) gives the platform to a PCCS, V(collateral) the file in O(content).
    type: str
    choices: [look, keep, record, collect, register, deliver, collateral]
    default: look
  digest:
    description: SHA-256 of the manifest.
    type: str
    default: ""
  given:
    description: A manifest that a person saved by hand, base64.
    type: str
  key:
    description: Blinds what V(keep) and V(collect) return, in hexadecimal. To be used once.
    type: str
  content:
    description: The record, or collateral, as text.
    type: str
  service_url:
    description: Address of Intel's registration service, or of the PCCS.
    type: str
  token:
    description: The user or administrator token of the PCCS.
    type: str
  ca_path:
    description: Certificates in PEM form, on the machine, that the service's certificate must lead to. Without it, those of the system.
    type: path
  proxy:
    description: Address of a proxy. Without it, what the environment names. The machine itself is never asked through one.
    type: str
    default: ""
  validate_certs:
    description: Whether the service's certificate is checked. V(false) is refused for all but the machine itself.
    type: bool
    default: true
  efivars:
    description: Where the firmware's variables are.
    type: path
    default: /sys/firmware/efi/efivars
  state_dir:
    description: Where manifest, PCKIDRetrievalTool's answer and the record are kept, for root alone.
    type: path
    default: /var/lib/attested-ai/tdx-registration
  agent_log:
    description: The log of Intel's registration agent.
    type: path
    default: /var/log/mpa_registration.log
  qgs:
    description: V(auto) asks QGS where its configuration says that it listens, V(none) does not ask it. Otherwise an address, V(unix:/path) or V(vsock:1:4050).
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
seealso:
  - module: attested.ai.tdx_registration
"""

EXAMPLES = r"""
- name: See how the platform's registration stands
  attested.ai.tdx_registration_step:
  become: true
  register: registration
"""

RETURN = r"""
found:
  description: What the platform says. C(state) is V(unsupported), V(failed), V(pending), V(add-package), V(missing) or V(complete).
  returned: with O(step=look)
  type: dict
  sample: {state: pending, problem: "", agent: false, manifest: 7f83b1657ff1fc53b92dc18148a1d65d, log: {outcome: silent, line: ""}, identity: {}, saved: []}
verdict:
  description: What it comes to, V(unsupported), V(failed), V(unregistered), V(in-progress), V(registered), V(consumed), V(changed) or V(tcb-changed).
  returned: with O(step=look)
  type: str
  sample: unregistered
why:
  description: Why.
  returned: with O(step=look)
  type: str
  sample: the firmware's manifest waits to be registered
record:
  description: The machine's record as text, null without one.
  returned: with O(step=look)
  type: str
  sample: null
blinded:
  description: Manifest or answer of the tool, blinded by O(key), base64.
  returned: with O(step=keep) and O(step=collect)
  type: str
  sample: c2VjcmV0
ppid:
  description: What Intel's service calls the platform.
  returned: with O(step=register)
  type: str
  sample: 00112233445566778899aabbccddeeff
code:
  description: A stable word for the reason of a failure, such as V(manifest-missing), V(tool-failed), V(pccs-refused) or V(registration-refused).
  returned: failure
  type: str
  sample: pccs-refused
"""

from typing import NoReturn, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.machine import Machine, Places
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.steps import take

ARGUMENT_SPEC = {
    "step": {"type": "str", "choices": ["look", "keep", "record", "collect", "register", "deliver", "collateral"], "default": "look"},
    "digest": {"type": "str", "default": ""},
    "given": {"type": "str", "no_log": True},
    "key": {"type": "str", "no_log": True},
    "content": {"type": "str", "no_log": True},
    "service_url": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "proxy": {"type": "str", "default": ""},
    "validate_certs": {"type": "bool", "default": True},
    "efivars": {"type": "path", "default": "/sys/firmware/efi/efivars"},
    "state_dir": {"type": "path", "default": "/var/lib/attested-ai/tdx-registration"},
    "agent_log": {"type": "path", "default": "/var/log/mpa_registration.log"},
    "qgs": {"type": "str", "default": "auto"},
    "qgs_conf": {"type": "path", "default": "/etc/qgs.conf"},
    "retrieval_tool": {"type": "path", "default": "/opt/intel/sgx-pck-id-retrieval-tool/PCKIDRetrievalTool"},
}


def main() -> NoReturn:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[
            ("step", "keep", ["digest", "key"]), ("step", "record", ["content"]), ("step", "collect", ["key"]), ("step", "register", ["digest", "service_url"]),
            ("step", "deliver", ["service_url", "token"]), ("step", "collateral", ["service_url", "token", "content"]),
        ],
    )  # fmt: skip
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}
    options = module.params

    def run(argv: Sequence[str]) -> Tuple[int, str]:
        rc, out, err = module.run_command(list(argv), handle_exceptions=False, errors="replace", umask=0o077)
        return rc, out + err

    places = Places(*(options[name] for name in ("efivars", "state_dir", "agent_log", "qgs_conf", "qgs", "retrieval_tool")))
    try:
        if module.check_mode and options["step"] != "look":
            raise HostError("it is not taken in check mode", where="step %s" % options["step"], code="check-mode")
        module.exit_json(**take(Machine(places, run), options))
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
