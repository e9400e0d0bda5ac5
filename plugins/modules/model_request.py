#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: model_request
short_description: Verify an attested model server, and ask it
version_added: 0.1.0
description:
  - Asks a server that the role P(attested.ai.model_server#role) made for evidence over a fresh nonce, appraises it by a policy, and holds the key that the
    server shows on this very connection against the one that the evidence binds.
  - Only then the request is sent, over TLS 1.3, to that key and to no other. Where asked, it is encrypted a second time, to the attested key, so that
    nothing before the TEE reads it even where TLS ends earlier, such as at a load balancer.
  - Without O(target) the server is only verified.
  - Runs on the controller, whatever the host of the task.
author: attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
  - attested.ai.appraisal
attributes:
  check_mode:
    support: full
    details: Verifies the server. Nothing is sent to the model.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Each run asks. The task is changed only if O(dest) is.
options:
  url:
    description: Address of the server, such as V(https://model.example.org:8443).
    type: str
    required: true
  token_file:
    description: File on the controller with the bearer token of a server that wants one. Only its owner may read it. It is sent to the attested key only.
    type: path
  timeout:
    description: Seconds for each exchange with the server, 1 to 86400.
    type: int
    default: 600
  model_id:
    description: Which model it must serve, by what the attested server says.
    type: str
  minimum_release:
    description: Which release of the model it must serve at least.
    type: int
  method:
    description: The default is V(POST) with a body and V(GET) without.
    type: str
    choices: [GET, POST]
  target:
    description: Path and query to ask for, such as V(/v1/embeddings).
    type: str
  body:
    description:
      - What to send, as text or as a structure that becomes JSON. It is a value of a task, so with what must not be shown set C(no_log=true), or use O(src).
    type: raw
  src:
    description: File on the controller with what to send.
    type: path
  content_type:
    description: What the body is.
    type: str
    default: application/json
  encrypt:
    description:
      - Whether to encrypt request and answer between here and the TEE a second time (JWE, ECDH-ES+A256KW and A256GCM).
      - A body may then be up to about 780 kB, as may the answer, and the answer comes as a whole.
    type: bool
    default: false
  dest:
    description: File on the controller for the answer, of mode V(0600). It is then not returned.
    type: path
notes:
  - The policy must let a guest's chain of trust end where it does, as with M(attested.ai.model_release), or waive it.
seealso:
  - module: attested.ai.model_batch
  - module: attested.ai.attest
"""

EXAMPLES = r"""
- name: Ask the model, and nobody else
  attested.ai.model_request:
    url: https://model.example.org:8443
    policy: policy.yml
    reference_values: reference-values.yml
    model_id: minilm
    target: /v1/embeddings
    src: question.json
    dest: answer.json
    encrypt: true

- name: See that the server is still the attested one
  attested.ai.model_request:
    url: https://model.example.org:8443
    policy: policy.yml
    reference_values: reference-values.yml
"""

RETURN = r"""
served:
  description: Which model the server says that it serves, or nothing if it serves none.
  returned: success
  type: dict
  sample: {model_id: minilm, release: 1, manifest_sha256: 0d5c4f3e9f7b1a7f2f1ad06a1a3f2f0e1f9d8e7c6b5a493827160504f3e2d1c0}
tls_spki:
  description: The key of the server, which its evidence binds.
  returned: success
  type: str
  sample: sha256:4f9a1c0e5b7d4a51a3c8f2d1e0c9b8a7968574635241302f1e0d9c8b7a695847
result:
  description: The appraisal, as in M(attested.ai.attest).
  returned: success
  type: dict
  sample: {schema: attested.ai/result/1, accepted: true}
status:
  description: Status of the answer.
  returned: when something was asked
  type: int
  sample: 200
content_type:
  description: What the answer is.
  returned: when something was asked
  type: str
  sample: application/json
encrypted:
  description: Whether it was encrypted a second time.
  returned: when something was asked
  type: bool
  sample: true
answer:
  description: The answer, parsed if it is JSON.
  returned: when something was asked and O(dest) is not set
  type: raw
  sample: {ranking: []}
code:
  description:
    - A stable word for the reason of a failure, for instance V(refused), V(key-unattested), V(key-other), V(unreachable), V(no-evidence) or V(model-other).
  returned: failure
  type: str
  sample: key-unattested
"""
