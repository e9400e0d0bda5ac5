# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of init-data: make the document with its annotation and digests, take one apart, and the sections that point to a KBS."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.attested.ai.plugins.module_utils.kbs import initdata as core
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import plain
from ansible_collections.attested.ai.plugins.plugin_utils.filter_guard import guarded


@guarded
def initdata(value: t.Any, algorithm: str = "sha256") -> dict[str, t.Any]:
    given = plain(value, "initdata")
    if isinstance(given, str):
        return core.accept(given).to_dict()
    if not isinstance(given, dict):
        raise AnsibleFilterError("initdata takes a dictionary of parts or the text of a document")
    return core.render(given, str(algorithm)).to_dict()


@guarded
def initdata_kbs(
    url: str, cert: str = "", image_security_policy_uri: str = "", registry_credentials_uri: str = "", allow_http: bool = False
) -> dict[str, t.Any]:  # fmt: skip
    return core.for_kbs(str(url), str(cert), str(image_security_policy_uri), str(registry_credentials_uri), boolean(allow_http))


@guarded
def initdata_read(annotation: str) -> dict[str, t.Any]:
    return core.accept(core.unpacked(str(annotation))).to_dict()


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"initdata": initdata, "initdata_kbs": initdata_kbs, "initdata_read": initdata_read}
