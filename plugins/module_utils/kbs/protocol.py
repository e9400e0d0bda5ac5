# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The words of the KBS protocol 0.4.0: paths, bodies, and what a guest's evidence has to bind.

Source: trustee v0.21.0, kbs/src/api_server.rs, kbs/src/attestation/backend.rs; kbs-types 0.18.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Union

from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError

VERSION = "0.4.0"
PREFIX = "/kbs/v0"
COOKIE = "kbs-session-id"
TEES = ("sample", "snp", "tdx", "cca", "az-snp-vtpm", "az-tdx-vtpm")
# The attestation service evaluates <id>_<class> with the id "default"; an upload under another name has no effect.
POLICY_IDS = ("default_cpu", "default_gpu", "default_switch", "default_ppcie")
NONCE_SIZE = 32
RESOURCE_MAX = 64 << 20
_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
_RESOURCE = re.compile("({0})/({0})/({0})\\Z".format(_SEGMENT))
# Storage of the KBS takes these characters; a slash would be part of the path.
_REFERENCE = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")


@dataclass(frozen=True)
class Resource:
    """kbs:///repository/type/tag."""

    repository: str
    kind: str
    tag: str

    @classmethod
    def parse(cls, text: Any, where: str = "resource") -> Resource:
        """From repository/type/tag or kbs:///repository/type/tag. Raises KbsError."""
        value = text if isinstance(text, str) else str(text)
        path = value[len("kbs:///"):] if value.startswith("kbs:///") else value
        match = _RESOURCE.match(path)
        if match is None:
            named = " (a KBS in the URI is not asked: write kbs:///)" if value.startswith("kbs://") and not value.startswith("kbs:///") else ""
            raise KbsError("%s is no path repository/type/tag of letters, digits, _ - and, not first, dots%s" % (strict.quoted(value), named),
                           where=where, code="kbs-resource-path")
        return cls(*match.groups())

    @property
    def path(self) -> str:
        return "%s/%s/%s" % (self.repository, self.kind, self.tag)

    @property
    def uri(self) -> str:
        return "kbs:///" + self.path


def check_reference_name(name: Any) -> str:
    if not isinstance(name, str) or not _REFERENCE.match(name):
        raise KbsError("%s is no name of a reference value (letters, digits, dots, _ and -)" % strict.quoted(name), where="reference values",
                       code="kbs-reference-name")
    return name


def auth_request(tee: str) -> Dict[str, Any]:
    return {"version": VERSION, "tee": tee, "extra-params": {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]}}


def attest_request(nonce: str, jwk: Mapping[str, str], primary: Any, additional: str, init_data: Optional[str]) -> Dict[str, Any]:
    return {
        "init-data": None if init_data is None else {"format": "toml", "body": init_data},
        "runtime-data": {"nonce": nonce, "tee-pubkey": dict(jwk)},
        "tee-evidence": {"primary_evidence": primary, "additional_evidence": additional},
    }


def report_data(nonce: str, jwk: Mapping[str, str], additional: str, algorithm: str = "sha384") -> bytes:
    """What the CPU's evidence must hold, before it is padded with zeros to the TEE's field."""
    value = {"additional-evidence": additional, "nonce": nonce, "tee-pubkey": dict(jwk)}
    return hashlib.new(algorithm, jcs.canonicalize(value)).digest()


def device_nonce(nonce: str, jwk: Mapping[str, str], algorithm: str = "sha384") -> bytes:
    """What the evidence of a device must hold, before it is cut or padded to its field."""
    return hashlib.new(algorithm, jcs.canonicalize({"nonce": nonce, "tee-pubkey": dict(jwk)})).digest()


def policy_text(policy: Union[str, bytes]) -> str:
    """A policy as the API takes it: base64url without padding."""
    return strict.encode_base64url(policy.encode("utf-8") if isinstance(policy, str) else policy)
