# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Init-data of Confidential Containers: the TOML, the annotation that carries it, and its digest in the field of each TEE.

It is the only channel that configures a guest and is measured. It is no secret: the host reads it.
Source: kata-containers, src/libs/kata-types/src/initdata.rs; Trustee, kbs/docs/initdata.md.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import LOOPBACK, Server
from ansible_collections.attested.ai.plugins.module_utils.measure.initdata import ALGORITHMS, FIELDS, field_value

VERSION = "0.1.0"
ANNOTATION = "io.katacontainers.config.hypervisor.cc_init_data"
KNOWN = ("aa.toml", "cdh.toml", "policy.rego")
TOML_MAX = 4 << 20
_MAGIC = b"initdata"
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_WHERE = "init-data"


@dataclass(frozen=True)
class InitData:
    """``toml`` exactly as it is measured."""

    toml: str
    algorithm: str

    @property
    def digest(self) -> str:
        return hashlib.new(self.algorithm, self.toml.encode("utf-8")).hexdigest()

    @property
    def annotation(self) -> str:
        return base64.b64encode(packed(self.toml.encode("utf-8"))).decode("ascii")

    @property
    def fields(self) -> Dict[str, str]:
        """What a report holds, by TEE; the sample TEE's is what Trustee makes of it: the digest in base64."""
        found = {tee: field_value(self.toml.encode("utf-8"), self.algorithm, tee)[1] for tee in FIELDS}
        return dict(found, sample=base64.b64encode(bytes.fromhex(self.digest)).decode("ascii"))

    def to_dict(self) -> Dict[str, Any]:
        return {"toml": self.toml, "algorithm": self.algorithm, "digest": self.digest, "digests": self.fields, "annotation": self.annotation,
                "annotation_name": ANNOTATION}  # fmt: skip


def render(parts: Mapping[str, Any], algorithm: str) -> InitData:
    """From aa.toml, cdh.toml and policy.rego, each as text or (TOML) as mapping. The same parts give the same bytes. Raises KbsError."""
    if algorithm not in ALGORITHMS:
        # The Go shim crashes on it.
        raise KbsError("the algorithm %s is none of %s" % (quoted(algorithm), ", ".join(ALGORITHMS)), where=_WHERE, code="init-data-form")
    lines = ['version = "%s"' % VERSION, 'algorithm = "%s"' % algorithm, "", "[data]"]
    for name in [name for name in KNOWN if name in parts] + sorted(name for name in parts if name not in KNOWN):
        value = parts[name]
        if isinstance(value, Mapping):
            value = toml_document(value)
        if not isinstance(value, str):
            raise KbsError("%s is neither text nor a mapping" % quoted(name), where=_WHERE, code="init-data-form")
        lines.append("%s = %s" % (_key(str(name)), _block(value)))
    return accept("\n".join(lines) + "\n", parts)


def accept(toml: str, parts: Any = None) -> InitData:
    """Take a document as it is, after it was read: version, algorithm and data as Kata and Trustee expect them. Raises KbsError."""
    try:
        size = len(toml.encode("utf-8"))
    except UnicodeEncodeError:
        raise KbsError("it holds half a character (a lone surrogate)", where=_WHERE, code="init-data-form") from None
    if size > TOML_MAX:
        raise KbsError("it is larger than %d bytes" % TOML_MAX, where=_WHERE, code="init-data-form")
    document = _read(toml)
    unknown = sorted(set(document) - {"version", "algorithm", "data"})
    if unknown or document.get("version") != VERSION:
        raise KbsError("its version must be %s, and it has version, algorithm and data only" % VERSION, where=_WHERE, code="init-data-form")
    algorithm, data = document.get("algorithm"), document.get("data", {})
    if algorithm not in ALGORITHMS:
        raise KbsError("the algorithm %s is none of %s" % (quoted(algorithm), ", ".join(ALGORITHMS)), where=_WHERE, code="init-data-form")
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise KbsError("data must hold texts only", where=_WHERE, fix="aa.toml and the others are TOML in a text", code="init-data-form")
    for name, value in data.items():
        if name.endswith(".toml"):
            _read(value, "%s in the init-data" % name)
        if "PRIVATE KEY-----" in value:
            raise KbsError("%s holds a private key" % quoted(name), where=_WHERE, fix="Take it out: the host reads init-data", code="init-data-secret")
    if parts is not None and dict(data) != {
        str(name): toml_document(value) if isinstance(value, Mapping) else value for name, value in parts.items()
    }:
        raise KbsError("what was written does not read back as what was given", where=_WHERE, code="init-data-form")
    return InitData(toml, str(algorithm))


