# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A document of reference values on the controller: read, written whole or not at all, signed beside it, exported for Trustee."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from dataclasses import dataclass
from datetime import datetime

import yaml

from ansible_collections.attested.ai.plugins.module_utils.appraisal.reference_values import ReferenceValues, load_reference_values
from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import LIST_MAX, format_time
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError, PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jws
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key, load_signing_key
from ansible_collections.attested.ai.plugins.module_utils.measure.rvps import lost, to_rvps
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import FILE_MAX, load_text

# Keeps these signatures apart from those of manifests and bundles, which the same key may make.
TYPE = "attested.ai/reference-values"
SUFFIX = ".jws"
_SIGNATURE_MAX = 4096


@dataclass(frozen=True)
class Document:
    """What is on disk now. ``content`` is None if there is no such file."""

    path: str
    content: bytes | None
    values: ReferenceValues

    @classmethod
    def read(cls, path: str) -> Document:
        """Raises AttestedError if there is a file which is no document of reference values."""
        content = _read(path, FILE_MAX)
        if content is None:
            return cls(path, None, ReferenceValues())
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("it is not UTF-8 text", where=path) from None
        return cls(path, content, load_reference_values(load_text(text, path), path))

    @property
    def signature_path(self) -> str:
        return self.path + SUFFIX

    def verified(self, public: t.Mapping[str, str]) -> dict[str, t.Any]:
        """The result of state verified. Raises AttestedError unless the signature is one of this key over the file as it is."""
        if self.content is None:
            raise FormatError("there is no such file", where=self.path)
        self._check_signature(self.content, public)
        return {**self._told(self.content, self.values, public), "changed": False, "verified": True}

    def keep(
        self, values: ReferenceValues, *, signing_key: str | None, create_signing_key: bool, rvps: str | None, at: datetime, check_mode: bool, diff: bool
    ) -> dict[str, t.Any]:
        """Write what differs: the document, its signature, the export. Raises AttestedError."""
        if len(values.values) > LIST_MAX:
            raise PolicyError("%d values, at most %d are allowed" % (len(values.values), LIST_MAX), where=self.path)
        # As it is where nothing is to be changed: comments and a signature over these bytes stay.
        content = self.content if self.content is not None and values == self.values else _text(values)
        key = _key(signing_key, create_signing_key, check_mode)
        export = None if rvps is None else _export(values, at)
        writes: list[tuple[str, bytes]] = []
        if content != self.content:
            writes.append((self.path, content))
        if key is not None and not self._signed_by(content, public_jwk(key)):
            writes.append((self.signature_path, jcs.canonicalize(jws.sign_detached(content, key, typ=TYPE)) + b"\n"))
        elif key is None and content != self.content and signing_key is None and os.path.exists(self.signature_path):
            raise FormatError("the document is signed and would be no more", where=self.path, fix="Give signing_key, or remove %s" % self.signature_path)
        if rvps is not None and export is not None and _read(rvps, FILE_MAX) != export:
            writes.append((rvps, export))
        creates_key = key is None and signing_key is not None
        if not check_mode:
            for path, data in writes:
                _write(path, data)
        told: dict[str, t.Any] = {**self._told(content, values, None if key is None else public_jwk(key)), "changed": bool(writes) or creates_key}
        if rvps is not None:
            told.update(rvps_path=rvps, rvps_notes=lost(values, at))
        if diff:
            before = (self.content or b"").decode("utf-8")
            told["diff"] = {"before_header": self.path, "after_header": self.path, "before": before, "after": content.decode("utf-8")}
        return told

    def _signed_by(self, content: bytes, public: t.Mapping[str, str]) -> bool:
        try:
            self._check_signature(content, public)
        except AttestedError:
            return False
        return True

    def _check_signature(self, content: bytes, public: t.Mapping[str, str]) -> None:
        signature = _read(self.signature_path, _SIGNATURE_MAX)
        if signature is None:
            raise FormatError("there is no signature beside it", where=self.path, fix="Sign it: give signing_key where it is made", code="signature-missing")
        jws.verify_detached(strict.loads(signature, self.signature_path), content, dict(public), TYPE, self.signature_path)

    def _told(self, content: bytes, values: ReferenceValues, public: t.Mapping[str, str] | None) -> dict[str, t.Any]:
        told: dict[str, t.Any] = {
            "path": self.path,
            "count": len(values.values),
            "digest": hashlib.sha256(content).hexdigest(),
            "reference_values": values.to_dict(),
            "expires_at": format_time(min(value.not_after for value in values.values)) if values.values else None,
        }
        if public is not None:
            told.update(signature_path=self.signature_path, signer=dict(public))
        return told


def _key(path: str | None, create: bool, check_mode: bool) -> t.Any:
    """The signing key; None if there is none, or if it would have to be made in check mode."""
    if path is None:
        return None
    if create and not os.path.exists(path):
        return None if check_mode else create_signing_key(path)
    return load_signing_key(path)


def _text(values: ReferenceValues) -> bytes:
    return ("---\n" + yaml.safe_dump(values.to_dict(), sort_keys=False, width=200)).encode("utf-8")


def _export(values: ReferenceValues, at: datetime) -> bytes:
    return (json.dumps(to_rvps(values, at), indent=2, sort_keys=True) + "\n").encode("utf-8")


def _read(path: str, maximum: int) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            data = stream.read(maximum + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FormatError("it cannot be read: %s" % (error.strerror or error), where=path) from None
    if len(data) > maximum:
        raise FormatError("it is larger than %d bytes" % maximum, where=path)
    return data


def _write(path: str, data: bytes) -> None:
    """Whole or not at all."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise FormatError("it cannot be written: %s" % (error.strerror or error), where=path) from None
