# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts of a description that have members of their own: model, GPUs, secrets, TLS, storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Pattern, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.forms import CLAIM, ENVIRONMENT, GROUP_NAME, NAME, PRINTABLE, REFERENCE, RESOURCE, URL
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.quantity import mebibytes
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import gpus as known_gpus
from ansible_collections.attested.ai.plugins.module_utils.vm.fields import PATH, Fields

SOURCES = ("layers", "ciphertext", "public")
ARGUMENTS_MAX = 200


@dataclass(frozen=True)
class Opener:
    """The program that fetches ciphertext and opens it before the server starts: an image of yours."""

    image: str
    command: Tuple[str, ...]
    args: Tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """``layers``: in layers of the image that are encrypted; ``ciphertext``: fetched and opened in the guest; ``public``: nothing to hide."""

    source: str
    path: str
    url: str
    keys: Tuple[str, ...]
    size_mib: int
    opener: Optional[Opener]


@dataclass(frozen=True)
class Gpus:
    """``model`` as attested.ai.plan names it, or empty."""

    count: int
    model: str
    mode: str
    resource: str


@dataclass(frozen=True)
class Secret:
    """A secret that only the guest gets to see. ``env`` or ``file`` is where the server finds it."""

    name: str
    resource: str
    sealed: str
    env: str
    file: str


@dataclass(frozen=True)
class Tls:
    certificate: str
    key: str


@dataclass(frozen=True)
class Store:
    """The block device that holds the unpacked image, encrypted by the guest: one that is there, or one of this size."""

    claim: str
    size_mib: int
    storage_class: str


@dataclass(frozen=True)
class Csi:
    name: str
    driver: str
    attributes: Mapping[str, str]
    path: str


def taken(fields: Fields, name: str) -> Any:
    fields.seen.add(name)
    return fields.given.get(name)


def matching(value: Any, form: Pattern[str], where: str) -> str:
    if not isinstance(value, str) or not form.match(value):
        raise FormatError("%s does not have the form that is needed" % ascii(value)[:60], where=where, fix="It must match %s" % form.pattern)
    return value


def amount(fields: Fields, name: str, default: int = 0) -> int:
    value = taken(fields, name)
    return default if value is None or value == "" else mebibytes(value, fields.place(name))


def words(fields: Fields, name: str) -> Tuple[str, ...]:
    words = tuple(matching(item, PRINTABLE, fields.place(name)) for item in fields.listed(name))
    if len(words) > ARGUMENTS_MAX:
        raise FormatError("there are more than %d" % ARGUMENTS_MAX, where=fields.place(name))
    return words


def parse_model(fields: Fields) -> Model:
    inner = Fields(taken(fields, "model"), "pod.model")
    source = inner.choice("source", SOURCES)
    fetched = source == "ciphertext"
    opener = None
    if fetched:
        program = Fields(taken(inner, "opener"), "pod.model.opener")
        opener = Opener(program.text("image", REFERENCE), words(program, "command"), words(program, "args"))
        program.done()
    found = Model(
        source=source,
        path=inner.text("path", PATH),
        url=inner.text("url", URL) if fetched else "",
        keys=tuple(matching(item, PRINTABLE, "pod.model.keys") for item in inner.listed("keys")) if source != "public" else (),
        size_mib=mebibytes(taken(inner, "size"), "pod.model.size") if fetched else amount(inner, "size"),
        opener=opener,
    )
    inner.done()
    return found


def parse_gpus(fields: Fields) -> Optional[Gpus]:
    given = taken(fields, "gpus")
    if given is None or given == {}:
        return None
    inner = Fields(given, "pod.gpus")
    found = Gpus(inner.number("count", 1, 16, 1), inner.choice("model", ("", *known_gpus()), ""), inner.choice("mode", ("on", "ppcie"), "on"),
                 inner.text("resource", RESOURCE, ""))  # fmt: skip
    inner.done()
    return found


def parse_secret(given: Any, where: str) -> Secret:
    inner = Fields(given, where)
    found = Secret(inner.text("name", CLAIM), inner.text("resource", PRINTABLE, ""), inner.text("sealed", PRINTABLE, ""), inner.text("env", ENVIRONMENT, ""),
                   inner.text("file", CLAIM, ""))  # fmt: skip
    inner.done()
    if bool(found.resource) == bool(found.sealed):
        raise FormatError("it needs one of resource and sealed", where=where)
    if bool(found.env) == bool(found.file):
        raise FormatError("it needs one of env and file, the place where the server finds it", where=where)
    return found


def parse_tls(fields: Fields) -> Optional[Tls]:
    given = taken(fields, "tls")
    if given is None or given == {}:
        return None
    inner = Fields(given, "pod.tls")
    certificate = taken(inner, "certificate")
    if not isinstance(certificate, str) or "-----BEGIN CERTIFICATE-----" not in certificate or len(certificate) > 1 << 18:
        raise FormatError("it is no certificate in PEM", where="pod.tls.certificate")
    if "PRIVATE KEY-----" in certificate:
        raise FormatError("it holds a private key, which the host would read", where="pod.tls.certificate", fix="Store the key in the KBS and name it in key")
    found = Tls(certificate if certificate.endswith("\n") else certificate + "\n", inner.text("key", PRINTABLE))
    inner.done()
    return found


def parse_store(fields: Fields) -> Optional[Store]:
    given = taken(fields, "trusted_store")
    if given is None or given == {}:
        return None
    inner = Fields(given, "pod.trusted_store")
    found = Store(inner.text("claim", GROUP_NAME, ""), amount(inner, "size"), inner.text("storage_class", GROUP_NAME, ""))
    inner.done()
    if bool(found.claim) == bool(found.size_mib):
        raise FormatError("it needs one of claim and size", where="pod.trusted_store")
    return found


def parse_csi(given: Any, where: str) -> Csi:
    inner = Fields(given, where)
    attributes = taken(inner, "attributes") or {}
    if not isinstance(attributes, Mapping) or not all(isinstance(part, str) for pair in attributes.items() for part in pair):
        raise FormatError("it is no dictionary of texts", where=where + ".attributes")
    found = Csi(inner.text("name", NAME), inner.text("driver", GROUP_NAME), dict(attributes), inner.text("path", PATH))
    inner.done()
    return found
