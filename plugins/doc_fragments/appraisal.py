# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of every action that judges evidence which somebody else collected."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  policy:
    description:
      - The appraisal policy, as a dictionary or as the path of a YAML or JSON file on the controller.
      - Unknown keys are errors. See the policy reference in the collection's C(docs/policy-reference.md).
    type: raw
    required: true
  reference_values:
    description:
      - The launch measurements that are good, as a dictionary or as the path of a YAML or JSON file on the controller.
      - Without a match the server is refused, unless the policy says C(measurements_required=false).
    type: raw
  certificates:
    description:
      - Files on the controller with certificates (PEM or DER) for the path from the evidence to a pinned root.
      - None of these is trusted for being here. The path must end at a pinned root.
    type: list
    elements: path
    default: []
  crl:
    description: File on the controller with the certificate revocation list (PEM or DER) of the product's root.
    type: path
  collateral:
    description:
      - Collateral on the controller, directories that M(attested.ai.collateral) keeps, signed bundles, or single files.
      - Nothing in it is trusted for being here. What an appraisal uses of it must lead to a pinned root.
    type: list
    elements: path
    default: []
  collateral_key:
    description: The public key of the signer of bundles in O(collateral), as JWK or as the path of a file with a JWK or PEM.
    type: raw
  at:
    description:
      - Evaluation time in RFC 3339, for tests. The default is the controller's clock.
    type: str
"""
