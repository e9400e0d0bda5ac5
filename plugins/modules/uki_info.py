#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: uki_info
short_description: Read a unified kernel image, and compute the registers that booting it leads to
version_added: 0.1.0
description:
  - Reads the sections of a unified kernel image, its command line and the root hash in it, and takes the digests.
  - Computes what the image leads to when it is booted. RV(measurements.uki) is for firmware that starts the image from the disk,
    RV(measurements.direct) for a VMM that hands over kernel, initrd and command line.
  - Only values that the files alone decide are computed. RTMR0 and RTMR1 of a TD hold tables of the firmware and the disk's partitions, too; record
    these from a golden run, see M(attested.ai.reference_values).
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
  path:
    description: The unified kernel image.
    type: path
    required: true
  kernel:
    description: The kernel as a file of its own, if it is booted directly. Its digests are returned, to be held against the section C(.linux).
    type: path
  initrd:
    description: The initrd as a file of its own.
    type: path
notes:
  - The values of the direct boot were held against PCR 9 of a real boot with OVMF and a TPM in software, in the banks SHA-256 and SHA-384. Those of the UKI
    were not yet, and no TD was there to compare RTMR2 with.
seealso:
  - module: attested.ai.reference_values
"""

EXAMPLES = r"""
- name: What will this image measure as?
  attested.ai.uki_info:
    path: /var/lib/attested-ai/images/guest/1/image.efi
    kernel: /var/lib/attested-ai/images/guest/1/vmlinuz
    initrd: /var/lib/attested-ai/images/guest/1/initrd
  register: uki

- name: Show the value of RTMR2 after a direct boot
  ansible.builtin.debug:
    var: uki.measurements.direct.rtmr2
"""

RETURN = r"""
cmdline:
  description: The command line that is part of the image.
  returned: success
  type: str
  sample: ro root=/dev/mapper/root roothash=0f2c
root_hash:
  description: The hash of the verified root in it, or empty.
  returned: success
  type: str
  sample: 0f2c0e8a3e26f2f4b2dd1a3c4b2f0e4d7a55c7cd4f0c5d6e7f8091a2b3c4d5e6
sections:
  description: The sections by name, each with C(size) and C(sha256) of its content.
  returned: success
  type: dict
  sample: {.linux: {size: 11737024, sha256: b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c}}
sha256:
  description: The digest of the whole file.
  returned: success
  type: str
  sample: b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
kernel:
  description: C(size) and C(sha256) of O(kernel).
  returned: with O(kernel)
  type: dict
  sample: {size: 11737024, sha256: b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c}
initrd:
  description: C(size) and C(sha256) of O(initrd).
  returned: with O(initrd)
  type: dict
  sample: {size: 30212096, sha256: 7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730}
measurements:
  description: What it leads to, hexadecimal.
  returned: success
  type: dict
  contains:
    uki:
      description: C(authenticode_sha256) and C(authenticode_sha384) (what firmware measures of the file), C(pcr9) and C(pcr11) by algorithm, C(rtmr2).
      type: dict
      sample: {rtmr2: d833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3ba80b70870d7330733642e01d48c3132}
    direct:
      description: C(pcr9) by algorithm and C(rtmr2), of kernel, initrd and command line of the image booted directly by OVMF.
      type: dict
      sample: {rtmr2: 91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7}
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: format
"""

import hashlib
from typing import Any, Dict, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.measure.boot import parse_uki, predictions
from ansible_collections.attested.ai.plugins.module_utils.measure.pe import IMAGE_MAX

ARGUMENT_SPEC = {"path": {"type": "path", "required": True}, "kernel": {"type": "path"}, "initrd": {"type": "path"}}


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            data = stream.read(IMAGE_MAX + 1)
    except OSError as error:
        raise HostError("it cannot be read: %s" % error.strerror, where=path) from None
    if len(data) > IMAGE_MAX:
        raise HostError("it has more than %d bytes" % IMAGE_MAX, where=path)
    return data


def entry(data: bytes) -> Dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    try:
        image = read(options["path"])
        uki = parse_uki(image)
        files = {name: entry(read(options[name])) for name in ("kernel", "initrd") if options[name]}
        module.exit_json(
            changed=False, cmdline=uki.cmdline, root_hash=uki.root_hash, sha256=entry(image)["sha256"], measurements=predictions(image),
            sections={section.name: entry(section.content(image)) for section in uki.sections}, **files,
        )  # fmt: skip
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