def for_kbs(
    url: str, cert: str, image_security_policy_uri: str = "", registry_credentials_uri: str = "", allow_http: bool = False
) -> Dict[str, Any]:  # fmt: skip
    """aa.toml and cdh.toml of a guest whose attestation agent and data hub go to this KBS. Raises KbsError."""
    scheme, host, _port, _path = Server(url, allow_http=True).parts
    if scheme == "http" and host not in LOOPBACK and not allow_http:
        raise KbsError("without TLS the host answers in the place of the KBS, with policies and keys of its own", where=_WHERE,
                       fix="Use https and give cert, or say allow_http for a trial", code="init-data-http")
    if scheme == "https" and "-----BEGIN CERTIFICATE-----" not in cert:
        raise KbsError("without the certificate of the KBS the host can put its own in its place", where=_WHERE, fix="Give cert", code="init-data-cert")
    token: Dict[str, Any] = {"url": url}
    kbc: Dict[str, Any] = {"name": "cc_kbc", "url": url}
    if cert:
        token["cert"] = kbc["kbs_cert"] = cert
    cdh: Dict[str, Any] = {"kbc": kbc}
    image = {"image_security_policy_uri": image_security_policy_uri, "authenticated_registry_credentials_uri": registry_credentials_uri}
    image = {name: Resource.parse(uri, name).uri for name, uri in image.items() if uri}
    if image:
        cdh["image"] = image
    return {"aa.toml": {"token_configs": {"kbs": token}}, "cdh.toml": cdh}


def packed(data: bytes) -> bytes:
    """gzip without a time and without a name, so that the same document gives the same annotation each time."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = squeeze.compress(data) + squeeze.flush()
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def unpacked(annotation: str) -> str:
    """The TOML of an annotation. Raises KbsError."""
    try:
        data = base64.b64decode(annotation, validate=True)
    except ValueError:
        raise KbsError("it is no base64", where="annotation", code="init-data-form") from None
    return _unzip(data, "annotation")


def from_image(image: bytes) -> str:
    """The document of the block device that the shim gives to a guest: magic, length, gzip."""
    if image[:8] != _MAGIC or len(image) < 16:
        raise KbsError("it does not begin with %s" % _MAGIC.decode("ascii"), where="image", code="init-data-form")
    (size,) = struct.unpack("<Q", image[8:16])
    if size > len(image) - 16:
        raise KbsError("it says %d bytes and holds %d" % (size, len(image) - 16), where="image", code="init-data-form")
    return _unzip(image[16 : 16 + size], "image")


def toml_document(value: Mapping[str, Any]) -> str:
    """TOML of a mapping: scalars and lists first, then tables, in the order that they were given."""
    lines: List[str] = []
    _table(value, (), lines)
    return "\n".join(lines).strip("\n") + "\n"


def _table(value: Mapping[str, Any], path: Tuple[str, ...], lines: List[str]) -> None:
    flat = {key: item for key, item in value.items() if not isinstance(item, Mapping) and not _tables(item)}
    if path and (flat or not value):
        lines += ["", "[%s]" % ".".join(path)]
    lines += ["%s = %s" % (_key(str(key)), _value(item, str(key))) for key, item in flat.items()]
    for key, item in value.items():
        here = (*path, _key(str(key)))
        if isinstance(item, Mapping):
            _table(item, here, lines)
        elif _tables(item):
            for one in item:
                lines += ["", "[[%s]]" % ".".join(here)]
                lines += ["%s = %s" % (_key(str(name)), _value(part, str(name))) for name, part in one.items()]


def _tables(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and bool(item) and all(isinstance(one, Mapping) for one in item)


def _key(name: str) -> str:
    return name if _BARE.match(name) else _basic(name)


def _value(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return "%d" % value
    if isinstance(value, str):
        return _block(value) if "\n" in value else _basic(value)
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join(_value(item, where) for item in value)
    raise KbsError("%s is a %s, which has no form here" % (quoted(where), type(value).__name__), where=_WHERE, code="init-data-form")


def _block(text: str) -> str:
    """A literal block where that can hold it, for people to read; else a basic string."""
    plain = all(letter == "\n" or letter == "\t" or " " <= letter != "\x7f" for letter in text)
    if plain and "'''" not in text and not text.endswith("'"):
        return "'''\n%s'''" % text
    return _basic(text)


def _basic(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"%s"' % "".join(escapes.get(letter) or (letter if " " <= letter != "\x7f" else "\\u%04x" % ord(letter)) for letter in text)


def _read(toml: str, where: str = _WHERE) -> Dict[str, Any]:
    # The controller has Python 3.11 and more; guests do not read init-data.
    import tomllib

    try:
        return tomllib.loads(toml)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise KbsError("it is no TOML (%s)" % error, where=where, code="init-data-form") from None


def _unzip(data: bytes, where: str) -> str:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = stream.decompress(data, TOML_MAX + 1)
        if len(found) > TOML_MAX:
            raise KbsError("it unpacks to more than %d bytes" % TOML_MAX, where=where, code="init-data-form")
        # A guest refuses what breaks off, and reads a second gzip after the first: then this is not the text that is measured.
        if not stream.eof or stream.unused_data:
            raise KbsError("its gzip breaks off, or is not all that it holds", where=where, code="init-data-form")
        return found.decode("utf-8")
    except (zlib.error, UnicodeDecodeError):
        raise KbsError("it holds no gzip of UTF-8 text", where=where, code="init-data-form") from None
