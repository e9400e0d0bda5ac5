# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side: turn task options (a mapping, or the path of a file) into the arguments of an appraisal.

The appraisal itself reads no file. Action plugins make an ``Inputs`` with ``Inputs.of_action(self)`` and ask it.
"""

from __future__ import annotations

import base64
import functools
import os
import stat
import typing as t
from datetime import datetime, timezone

import yaml

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import SCHEMA as POLICY_SCHEMA
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import Policy, load_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import (
    ReferenceValues,
    load_reference_values,
    merge_reference_values,
)
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import kind, parse_time, show
from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.der import pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import NONCE_MAX, NONCE_MIN, REPORT_DATA_SIZE, EvidenceDocument
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import decode_base64, decode_hex
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import find_file

FILE_MAX = 8 * 1024 * 1024
DEPTH_MAX = 32

# What a user gets who writes no policy: every default of the schema, which are strict.
DEFAULT_POLICY = {"schema": POLICY_SCHEMA, "id": "default"}

Resolver = t.Callable[[str], str]


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML, but: a key that occurs twice and anchors are refused, and times stay text."""

    yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: t.Any, index: t.Any) -> t.Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not allowed", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: t.Any, deep: bool = False) -> dict:
        seen = set()
        for key_node, _value in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool, type(None))) or key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {show(key)} occurs twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def plain(value: t.Any, where: str, depth: int = 0) -> t.Any:
    """Copy data that came through Ansible's templates into builtin types, which is all that the core accepts."""
    if depth > DEPTH_MAX:
        raise FormatError("it is nested deeper than %d levels" % DEPTH_MAX, where=where)
    if value is None or isinstance(value, bool):
        return value
    for builtin in (int, float, str):
        if isinstance(value, builtin):
            return builtin(value)
    if isinstance(value, t.Mapping):
        return {plain(key, where, depth + 1): plain(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, where, depth + 1) for item in value]
    raise FormatError("it holds %s, which is no JSON value" % kind(value), where=where, fix="Put it into quotes")


def load_text(text: str, where: str) -> t.Any:
    """Parse YAML, of which JSON is a part, strictly. Raises FormatError with the line."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise FormatError(error.problem or "it is not YAML", where=where + line) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FormatError("it is not YAML (%s)" % str(error).splitlines()[0][:120], where=where) from None


class Inputs:
    """Reads what tasks name. ``resolve`` turns a path of a task into one that can be opened."""

    def __init__(self, resolve: Resolver = os.path.expanduser) -> None:
        self._resolve = resolve

    @classmethod
    def of_action(cls, action: t.Any) -> Inputs:
        """Search paths as Ansible does, and decrypt vaulted files."""
        return cls(functools.partial(find_file, action))

    def resolve(self, path: str) -> str:
        """The path of a task as one that can be opened."""
        return self._resolve(path)

    def read(self, path: str, where: str, maximum: int | None = None) -> bytes:
        """The bytes of a file of at most ``maximum`` bytes, FILE_MAX if it is not given."""
        maximum = FILE_MAX if maximum is None else maximum
        try:
            with open(self._resolve(path), "rb") as stream:
                data = stream.read(maximum + 1)
        except OSError as error:
            raise FormatError("it cannot be read: %s" % (error.strerror or error), where=f"{where} {path}") from None
        if len(data) > maximum:
            raise FormatError("it is larger than %d bytes" % maximum, where=f"{where} {path}")
        return data

    def read_text(self, path: str, where: str) -> str:
        try:
            return self.read(path, where).decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("it is not UTF-8 text", where=f"{where} {path}") from None

    def _document(self, value: t.Any, where: str) -> tuple[t.Any, str]:
        """A mapping as it is, or the parsed YAML or JSON file at a path; and the name to use in errors."""
        if isinstance(value, str):
            name = f"{where} {value}"
            return load_text(self.read_text(value, where), name), name
        return plain(value, where), where

    def policy(self, value: t.Any = None) -> Policy:
        """A policy from a mapping or a path; the strict defaults if there is none."""
        document, where = self._document(DEFAULT_POLICY if value is None else value, "policy")
        return load_policy(document, where)

    def reference_values(self, value: t.Any = None) -> ReferenceValues:
        """Reference values from a mapping, a path, or a list of these; none if ``value`` is None."""
        parts = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        return merge_reference_values(load_reference_values(*self._document(part, "reference values")) for part in parts)

    def evidence(self, value: t.Any) -> EvidenceDocument:
        """An evidence document from a mapping or the path of its JSON file."""
        if isinstance(value, str):
            return EvidenceDocument.from_json(self.read(value, "evidence"), f"evidence {value}")
        return EvidenceDocument.parse(plain(value, "evidence"))

    def endorsements(self, certificates: t.Sequence[str] | None = None, crl: t.Sequence[str] | str | None = None) -> Endorsements:
        """Certificates and revocation lists from files, each PEM (one or more blocks) or DER. ``crl`` may be one path or several."""
        crl = [crl] if isinstance(crl, str) else crl
        return Endorsements(
            tuple(der for path in certificates or () for der in self._blobs(path, "certificate", "CERTIFICATE")),
            tuple(der for path in crl or () for der in self._blobs(path, "CRL", "X509 CRL")),
        )

    def _blobs(self, path: str, where: str, label: str) -> list[bytes]:
        data = self.read(path, where)
        if b"-----BEGIN " in data[:4096]:
            return pem_to_der(data.decode("ascii", "replace"), label, f"{where} {path}")
        if data[:1] != b"\x30":
            raise EndorsementError("it is neither PEM nor DER", where=f"{where} {path}")
        return [data]

    def signing_key(self, path: str) -> t.Any:
        """The EC private key (PEM, not encrypted) that signs EARs. Refused if group or others can read the file."""
        require_cryptography()
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        data = self.read(path, "ear_key")
        mode = stat.S_IMODE(os.stat(self._resolve(path)).st_mode)
        if mode & 0o077:
            raise FormatError("group or others may read it (mode %04o)" % mode, where=f"ear_key {path}", fix=f"Run: chmod 0600 {path}")
        try:
            return load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise FormatError("it is not an unencrypted PEM private key (%s)" % type(error).__name__, where=f"ear_key {path}") from None


def evaluation_time(value: str | None) -> datetime:
    """The time at which to judge (aware): the given RFC 3339 time, or now."""
    return datetime.now(timezone.utc) if value is None else parse_time(str(value), "at")


def parse_nonce(value: str) -> bytes:
    """The verifier's nonce from standard base64."""
    return decode_base64(str(value), "nonce", NONCE_MIN, NONCE_MAX)


def parse_report_data(value: str, size: int = REPORT_DATA_SIZE) -> bytes:
    """Report data (a device: its nonce) of ``size`` bytes from hexadecimal text."""
    return decode_hex(str(value), "report_data", size)


def draw_nonce() -> str:
    """A fresh nonce of 32 random bytes, in standard base64."""
    return base64.b64encode(os.urandom(32)).decode("ascii")
