# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys of a key broker in a folder: what is there is kept and looked at, what is missing is made, what ends soon is renewed. No key leaves its file."""

from __future__ import annotations

import datetime
import os
import stat
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import SECRET_MAX, replace_file
from ansible_collections.attested.ai.plugins.module_utils.trustee import certificates as x
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError

ADMIN, TLS, TOKEN = "admin", "tls", "token"
# kind -> (authority's key, authority, key, chain)
FILES = {
    TLS: ("tls-ca.key", "tls-ca.pem", "tls.key", "tls.crt"),
    TOKEN: ("token-ca.key", "token-ca.pem", "token.key", "token.crt"),
}
_TITLES = {TLS: "Key broker", TOKEN: "Attestation tokens"}


@dataclass(frozen=True)
class Wish:
    """``issue`` is False for a certificate that somebody else issued: it is looked at only. ``owner`` is (uid, gid) of the files."""

    path: str
    kind: str
    names: Tuple[str, ...] = ()
    days: int = 397
    ca_days: int = 3650
    renew_days: int = 30
    issue: bool = True
    owner: Optional[Tuple[int, int]] = None


@dataclass(frozen=True)
class Outcome:
    """``write`` are the files that have to be written. ``reasons`` say why."""

    write: Dict[str, bytes]
    reasons: List[str]
    facts: Dict[str, Any]


def plan(wish: Wish, now: datetime.datetime) -> Outcome:
    """What is there, and what has to be written. Raises TrusteeError."""
    require_cryptography()
    if not 1 <= wish.renew_days < wish.days < wish.ca_days <= 7300:
        raise TrusteeError("renew_days < days < ca_days <= 7300 must hold, these are %d, %d, %d" % (wish.renew_days, wish.days, wish.ca_days),
                           code="trustee-days")
    return _admin(wish) if wish.kind == ADMIN else _certified(wish, now)


def apply(wish: Wish, outcome: Outcome) -> None:
    """Write what is missing. Keys come before what was issued for them: a run that ends in between is continued by the next one."""
    try:
        os.makedirs(wish.path, mode=0o700, exist_ok=True)
        if stat.S_IMODE(os.stat(wish.path).st_mode) & 0o077:
            os.chmod(wish.path, 0o700)
        for name in sorted(outcome.write, key=lambda name: (not name.endswith(".key"), name)):
            replace_file(os.path.join(wish.path, name), outcome.write[name])
        if wish.owner is not None:
            for name in [".", *_names(wish)]:
                place = os.path.join(wish.path, name)
                found = os.lstat(place)
                if (found.st_uid, found.st_gid) != wish.owner:
                    os.chown(place, *wish.owner, follow_symlinks=False)
    except OSError as error:
        raise TrusteeError("it cannot be written (%s)" % error.strerror, where=error.filename or wish.path, code="trustee-write") from None


def owned(wish: Wish) -> bool:
    """Whether folder and files belong to whom they shall, and to nobody else."""
    for name in [".", *_names(wish)]:
        try:
            found = os.lstat(os.path.join(wish.path, name))
        except OSError:
            return False
        if wish.owner is not None and (found.st_uid, found.st_gid) != wish.owner or name == "." and stat.S_IMODE(found.st_mode) & 0o077:
            return False
    return True


def _names(wish: Wish) -> List[str]:
    names = ["admin.key", "admin.pub"] if wish.kind == ADMIN else list(FILES[wish.kind])
    # Who issued a certificate elsewhere keeps the authority's key.
    return [name for name in names if wish.issue or name != FILES[wish.kind][0]]


def _admin(wish: Wish) -> Outcome:
    pem = _read(wish.path, "admin.key")
    where = os.path.join(wish.path, "admin.key")
    key = x.new_admin_key() if pem is None else x.load_private(pem, where)
    x.refuse_demo(key.public_key(), where)
    public = x.public_pem(key.public_key())
    write = {"admin.key": x.private_pem(key)} if pem is None else {}
    reasons = ["there is no key of the admin"] if pem is None else []
    if _read(wish.path, "admin.pub", secret=False) != public:
        write["admin.pub"] = public
        reasons.append("its public half is missing or another's")
    return Outcome(write, reasons, {"public_key": public.decode("ascii"), "fingerprint": "sha256:" + x.fingerprint(key.public_key())})


