#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_host_info
short_description: Tell what a host has for a guest, and who holds it
version_added: 0.1.0
description:
  - Reads memory and NUMA nodes, free huge pages, whether KVM starts guests of a TEE, files with their digests, PCI devices with driver, IOMMU group and
    holders, numbers of vsock in use, and ports that somebody listens on.
  - Nothing is changed. What a host says of itself helps to start guests on it, and proves nothing.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  idempotent:
    support: full
options:
  files:
    description: Files and sockets to look at.
    type: list
    elements: path
    default: []
  digests:
    description: Files to take the SHA-256 digests of.
    type: list
    elements: path
    default: []
  devices:
    description: Addresses of PCI devices, such as V(0000:17:00.0).
    type: list
    elements: str
    default: []
notes:
  - Run it as root (C(become)). Otherwise it does not see who holds a device.
seealso:
  - plugin: attested.ai.vm_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Who holds the GPU?
  attested.ai.vm_host_info:
    devices: ["0000:17:00.0"]
  become: true
  register: host
"""

RETURN = r"""
memory:
  description: C(total_kib) and C(available_kib).
  returned: success
  type: dict
  sample: {total_kib: 263806748, available_kib: 255012140}
nodes:
  description: NUMA nodes, each with C(node), C(cpus), C(total_kib) and C(free_kib).
  returned: success
  type: list
  elements: dict
  sample: [{node: 0, cpus: "0-31", total_kib: 131903374, free_kib: 127506070}]
hugepages:
  description: Free pages by their size in KiB.
  returned: success
  type: dict
  sample: {"2048": 0, "1048576": 16}
features:
  description: Whether there are C(kvm), C(iommufd) and C(vhost_vsock), and whether KVM starts guests of C(tdx), C(snp) and C(cca).
  returned: success
  type: dict
  sample: {kvm: true, iommufd: true, vhost_vsock: true, tdx: true, snp: false, cca: false}
files:
  description: By path, C(kind) (V(file), V(socket), V(other), V(unreadable) or V(missing)), C(size), and C(sha256) where asked for.
  returned: success
  type: dict
  sample: {/usr/share/ovmf/OVMF.inteltdx.ms.fd: {kind: file, size: 4194304, sha256: ""}}
devices:
  description: By address, C(exists), C(driver), C(group), C(members) of the group and C(holders).
  returned: success
  type: dict
  sample: {"0000:17:00.0": {exists: true, driver: vfio-pci, group: "41", members: [], holders: []}}
vsock_cids:
  description: Numbers of vsock that QEMUs use, with the names of their guests.
  returned: success
  type: dict
  sample: {"3": guest}
listening:
  description: C(address) and C(port) of TCP that somebody listens on. The address V(*) is any.
  returned: success
  type: list
  elements: dict
  sample: [{address: 127.0.0.1, port: 22}]
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: host
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.vm_host import VmHost, look

ARGUMENT_SPEC = {
    "files": {"type": "list", "elements": "path", "default": []},
    "digests": {"type": "list", "elements": "path", "default": []},
    "devices": {"type": "list", "elements": "str", "default": []},
}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    try:
        wrong = [bdf for bdf in options["devices"] if "/" in bdf or bdf in ("", ".", "..")]
        if wrong:
            raise HostError("%s is no address of a PCI device" % ascii(wrong[0])[:40], where="devices", fix="Write it as 0000:17:00.0")
        module.exit_json(changed=False, **look(VmHost(), options["files"], options["digests"], options["devices"]))
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
