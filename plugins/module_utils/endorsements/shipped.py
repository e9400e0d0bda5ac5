# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Vendors' public certificates that are shipped as data: every digest is compared on load, so that a damaged file is no silent change of trust."""

from __future__ import annotations

import hashlib
import pkgutil
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import Certificate, parse_certificate


def read_document(where: str, schema: str, what: str) -> Mapping[str, Any]:
    """The data file ``where`` (relative to this folder) if it is of ``schema``; ``what`` names it for people. Raises EndorsementError."""
    raw = pkgutil.get_data(__name__, where)
    if raw is None:
        raise EndorsementError("the file of %s is missing" % what, where=where, fix="Install the collection again.")
    document: Mapping[str, Any] = strict.loads(raw, where)
    if document.get("schema") != schema:
        raise EndorsementError("unknown schema %r" % (document.get("schema"),), where=where)
    return document


def read_certificate(entry: Mapping[str, Any], where: str) -> Certificate:
    """One certificate. Raises EndorsementError unless its digests and its name are those written beside it."""
    data = strict.decode_base64(entry["certificate"], where)
    certificate = parse_certificate(data)
    found = (hashlib.sha256(data).hexdigest(), hashlib.sha256(certificate.spki).hexdigest(), certificate.common_name)
    if found != (entry["sha256"], entry["spki_sha256"], entry["name"]):
        raise EndorsementError("%s does not have the digests and the name written beside it" % entry["name"], where=where)
    return certificate


def read_roots(where: str, schema: str, what: str) -> Tuple[Tuple[str, Certificate], ...]:
    """All certificates of a data file as (role, certificate)."""
    return tuple((entry["role"], read_certificate(entry, where)) for entry in read_document(where, schema, what)["certificates"])
