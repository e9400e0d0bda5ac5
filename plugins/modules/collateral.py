#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: collateral
short_description: Fetch, keep, carry and forecast what evidence is judged with
version_added: 0.1.0
description:
  - Keeps a store of collateral on the controller. That is certificates and revocation lists of AMD's, TDX collateral of Intel's, reference manifests
    and revocation statuses of NVIDIA's, and what comes as files, such as CPAKs of CCA platforms.
  - V(fetch) asks the vendors' services for what is missing or about to end, once per chip, FMSPC and manifest, however many guests share it. It waits when
    a service says that it is asked too often, and stops at a deadline. What was fetched by then is kept.
  - V(export) and V(import) carry a store to where there is no network, as one signed file.
  - V(check) looks at every file of the store. V(forecast) appraises evidence at the times at which collateral ends, and says which guests will be refused,
    when and why.
  - Everything is proven before it is kept, as far as that kind can be. A wrong, older or missing answer never replaces what is good.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: Nothing is asked for. What would be asked for counts as a change, although a service may turn out to have nothing newer.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: Until something comes near its end. An export is made again only if the store holds something else.
requirements:
  - cryptography >= 38 on the controller
  - lxml on the controller, for manifests of NVIDIA's
options:
  operation:
    description:
      - V(fetch) brings the store up to date for O(evidence), O(amd), O(intel) and O(rims).
      - V(check) looks at every file of the store.
      - V(export) writes the store into O(bundle).
      - V(import) takes over O(bundle) or O(files).
      - V(forecast) says what of O(evidence) would be refused within O(horizon).
    type: str
    required: true
    choices: [fetch, check, export, import, forecast]
  store:
    description:
      - Directory of the store, made if it is missing. Relative to the playbook. Its layout is described in C(docs/collateral.md).
    type: path
    required: true
  evidence:
    description:
      - Evidence documents, each as a dictionary or as the path of a JSON file. One, a list of them, or a dictionary of them by name.
    type: raw
  amd:
    description: Chips of AMD's that no evidence is at hand for.
    type: list
    elements: dict
    default: []
    suboptions:
      product:
        description: The product. Bergamo and Siena are of the Genoa line. Without O(amd[].chip_id) only its revocation list is fetched.
        type: str
        required: true
        choices: [milan, genoa, bergamo, siena, turin]
      chip_id:
        description: The chip's id in hexadecimal, 128 digits, on Turin 16.
        type: str
      tcb:
        description: The TCB that the certificate is for, every component.
        type: dict
        suboptions:
          fmc:
            description: Turin only.
            type: int
          bootloader:
            description: Version of the boot loader.
            type: int
          tee:
            description: Version of the TEE.
            type: int
          snp:
            description: Version of the SNP firmware.
            type: int
          microcode:
            description: Version of the microcode.
            type: int
  intel:
    description: Platforms of Intel's that no evidence is at hand for.
    type: list
    elements: dict
    default: []
    suboptions:
      fmspc:
        description: The FMSPC, 12 hexadecimal digits.
        type: str
        required: true
      ca:
        description: Which authority issues the platform's PCK certificates. Servers have V(platform).
        type: str
        default: platform
        choices: [platform, processor]
  rims:
    description: Ids of manifests of NVIDIA's, for example V(NV_GPU_DRIVER_GH100_570.172.08), to see before an upgrade that they exist.
    type: list
    elements: str
    default: []
  tcbs:
    description: For which TCBs of an SEV-SNP report certificates are fetched. More than V(reported) prepares for the next boot of a machine.
    type: list
    elements: str
    default: [reported]
    choices: [reported, committed, current]
  revocation:
    description: Whether revocation lists and OCSP statuses are fetched. Intel's lists are part of its collateral, and always are.
    type: bool
    default: true
  update:
    description: Which of Intel's views is asked for. V(standard) gives operators time after a new TCB level, V(early) is the newest.
    type: str
    default: standard
    choices: [standard, early]
  tcb_evaluation_data_number:
    description: Ask Intel for this TCB evaluation data number. Excludes O(update).
    type: int
  policy:
    description: A policy as a dictionary or the path of a file. V(fetch) and V(import) take roots from it, V(forecast) judges by it.
    type: raw
  reference_values:
    description: Reference values for V(forecast). Without them measurements are not compared.
    type: raw
  at:
    description: The time that counts as now, RFC 3339. The clock's by default.
    type: str
  horizon:
    description: How many days V(forecast) and V(check) look ahead.
    type: int
    default: 30
  planned:
    description: Policies that will hold from a time on. V(forecast) says which guests they will refuse that the present one accepts.
    type: list
    elements: dict
    default: []
    suboptions:
      at:
        description: From when on, RFC 3339.
        type: str
        required: true
      policy:
        description: The policy, a dictionary or the path of a file.
        type: raw
        required: true
  recoveries:
    description:
      - TCB evaluation data numbers of Intel's. V(forecast) says which TDX guests would be refused if such a number became mandatory today, by the collateral of
        that number or the next higher one that the store has. Fetch it with O(tcb_evaluation_data_number) or O(update=early).
      - Where the store has none for a platform, nobody can say, and V(tcb-recovery-unknown) says so.
    type: list
    elements: int
    default: []
  refresh_within:
    description: Ask again for what ends within so many days, but never before three quarters of its life are over.
    type: int
    default: 7
  force:
    description: Ask again for everything.
    type: bool
    default: false
  offline:
    description: Never touch the network. V(fetch) then only says what is missing.
    type: bool
    default: false
  fail_on_problem:
    description: Fail if something cannot be had (V(fetch)) or is damaged or has ended (V(check)).
    type: bool
    default: true
  kds_url:
    description: AMD's key distribution service or a cache of it.
    type: str
    default: https://kdsintf.amd.com
  pcs_url:
    description: Intel's provisioning certification service.
    type: str
    default: https://api.trustedservices.intel.com
  pccs_url:
    description: A caching service (PCCS) to ask instead of O(pcs_url) and O(root_crl_url).
    type: str
  root_crl_url:
    description: The revocation list of Intel's root.
    type: str
    default: https://certificates.trustedservices.intel.com/IntelSGXRootCA.der
  rim_url:
    description: NVIDIA's service of reference manifests. Its terms hold for what is fetched.
    type: str
    default: https://rim.attestation.nvidia.com
  rim_token_file:
    description: File with a token for O(rim_url), readable by its owner only. Sent over https only, and to no other service.
    type: path
  ocsp_url:
    description: NVIDIA's OCSP responder.
    type: str
    default: https://ocsp.ndis.nvidia.com
  ca_path:
    description: PEM file of the authorities that vouch for the services' TLS certificates, for example a PCCS's own, instead of the system's.
    type: path
  timeout:
    description: Seconds that one answer may take in whole.
    type: int
    default: 20
  deadline:
    description: Seconds that all of V(fetch) may take, waiting included.
    type: int
    default: 600
  attempts:
    description: How often one thing is asked for when a service is busy or does not answer.
    type: int
    default: 6
  max_wait:
    description: The longest single wait in seconds. If a service asks for a longer one, the task says so instead of waiting.
    type: int
    default: 60
  parallelism:
    description: How many requests one service gets at a time, over all tasks and forks that use this store. At most 32.
    type: int
    default: 4
  bundle:
    description: The file that V(export) writes and V(import) reads.
    type: path
  files:
    description: Files that V(import) takes over, each in DER, PEM, JSON or XML. What they are is told from what they hold.
    type: list
    elements: path
    default: []
  signing_key:
    description: Private key (PEM, EC on P-256 or P-384, readable by its owner only) that signs the bundle of V(export).
    type: path
  public_key:
    description: The public key of the signer whose bundles V(import) takes, as JWK (a dictionary) or as the path of a file with a JWK or a PEM public key.
    type: raw
  allow_older:
    description: Let V(import) replace what is newer.
    type: bool
    default: false
