#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: reference_values
short_description: Compute, record, sign and export the measurements that are yours
version_added: 0.1.0
description:
  - Keeps a document of reference values on the controller, which M(attested.ai.attest), M(attested.ai.model_release) and
    M(attested.ai.evidence_verify) take.
  - A value is written down by hand (O(value)), computed from what will be launched (O(snp), O(tdx)), or recorded from a guest whose evidence was
    verified (O(record)). Each has a source, and an end after which it counts no more.
  - The document can be signed, and exported in the names that Trustee's default policies read.
  - Runs on the controller. Use C(run_once) where several hosts are in the play.
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
  idempotent:
    support: full
requirements:
  - cryptography >= 38 on the controller, for signatures and for O(record)
  - sev-snp-measure >= 0.0.12 on the controller, for O(snp)
options:
  path:
    description: The document, YAML. It is written whole or not at all. A signature lies beside it, with C(.jws) added.
    type: path
    required: true
  state:
    description:
      - V(present) makes sure that the value is in the document. It takes the place of a value with the same measurement of the same image.
      - V(absent) removes the values of O(image), or those of them that are of O(tee).
      - V(verified) only checks the signature with O(public_key), and fails if it does not hold.
    type: str
    choices: [present, absent, verified]
    default: present
  image:
    description: The name of the image. Results print it.
    type: str
  source:
    description: Where the value comes from, for people. Results print it.
    type: str
  covers:
    description:
      - How far the measurement vouches, see the collection's C(docs/policy-reference.md). Needed but for platforms (V(cca-platform)).
      - A value of a TD that covers V(kernel) or more must name RTMR 1 and 2, because MRTD measures the firmware alone.
    type: str
    choices: [launch, kernel, root-fs, service]
  not_after:
    description: When the value stops to count, in RFC 3339 and in quotes.
    type: str
  replace:
    description: Remove the other values of O(image) of the same kind, for an image that was built anew.
    type: bool
    default: false
  tee:
    description: The kind of the value. Needed with O(value) unless that says it; narrows O(state=absent).
    type: str
    choices: [sev-snp, tdx, cca, cca-platform, az-snp-vtpm, az-tdx-vtpm]
  value:
    description: A value written by hand, with the keys of C(docs/reference-values.md), such as C(measurement), C(rtmr), C(rem) or C(pcrs).
    type: dict
  snp:
    description: Compute the launch digest of a SEV-SNP guest.
    type: dict
    suboptions:
      ovmf:
        description: The firmware.
        type: path
        required: true
      vcpus:
        description: How many virtual CPUs the guest has. Each has a page in the measurement.
        type: int
        required: true
      vcpu_type:
        description: The type of the CPUs, as QEMU names it.
        type: str
        default: EPYC-v4
      kernel:
        description: The kernel, if the VMM boots it directly and the firmware has a table of hashes.
        type: path
      initrd:
        description: The initial RAM disk that goes with O(snp.kernel).
        type: path
      append:
        description: The command line that goes with O(snp.kernel).
        type: str
      guest_features:
        description: The guest features of the VMSA. V(0x1) is SEV-SNP alone.
        type: str
        default: "0x1"
      vmm:
        description: Who launches the guest.
        type: str
        choices: [qemu, ec2, gce]
        default: qemu
  tdx:
    description: Compute MRTD of a TD from its firmware.
    type: dict
    suboptions:
      tdvf:
        description: The firmware image, code and variables in one file.
        type: path
        required: true
      order:
        description:
          - In which order the VMM adds and measures pages. V(page) is page by page, as with Linux's own interface; V(section) is all pages of a section
            first. Compare once with a quote of your VMM.
        type: str
        choices: [page, section]
        default: page
      rtmr:
        description: The RTMRs that are known beside, by number, each a value or a list of values.
        type: dict
        default: {}
  record:
    description:
      - Take the value from a guest that runs (golden run). Its evidence is verified and held against the policy, but for the measurements, which are to be
        learnt. What is refused is not recorded.
      - You vouch for the image that ran. Evidence cannot.
    type: dict
    suboptions:
      evidence:
        description: The evidence document, as a dictionary or as the path of its file.
        type: raw
        required: true
      nonce:
        description: The nonce of that run, in standard base64.
        type: str
        required: true
      policy:
        description: The appraisal policy.
        type: raw
        required: true
      certificates:
        description: As in M(attested.ai.evidence_verify).
        type: list
        elements: path
        default: []
      crl:
        description: As in M(attested.ai.evidence_verify).
        type: list
        elements: path
        default: []
      collateral:
        description: As in M(attested.ai.evidence_verify).
        type: list
        elements: path
        default: []
      collateral_key:
        description: As in M(attested.ai.evidence_verify).
        type: raw
      at:
        description: Evaluation time in RFC 3339. The default is the controller's clock.
        type: str
      registers:
        description:
          - The RTMRs of a TD, or the REMs of a CCA realm, to record. RTMR0 differs with the size of the memory, RTMR3 is the guest's own.
        type: list
        elements: str
        choices: ["0", "1", "2", "3"]
        default: ["1", "2"]
  init_data:
    description:
      - Init-data of Confidential Containers that the guest is launched with. Its digest becomes C(host_data) (SEV-SNP), C(mrconfigid) (TDX) or C(rpv) (CCA),
        cut or padded with zeros to the field.
    type: path
  init_data_algorithm:
    description: The algorithm that the init-data names for itself.
    type: str
    choices: [sha256, sha384, sha512]
    default: sha256
  signing_key:
    description: EC P-256 key (PEM, mode 0600) that signs the document. A document that is signed is not changed without it.
    type: path
  create_signing_key:
    description: Make O(signing_key) if it is not there.
    type: bool
    default: false
  public_key:
    description: The public key of the signer, as JWK or as the path of a file with a JWK or PEM, for O(state=verified).
    type: raw
  rvps:
    description: File to export to, JSON of names and lists of values, as Trustee's reference value provider takes them (extractor C(sample)).
    type: path
