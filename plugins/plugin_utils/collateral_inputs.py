# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side: read collateral stores, bundles and single files into the endorsements of an appraisal.

Nothing is judged here, and no network is touched: what is read is raw, and whatever an appraisal uses of it must lead to a pinned root.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.endorsements.bundle import BUNDLE_MAX, is_bundle, read_bundle
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, Store
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.formats.der import parse_certificate, parse_crl, pem_to_der
from ansible_collections.attested.ai.plugins.module_utils.formats.gce_endorsement import parse_gce_endorsement
from ansible_collections.attested.ai.plugins.module_utils.formats.ocsp import parse_ocsp

# Kind of a store's entry -> the member of Endorsements that it belongs to.
_MEMBERS = {
    "amd-vek": "certificates",
    "amd-chain": "certificates",
    "amd-crl": "crls",
    "tdx": "tdx",
    "rim": "rims",
    "ocsp": "ocsp",
    "cca": "cca",
    "launch-endorsement": "launch_endorsements",
    "jwks": "jwks",
}
_TDX_NAME = re.compile(r"(.*)-(standard|early|n\d+)\.json\Z")


def load(paths: t.Sequence[str], resolve: t.Callable[[str], str] = os.path.expanduser, public_key: t.Any = None) -> Endorsements:
    """Read each path: a store (directory), a bundle, or one file of any kind that a store keeps.

    ``public_key`` (JWK or key object) is that of the bundles' signer; without it a bundle is refused. A store that is damaged is refused as a
    whole, with the file that is wrong. Raises EndorsementError.
    """
    found = Endorsements()
    for path in paths:
        real = resolve(path)
        found += load_store(real) if os.path.isdir(real) else load_file(real, path, public_key)
    return found


def load_store(root: str) -> Endorsements:
    """All that a store holds. Of Intel's views the standard one counts where there are several."""
    store = Store(root)
    with store.reading() as index:
        if not index.entries and not os.path.exists(os.path.join(root, "index.json")):
            raise EndorsementError("the directory is no collateral store: it has no index.json", where=root,
                                   fix="Make one: attested.ai.collateral with operation fetch or import", code="store-missing")  # fmt: skip
        return _members((entry, store.read(entry)) for entry in chosen(index.entries))


def chosen(entries: t.Mapping[str, Entry]) -> list[Entry]:
    """The entries that count, by path. Of several views of one platform's TDX collateral: standard, else the highest number, else early."""
    best: dict[str, Entry] = {}
    for path in sorted(entries):
        match = _TDX_NAME.match(path) if entries[path].kind == "tdx" else None
        group = match.group(1) if match else path
        if group not in best or _rank(path) > _rank(best[group].path):
            best[group] = entries[path]
    return list(best.values())


def _rank(path: str) -> tuple[int, int]:
    match = _TDX_NAME.match(path)
    view = match.group(2) if match else ""
    return (2, 0) if view == "standard" else (1, int(view[1:])) if view.startswith("n") else (0, 0)


def load_file(real: str, path: str, public_key: t.Any = None) -> Endorsements:
    """One file: a bundle, or PEM, DER, JSON, XML, told apart by what it holds. Raises EndorsementError."""
    try:
        with open(real, "rb") as stream:
            data = stream.read(BUNDLE_MAX + 1)
    except OSError as error:
        raise EndorsementError("it cannot be read: %s" % (error.strerror or error), where="collateral %s" % path, code="collateral-file") from None
    if is_bundle(data):
        bundle = read_bundle(data, public_key, "bundle %s" % path)
        return _members((entry, bundle.files[entry.path]) for entry in chosen(bundle.entries))
    try:
        member, pieces = _classify(data, path)
    except FormatError as error:
        raise EndorsementError(error.what, where=error.where or path, fix=error.fix, code="collateral-file") from None
    return Endorsements(**{member: tuple(pieces)})


def _members(parts: t.Iterable[tuple[Entry, bytes]]) -> Endorsements:
    found: dict[str, list[bytes]] = {}
    for entry, data in parts:
        pieces = pem_to_der(data.decode("ascii", "replace"), where=entry.path) if entry.kind == "amd-chain" else [data]
        found.setdefault(_MEMBERS[entry.kind], []).extend(pieces)
    return Endorsements(**{member: tuple(dict.fromkeys(pieces)) for member, pieces in found.items()})


def _classify(data: bytes, path: str) -> tuple[str, list[bytes]]:
    start = data.lstrip()[:64]
    if start.startswith(b"<"):
        return "rims", [data]
    if start[:1] in (b"{", b"["):
        document = strict.loads(data, path)
        if isinstance(document, dict) and "tcb_info" in document:
            return "tdx", [data]
        return ("jwks" if isinstance(document, dict) and isinstance(document.get("keys"), list) else "cca"), [data]
    if start.startswith(b"-----BEGIN X509 CRL"):
        return "crls", pem_to_der(data.decode("ascii", "replace"), "X509 CRL", path)
    if start.startswith(b"-----BEGIN "):
        return "certificates", pem_to_der(data.decode("ascii", "replace"), where=path)
    readers: tuple[tuple[str, t.Callable[[bytes], object]], ...] = (
        ("certificates", parse_certificate),
        ("crls", parse_crl),
        ("ocsp", parse_ocsp),
        ("launch_endorsements", parse_gce_endorsement),
    )
    for member, read in readers:
        try:
            read(data)
        except AttestedError:
            continue
        return member, [data]
    raise EndorsementError(
        "it is no collateral that is known", where=path, code="collateral-file",
        fix="Known are stores, bundles, certificates, revocation lists, OCSP responses, TDX collateral, manifests, CPAKs, key sets",
    )  # fmt: skip