notes:
  - Tasks of several hosts may use one store at the same time. What one of them has fetched the others do not ask for. A C(run_once) task over all evidence
    shows one result instead.
  - The store holds no secrets.
seealso:
  - module: attested.ai.evidence_verify
"""

EXAMPLES = r"""
- name: Fetch what the evidence of all guests needs
  attested.ai.collateral:
    operation: fetch
    store: collateral
    evidence: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'evidence'))) }}"
  run_once: true

- name: See that the manifests of next week's driver and VBIOS exist
  attested.ai.collateral:
    operation: fetch
    store: collateral
    rims:
      - NV_GPU_DRIVER_GH100_570.172.08
      - NV_GPU_VBIOS_1010_0200_882_96009F0001

- name: Ask the data centre's own cache for TDX collateral
  attested.ai.collateral:
    operation: fetch
    store: collateral
    intel:
      - fmspc: 90c06f000000
    pccs_url: https://pccs.example.com:8081
    ca_path: pccs-ca.pem

- name: Pack the store for a site without network
  attested.ai.collateral:
    operation: export
    store: collateral
    bundle: collateral.tar
    signing_key: keys/collateral.pem

- name: Take it over there
  attested.ai.collateral:
    operation: import
    store: /var/lib/attested/collateral
    bundle: collateral.tar
    public_key: keys/collateral.pub.pem

- name: Which guests will be refused within six weeks?
  attested.ai.collateral:
    operation: forecast
    store: collateral
    evidence: [evidence/node1.json, evidence/node2.json]
    policy: policy.yml
    horizon: 42
  register: outlook

- name: Show it
  ansible.builtin.debug:
    msg: "{{ outlook.table }}"
