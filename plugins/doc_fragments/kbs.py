# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of the modules that speak to a key broker (KBS)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Address of the KBS, C(https://host:port). Several are brought to the same.
      - HTTP without TLS is taken for loopback only, unless O(allow_http). Proxies of the environment are not used.
    type: list
    elements: str
    required: true
  ca_path:
    description: File on the controller with the certificates (PEM) that the KBS is verified by. The system's authorities if it is not given.
    type: path
  server_name:
    description: The name in its certificate, if it is another than that of O(url).
    type: str
    default: ""
  pins:
    description: SHA-256 of keys that its certificate may have (SubjectPublicKeyInfo), as C(sha256:<hexadecimal>). Any key if empty.
    type: list
    elements: str
    default: []
  allow_http:
    description: Speak without TLS to other machines, too. The admin token and everything stored can then be read on the way.
    type: bool
    default: false
  timeout:
    description: Seconds for one whole answer.
    type: int
    default: 20
  attempts:
    description: How often to try where there is no answer.
    type: int
    default: 3
"""

    ADMIN = r"""
options:
  admin_key:
    description:
      - Private key of the admin (PEM, mode 0600, Ed25519, EC P-256 or RSA). A token is minted for each request, and lives O(token_lifetime) seconds.
      - Make one with C(openssl genpkey -algorithm ed25519).
      - Its public half is what C(public_key_uri) of the KBS names, in C([admin.authentication.bearer_jwt]).
    type: path
  admin_token:
    description: File (mode 0600) with an admin token that somebody else issued, in the place of O(admin_key).
    type: path
  issuer:
    description: Claim C(iss) of the tokens. Needed with O(admin_key).
    type: str
  audience:
    description: Claim C(aud) of the tokens.
    type: str
    default: KBS
  subject:
    description: Claim C(sub) of the tokens.
    type: str
    default: admin
  role:
    description: Claim C(role) of the tokens, which KBS 0.21 and later compare with their rules.
    type: str
    default: admin
  token_lifetime:
    description: Seconds that a token is valid.
    type: int
    default: 120
  allow_open_admin:
    description: Go on although the KBS lets admins in without a token. Nothing that it holds is protected then.
    type: bool
    default: false
"""

    STATE = r"""
options:
  state_path:
    description:
      - File on the controller that keeps digests of what was stored, for a KBS gives nothing back to an admin.
      - Digests are made with a key (the same name with C(.key) added, mode 0600), so that they tell nothing of a secret; the file is authenticated with it.
      - Everybody who manages the same KBS must share it.
    type: path
    required: true
  marker:
    description:
      - Put a reference value named C(attested-ai-state), with a random value, into the KBS, and look at it each time. A KBS that lost its storage does not
        have it, and is filled again.
      - Switch it off for a KBS without a reference value provider; then a loss is not seen.
    type: bool
    default: true
  force:
    description: Store again although the digest says that it is there.
    type: bool
    default: false
"""
