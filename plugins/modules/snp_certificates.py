#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: snp_certificates
short_description: Place the certificates that an SEV-SNP host hands to its guests
version_added: 0.1.0
description:
  - Builds the certificate table of the GHCB specification (VCEK, ASK, ARK) from a collateral store on the controller, and writes it to the host. QEMU
    takes it as C(certs-path) of C(sev-snp-guest), and a guest then finds the certificates beside its report.
  - The VCEK must be that of this chip and TCB, and lead to a pinned root. A table is never written otherwise, and what was there stays.
  - A table has room for the VCEK of one chip. On hosts with two sockets the first one signs, by the sources that AMD published of its firmware for Genoa.
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
    details: The table is binary, so only that it differs is shown.
  idempotent:
    support: full
options:
  store:
    description: The collateral store, see M(attested.ai.collateral). Relative to the playbook.
    type: path
    required: true
  dest:
    description: The file on the host. Its folder must exist.
    type: path
    required: true
  chip:
    description: Chip and TCB, such as the first of C(identity.snp_vceks) of M(attested.ai.tee_info).
    type: dict
    required: true
    suboptions:
      product:
        description: The product.
        type: str
        required: true
        choices: [milan, genoa, bergamo, siena, turin]
      chip_id:
        description: The chip's id in hexadecimal.
        type: str
        required: true
      tcb:
        description: The TCB that reports carry.
        type: dict
        required: true
        suboptions:
          fmc:
            description: Turin only.
            type: int
          bootloader:
            description: Version of the boot loader.
            type: int
            required: true
          tee:
            description: Version of the TEE.
            type: int
            required: true
          snp:
            description: Version of the SNP firmware.
            type: int
            required: true
          microcode:
            description: Version of the microcode.
            type: int
            required: true
  policy:
    description: A policy as a dictionary or the path of a file, for roots that are no vendor's.
    type: raw
  mode:
    description: Mode of the file. There is nothing secret in it.
    type: raw
    default: "0644"
seealso:
  - module: attested.ai.collateral
  - module: attested.ai.tee_info
"""

EXAMPLES = r"""
- name: Ask the host which certificates its chips have
  attested.ai.tee_info:
    scope: host
    tee: snp
  become: true
  register: host

- name: Fetch them, once for all
  attested.ai.collateral:
    operation: fetch
    store: collateral
    amd: "{{ host.identity.snp_vceks }}"

- name: Hand them to guests
  attested.ai.snp_certificates:
    store: collateral
    chip: "{{ host.identity.snp_vceks | first }}"
    dest: /var/lib/attested-ai/snp-certificates.bin
  become: true
"""

RETURN = r"""
dest:
  description: The file on the host.
  returned: success
  type: str
  sample: /var/lib/attested-ai/snp-certificates.bin
checksum:
  description: SHA-1 of the file, as M(ansible.builtin.copy) returns it.
  returned: success
  type: str
  sample: 6e642bb8dd5c2e027bf21dd923337cbb4214f827
code:
  description: A stable word for the reason of a failure, such as V(vcek-missing).
  returned: failure
  type: str
  sample: vcek-missing
"""