"""

RETURN = r"""
pieces:
  description: What became of each piece of collateral.
  returned: fetch, check and import
  type: list
  elements: dict
  contains:
    path:
      description: The file in the store.
      type: str
      sample: amd/crl/genoa.der
    kind:
      description: What it is.
      type: str
      sample: amd-crl
    about:
      description: What it is, in words.
      type: str
      sample: revocation list of ARK-Genoa
    status:
      description:
        - With V(fetch) it is V(fresh), V(added), V(replaced), V(unchanged) (the service had nothing newer), V(kept) (no better answer, what is there still
          holds), V(planned) (check mode), V(missing), V(expired) or V(refused) (an answer that proves nothing).
        - With V(import) it is V(added), V(replaced), V(unchanged) or V(planned).
        - With V(check) it is V(ok), V(expiring), V(expired), V(damaged) or V(unlisted).
      type: str
      sample: added
    detail:
      description: Why, in words. Empty where there is nothing to say.
      type: str
      sample: ""
    code:
      description: Why, as a stable word, for instance V(collateral-not-found) or V(collateral-throttled). Empty where nothing is wrong. Not with V(check).
      type: str
      sample: ""
    source:
      description: Where it came from.
      type: str
      sample: https://kdsintf.amd.com/vcek/v1/Genoa/crl
    sha256:
      description: The digest of the file.
      type: str
      sample: 0a7f2f7c6d1e9b3a5c8d4e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b
    fetched_at:
      description: When it was stored.
      type: str
      sample: "2026-11-01T12:00:00Z"
    issued_at:
      description: From when on it holds, if it says so.
      type: str
      sample: "2026-10-01T00:00:00Z"
    expires_at:
      description: Until when it holds, if it says so.
      type: str
      sample: "2026-11-30T00:00:00Z"
counts:
  description: How many pieces have each status.
  returned: fetch, check and import
  type: dict
  sample: {added: 3, fresh: 40}
complete:
  description: Whether all that is needed is there and holds.
  returned: fetch and check
  type: bool
  sample: true
missing:
  description: Paths of what cannot be had.
  returned: fetch
  type: list
  elements: str
  sample: []
notes:
  description: What is needed and no service has, in words.
  returned: fetch
  type: list
  elements: str
  sample: ["node3: the report is signed with a VLEK, which only the cloud provider hands out: import it as a file"]
requests:
  description: How many requests were sent, tries included.
  returned: fetch
  type: int
  sample: 3
bundle:
  description: The bundle that was written or taken over.
  returned: export and import
  type: dict
  contains:
    path:
      description: The file.
      type: str
      sample: /srv/play/collateral.tar
    created_at:
      description: The date of its newest piece, which is that of the bundle.
      type: str
      sample: "2026-11-01T12:00:00Z"
    entries:
      description: How many pieces it holds.
      type: int
      sample: 43
forecast:
  description: What will be refused, sorted by time, what has no date last.
  returned: forecast
  type: list
  elements: dict
  contains:
    guest:
      description: The name of the evidence.
      type: str
      sample: node1
    item:
      description: The submodule of the result that is refused. Empty if it is the whole.
      type: str
      sample: cpu0
    code:
      description: The id of the check that will fail.
      type: str
      sample: crl-expired
    at:
      description: From when on. Null where the day is not known.
      type: str
      sample: "2026-11-30T00:00:00Z"
    days:
      description: Whole days until then.
      type: int
      sample: 29
    because:
      description:
        - V(now) (it fails today), V(expiry), V(planned-policy), V(early-tcb) (Intel's early view refuses it already), V(shipped-floor) (the collection's own
          TCB floor would), V(firmware-update) (the store is not ready for the next boot) or V(tcb-recovery) (a number in O(recoveries) would).
      type: str
      sample: expiry
    detail:
      description: What the check will say.
      type: str
      sample: the revocation list is valid from 2026-10-01T00:00:00+00:00 to 2026-11-30T00:00:00+00:00; fetch the current revocation list
    ends:
      description: The files of the store that end at this time.
      type: list
      elements: str
      sample: [amd/crl/genoa.der]
table:
  description: The forecast as lines of text for a person.
  returned: forecast
  type: list
  elements: str
  sample: []
recoveries:
  description: For each number in O(recoveries) the names of guests that would be refused, and of those of which nobody can say.
  returned: forecast
  type: list
  elements: dict
  sample: [{number: 20, refused: [node7], unknown: [], guests: 22}]
guests_at_risk:
  description: The guests that will be refused within the horizon.
  returned: forecast
  type: list
  elements: str
  sample: [node1]
collateral_ending:
  description: Files of the store that end within the horizon, whether a guest rests on them or not.
  returned: forecast
  type: list
  elements: dict
  sample: []
horizon_end:
  description: The end of the time that was looked at.
  returned: forecast
  type: str
  sample: "2026-12-01T12:00:00Z"
code:
  description: A stable word for what went wrong, for instance V(bundle-signature), V(bundle-older) or V(store-damaged).
  returned: failure
  type: str
  sample: bundle-signature
"""
