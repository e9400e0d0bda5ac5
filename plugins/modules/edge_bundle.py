#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_bundle
short_description: Let a gateway without a link release keys, within limits
version_added: 0.1.0
description:
  - A gateway is an Ansible controller at a site whose link to the centre comes and goes. It verifies the guests of its site and releases keys to them by a
    bundle, one signed file that the centre made for it alone.
  - The bundle has policy, reference values, collateral, the manifests of models, and their data keys, each encrypted to the gateway's key. It has no
    key-encryption key. It is valid from O(not_before) to O(not_after), until its first piece of collateral ends, and for O(models[].uses) releases of each
    model.
  - M(attested.ai.model_release) uses it with C(kek) of the source C(edge). Each release is counted in the gateway's ledger before it is made.
    M(attested.ai.edge_report) carries the ledger back.
  - Everything happens on the machine that runs Ansible. See C(docs/edge.md) for the whole thread.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: A bundle is read and proven, and nothing is written.
  diff_mode:
    support: full
    details: Shows for whom a bundle is, until when, how often, and digests of what is in it.
  idempotent:
    support: full
    details:
      - A bundle is made again only if it would grant something else, or if a report of the gateway came in since.
requirements:
  - cryptography >= 38 on the controller
options:
  state:
    description:
      - V(prepared) makes the directory of a gateway, with its key and its ledger. It is never mended; where a part of it is missing, it fails.
      - V(made) makes a bundle at the centre.
      - V(installed) verifies a bundle on the gateway and puts it into its directory. Older ones, others' and ended ones are refused.
      - V(inspected) says what is left of a bundle. It does not fail because a bundle has ended.
    type: str
    required: true
    choices: [prepared, made, installed, inspected]
  gateway:
    description:
      - The gateway's directory, on the gateway. Relative paths are relative to the playbook. Required if O(state=prepared) or O(state=installed).
    type: path
  name:
    description: The gateway's name, for good. Small letters, digits, dots, dashes and underscores. Required if O(state=prepared).
    type: str
  bundle:
    description: The bundle's file. Required if O(state=installed). With O(state=inspected) either this or O(gateway).
    type: path
  signer:
    description: The centre's public key, as JWK or as the path of a file with a JWK or PEM. Nobody else's bundle is taken.
    type: raw
  centre:
    description:
      - Directory at the centre where it remembers its gateways. For each its card, the last number, what was granted, and a copy of its ledger.
      - Required if O(state=made).
    type: path
  card:
    description: The gateway's C(card.json), brought from there. Compare its RV(fingerprint) at both ends. Required if O(state=made).
    type: path
  dest:
    description: Where to write the bundle. Required if O(state=made).
    type: path
  signing_key:
    description: The centre's signing key (PEM, EC P-256). Required if O(state=made).
    type: path
  policy:
    description: The policy that the gateway judges by, as a dictionary or the path of a file. Required if O(state=made).
    type: raw
  reference_values:
    description: Reference values, as a dictionary, the path of a file, or a list of these.
    type: raw
  collateral:
    description:
      - A store of M(attested.ai.collateral). All of it goes along, and the first piece that ends ends the bundle. Keep one with no more than the site needs.
    type: path
  models:
    description: What may be released. Required if O(state=made).
    type: list
    elements: dict
    suboptions:
      model:
        description: Directory with the encrypted model, or at least its manifest and signature.
        type: path
        required: true
      kek:
        description: The key-encryption key that wraps its data key, in any form that M(attested.ai.model_encrypt) takes. It is used here and stays here.
        type: raw
        required: true
      signer:
        description: Public key of the manifest's signer.
        type: raw
        required: true
      uses:
        description: How many releases of it this bundle permits.
        type: int
        required: true
      minimum_release:
        description: The lowest release that a guest may open. By default that of the manifest.
        type: int
  not_before:
    description: When it begins, like V(2026-11-01T00:00:00Z). By default now.
    type: str
  not_after:
    description: When it ends, like V(2026-12-01T00:00:00Z). Required if O(state=made).
    type: str
  sequence:
    description: The bundle's number. By default the next one. Gateways take no lower one than they had; give it after a centre's directory was lost.
    type: int
seealso:
  - module: attested.ai.edge_report
  - module: attested.ai.model_release
  - module: attested.ai.collateral
"""

EXAMPLES = r"""
- name: Make the gateway (at the site, once)
  attested.ai.edge_bundle:
    state: prepared
    gateway: gateway
    name: plant-1

- name: Make its bundle (at the centre)
  attested.ai.edge_bundle:
    state: made
    centre: centre
    card: cards/plant-1.json
    dest: out/plant-1.tar
    signing_key: secrets/centre.pem
    policy: policy.yml
    reference_values: reference-values.yml
    collateral: collateral
    models:
      - model: encrypted/minilm
        kek: secrets/kek.jwk
        signer: secrets/signer.pub.jwk
        uses: 20
    not_after: "2026-12-01T00:00:00Z"

- name: Install it (at the site)
  attested.ai.edge_bundle:
    state: installed
    gateway: gateway
    bundle: in/plant-1.tar
    signer: centre.pub.pem

- name: See what is left
  attested.ai.edge_bundle:
    state: inspected
    gateway: gateway
    signer: centre.pub.pem
  register: left

- name: Warn a week ahead
  ansible.builtin.assert:
    that: left.edge.usable and left.edge.days_left > 7
"""

RETURN = r"""
edge:
  description: What is left of the bundle at the time of the task.
  returned: success, unless O(state=prepared)
  type: dict
  contains:
    gateway:
      description: For whom it is.
      type: str
      sample: plant-1
    sequence:
      description: Its number.
      type: int
      sample: 4
    not_before:
      description: When it begins.
      type: str
      sample: "2026-11-01T00:00:00Z"
    not_after:
      description: When its window ends.
      type: str
      sample: "2026-12-01T00:00:00Z"
    collateral_until:
      description: When the first piece of its collateral ends, null if none does.
      type: str
      sample: "2026-11-30T00:00:00Z"
    ends_at:
      description: When nothing is released any more.
      type: str
      sample: "2026-11-30T00:00:00Z"
    ends_by:
      description: What ends it, V(window) or V(collateral).
      type: str
      sample: collateral
    days_left:
      description: Days until then, 0 if it has ended.
      type: float
      sample: 28.5
    models:
      description: For each model its release, C(uses), C(used) and C(uses_left).
      type: list
      elements: dict
      sample: [{model_id: minilm, release: 1, uses: 20, used: 3, uses_left: 17}]
    usable:
      description: Whether anything is released by it now.
      type: bool
      sample: true
    problems:
      description: Why not, with C(code) and C(detail).
      type: list
      elements: dict
      sample: []
sequence:
  description: The bundle's number.
  returned: success, unless O(state=prepared)
  type: int
  sample: 4
card:
  description: The gateway's public keys, as in its C(card.json), which goes to the centre.
  returned: O(state=prepared)
  type: dict
  sample: {schema: attested.ai/edge-card/1, name: plant-1, key: {}, ledger_key: {}}
fingerprint:
  description: SHA-256 of the card.
  returned: O(state=prepared)
  type: str
  sample: sha256:3f2a1c0d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4938271605f4e3d2c1b0a99887
code:
  description: A stable word for what went wrong, for instance V(edge-expired), V(edge-used-up), V(edge-older) or V(edge-clock-back).
  returned: failure
  type: str
  sample: edge-older
"""
