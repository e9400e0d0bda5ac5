# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options for where keys come from and where minimum releases are kept."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kek:
    description:
      - The key-encryption key that wraps the model's data key. See the guide on key sources in C(docs/key-sources.md).
      - A path is a file on the controller with a JWK of type C(oct), or 32 bytes, raw or base64. Only its owner may read it, unless Ansible Vault encrypted
        it. Then it is decrypted in memory.
      - A dictionary with C(source=vault_kv) names a secret in HashiCorp Vault or OpenBao (KV version 2) by C(path), and optionally C(mount) (C(secret)),
        C(field) (C(kek)) and C(version).
      - A dictionary with C(source=vault_transit) names a C(key) of Transit, of the type C(aes256-gcm96), and optionally C(mount) (C(transit)). That key never
        leaves the server, which wraps and unwraps.
      - C(server) of both is a dictionary with C(url), and C(token_file), or C(secret_id_file) and C(role_id), or C(jwt_file) and C(auth_role); optionally
        C(auth_mount), C(ca_path), C(server_name), C(pins), C(namespace), C(timeout), C(attempts), C(allow_http). Credentials are files that only
        their owner may read.
      - A dictionary with C(source=edge), C(gateway), C(signer) and C(model_id) takes model, policy, reference values, collateral and key from the bundle that
        is installed in the directory C(gateway) and signed by C(signer). For M(attested.ai.model_release) only. See C(docs/edge.md).
    type: raw
    required: true
"""

    COUNTER = r"""
options:
  counter:
    description:
      - Where the minimum releases are kept besides the controller's own. The highest counts, and nothing is released before all took it.
      - With C(source=vault_kv), C(server) as in O(kek), C(path) and optionally C(mount), a secret of KV version 2 that is changed by check-and-set only.
      - With C(source=kbs) and C(server), a dictionary with the options of M(attested.ai.kbs_info), a reference value of a KBS.
    type: dict
"""