seealso:
  - module: attested.ai.attest
  - module: attested.ai.evidence_verify
"""

EXAMPLES = r"""
- name: Compute the launch digest of a guest with eight CPUs
  attested.ai.reference_values:
    path: reference-values.yml
    image: inference guest 3
    source: built in our pipeline, two builders agree
    covers: service
    not_after: "2027-06-01T00:00:00Z"
    snp:
      ovmf: images/OVMF.amdsev.fd
      kernel: images/vmlinuz
      initrd: images/initrd.img
      append: console=ttyS0 root=/dev/dm-0
      vcpus: 8
    signing_key: secrets/references.pem
    create_signing_key: true
  run_once: true

- name: Compute MRTD of a TD, whose RTMRs are known from the build
  attested.ai.reference_values:
    path: reference-values.yml
    image: inference TD 3
    source: built in our pipeline
    covers: launch
    not_after: "2027-06-01T00:00:00Z"
    tdx:
      tdvf: images/OVMF.inteltdx.fd
    signing_key: secrets/references.pem

- name: Record what a guest says that we launched ourselves
  attested.ai.reference_values:
    path: reference-values.yml
    image: inference TD 3
    source: golden run in the laboratory
    covers: service
    not_after: "2027-06-01T00:00:00Z"
    record:
      evidence: "{{ collected.evidence }}"
      nonce: "{{ nonce }}"
      policy: policy.yml
      collateral: [collateral]
    init_data: initdata.toml
    signing_key: secrets/references.pem
    rvps: rvps.json

- name: Use nothing that our pipeline did not sign
  attested.ai.reference_values:
    path: reference-values.yml
    state: verified
    public_key: references.pub.pem
  run_once: true
"""

RETURN = r"""
path:
  description: The document.
  returned: success
  type: str
  sample: /srv/attestation/reference-values.yml
count:
  description: How many values it holds.
  returned: success
  type: int
  sample: 2
digest:
  description: SHA-256 of the document, hexadecimal.
  returned: success
  type: str
  sample: 52fea888026db7a147131ea33bcc06cfe4d669bf19edcd9891aa7b00d9ce6d2c
expires_at:
  description: When the first of its values stops to count, null if it holds none.
  returned: success
  type: str
  sample: "2027-06-01T00:00:00Z"
reference_values:
  description: The whole document, which the option O(attested.ai.attest#module:reference_values) takes as it is.
  returned: success
  type: dict
  sample:
    schema: attested.ai/reference-values/1
    values:
      - tee: tdx
        measurement: 91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7
        covers: launch
        image: inference TD 3
        source: built in our pipeline
        not_after: "2027-06-01T00:00:00Z"
signature_path:
  description: The signature beside the document.
  returned: when it is signed or verified
  type: str
  sample: /srv/attestation/reference-values.yml.jws
signer:
  description: The public key of the signer, as JWK.
  returned: when it is signed or verified
  type: dict
  sample: {crv: P-256, kty: EC, x: QT3_slJmispaOwnAo6hxebXGLRuiveFuRCLpS4j4S4k, y: jcDn4N4nRBQ-a7_D3qjqtb6hwOAXh_ve1wvibPSi1G0}
rvps_path:
  description: The export for Trustee.
  returned: when O(rvps) is given
  type: str
  sample: /srv/attestation/rvps.json
rvps_notes:
  description: What the export cannot say, so that it accepts more than the document. Trustee compares flat lists.
  returned: when O(rvps) is given
  type: list
  elements: str
  sample: ["image inference TD 3: mrconfigid cannot be exported, ask for it in a policy of Trustee's"]
verified:
  description: True if the signature holds.
  returned: with O(state=verified)
  type: bool
  sample: true
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: jws-signature
"""
