# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter that lets a guest read an encrypted model from an S3-compatible store without credentials of its own."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.presign import Store, presigned
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded, unlazy

DOCUMENTATION = r"""
name: s3_presigned
short_description: Addresses of objects in an S3-compatible store that carry their own permission to read
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Makes presigned addresses (AWS Signature Version 4) on the controller, without a library and without asking the store.
    A guest that gets them reads these objects for a while, and holds no credentials.
  - Whoever sees an address can use it until it expires. Keep the result out of logs with C(no_log), as M(attested.ai.model_open) does.
options:
  _input:
    description: Names of objects below O(prefix), such as C(published) of M(attested.ai.model_encrypt).
    type: list
    elements: str
    required: true
  bucket:
    description: The bucket.
    type: str
    required: true
  access_key:
    description: Name of the key.
    type: str
    required: true
  secret_key:
    description: The key.
    type: str
    required: true
  session_token:
    description: Token of temporary credentials.
    type: str
    default: ''
  prefix:
    description: Comes before each name, with its slash.
    type: str
    default: ''
  region:
    description: Region of the bucket.
    type: str
    default: us-east-1
  endpoint:
    description: Address of the store, such as V(https://s3.example.org). The default is AWS.
    type: str
    default: ''
  path_style:
    description: Whether the bucket stands in the path and not in the name of the host. Most stores besides AWS want it.
    type: bool
    default: false
  expires:
    description: For how many seconds the addresses are valid, at most a week.
    type: int
    default: 3600
  time:
    description: Since when, as Unix time. The default is now.
    type: int
seealso:
  - module: attested.ai.model_open
  - module: amazon.aws.s3_object
"""

EXAMPLES = r"""
- name: Open a model from a store of one's own
  attested.ai.model_open:
    src: https://s3.example.org/models/minilm-1
    urls: >-
      {{ encrypted.published | attested.ai.s3_presigned(bucket='models', prefix='minilm-1/', endpoint='https://s3.example.org', path_style=true,
                                                        access_key=s3_access_key, secret_key=s3_secret_key) }}
    dest: /run/model/minilm
    session: "{{ release.session }}"
"""

RETURN = r"""
_value:
  description: Addresses by name.
  type: dict
"""


def s3_presigned(names: t.Any, bucket: str, access_key: str, secret_key: str, session_token: str = "", prefix: str = "", region: str = "us-east-1",
                 endpoint: str = "", path_style: bool = False, expires: int = 3600, time: int | None = None) -> dict[str, str]:
    wanted = unlazy(names)
    if not isinstance(wanted, list) or not all(isinstance(name, str) and name for name in wanted):
        raise ModelError("a list of names is needed", where="s3_presigned", code="model-s3")
    utc = datetime.timezone.utc
    at = datetime.datetime.now(utc) if time is None else datetime.datetime.fromtimestamp(int(time), utc)
    store = Store(str(bucket), str(access_key), str(secret_key), str(session_token), str(region), str(endpoint), bool(path_style))
    return presigned(store, wanted, str(prefix), int(expires), at)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"s3_presigned": guarded(s3_presigned)}