def _certified(wish: Wish, now: datetime.datetime) -> Outcome:
    names = x.check_names(wish.names) if wish.kind == TLS else ()
    found = {name: _read(wish.path, name, secret=name.endswith(".key")) for name in FILES[wish.kind]}
    ca_key_name, ca_name, key_name, chain_name = FILES[wish.kind]
    write: Dict[str, bytes] = {}
    reasons: List[str] = []
    if not wish.issue:
        missing = [name for name in (ca_name, key_name, chain_name) if found[name] is None]
        if missing:
            raise TrusteeError("%s is not there" % ", ".join(missing), where=wish.path, code="trustee-missing")
    ca_key, ca = _authority(wish, found, now, write, reasons)
    key_pem = found[key_name]
    key = x.new_ec_key() if key_pem is None else x.load_private(key_pem, os.path.join(wish.path, key_name))
    if key_pem is None:
        write[key_name] = x.private_pem(key)
        reasons.append("there is no %s" % key_name)
    _kind_of(wish, key, os.path.join(wish.path, key_name))
    old = found[chain_name]
    chain = x.load_chain(old, os.path.join(wish.path, chain_name)) if old else []
    why = _stale(wish, chain, key, ca, names, now)
    if why:
        if not wish.issue:
            raise TrusteeError(why, where=os.path.join(wish.path, chain_name), fix="Give a certificate that serves", code="trustee-certificate")
        chain = [x.issue(names[0] if names else "Attestation tokens", key.public_key(), names, ca, ca_key, now, wish.days), ca]
        write[chain_name] = b"".join(x.certificate_pem(one) for one in chain)
        reasons.append(why)
    x.refuse_demo(key.public_key(), os.path.join(wish.path, key_name), [*chain, ca])
    facts = {
        "fingerprint": "sha256:" + x.fingerprint(key.public_key()), "ca": x.certificate_pem(ca).decode("ascii"),
        "ca_fingerprint": "sha256:" + x.fingerprint(ca.public_key()), "not_after": x.ends(chain[0]).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ca_not_after": x.ends(ca).strftime("%Y-%m-%dT%H:%M:%SZ"), "names": x.names_of(chain[0]),
    }  # fmt: skip
    return Outcome(write, reasons, facts)


def _authority(wish: Wish, found: Dict[str, Optional[bytes]], now: datetime.datetime, write: Dict[str, bytes], reasons: List[str]) -> Tuple[Any, Any]:
    ca_key_name, ca_name, _key, _chain = FILES[wish.kind]
    place = os.path.join(wish.path, ca_name)
    ca_pem, key_pem = found[ca_name], found[ca_key_name]
    if not wish.issue:
        return None, x.load_chain(ca_pem or b"", place)[0]
    if key_pem is None and ca_pem is not None:
        raise TrusteeError("the key of this authority is not there, so nothing can be renewed", where=place,
                           fix="Restore %s from a backup, or remove %s: then a new authority is made, and guests must be given it" % (ca_key_name, ca_name),
                           code="trustee-ca-key")
    key = x.new_ec_key() if key_pem is None else x.load_private(key_pem, os.path.join(wish.path, ca_key_name))
    if key_pem is None:
        write[ca_key_name] = x.private_pem(key)
    if ca_pem is None:
        ca = x.authority("%s authority" % _TITLES[wish.kind], key, now, wish.ca_days)
        write[ca_name] = x.certificate_pem(ca)
        reasons.append("there is no authority")
        return key, ca
    ca = x.load_chain(ca_pem, place)[0]
    if x.fingerprint(ca.public_key()) != x.fingerprint(key.public_key()):
        raise TrusteeError("%s is not the key of this authority" % ca_key_name, where=place, fix="Restore both from one backup", code="trustee-ca-key")
    if x.ends(ca) < now + datetime.timedelta(days=wish.days):
        raise TrusteeError("this authority ends on %s, before a certificate of %d days would" % (x.ends(ca).date(), wish.days), where=place,
                           fix="Lower the days, or remove it with its key: then a new one is made, and guests must be given it", code="trustee-ca-ends")
    return key, ca


def _kind_of(wish: Wish, key: Any, where: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return
    # Trustee signs tokens with ES256 only (attestation-service, token signer).
    if wish.kind == TLS and (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1" or
                             isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048):
        return
    wanted = "EC P-256" if wish.kind == TOKEN else "EC P-256, P-384 or RSA of 2048 bits and more"
    raise TrusteeError("it is no key of %s" % wanted, where=where, fix="Remove it, and a new one is made", code="trustee-key")


def _stale(wish: Wish, chain: List[Any], key: Any, ca: Any, names: Tuple[str, ...], now: datetime.datetime) -> str:
    """Why the certificate does not serve any more; empty if it does."""
    if not chain:
        return "there is no certificate"
    leaf = chain[0]
    if x.fingerprint(leaf.public_key()) != x.fingerprint(key.public_key()):
        return "the certificate is for another key"
    if wish.issue and not x.signed_by(leaf, ca):
        return "the certificate is of another authority"
    if names and not set(names) <= set(x.names_of(leaf)):
        return "the certificate does not hold the names %s" % ", ".join(sorted(set(names) - set(x.names_of(leaf))))
    if x.begins(leaf) > now:
        return "the certificate begins later"
    if x.ends(leaf) < now + datetime.timedelta(days=wish.renew_days):
        return "the certificate ends on %s" % x.ends(leaf).date()
    return ""


def _read(folder: str, name: str, secret: bool = True) -> Optional[bytes]:
    """None if it is not there. A key that others can read is refused: it is not known who has it."""
    path = os.path.join(folder, name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrusteeError("it cannot be read (%s)" % error.strerror, where=path, code="trustee-read") from None
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > SECRET_MAX:
            raise TrusteeError("it is no file, or too large for a key", where=path, code="trustee-read")
        if secret and stat.S_IMODE(found.st_mode) & 0o077:
            raise TrusteeError("others could read this key (mode %04o)" % stat.S_IMODE(found.st_mode), where=path,
                               fix="Remove it, and a new one is made; or, if nobody did, chmod 600", code="trustee-mode")
        return stream.read()
