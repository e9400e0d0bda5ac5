# SPDX-License-Identifier: GPL-3.0-or-later
"""The made-up SEV-SNP machine: a chip with keys, a demonstration guest, and the evidence they give. Everything lasts in a directory."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from softtee.errors import SoftTeeError
from softtee.snp_authority import PRODUCTS, SnpAuthority, key_pem, write_private
from softtee.snp_report import DEFAULT_TCB, POLICY_DEBUG, POLICY_RESERVED_ONE, POLICY_SMT, SIGNED, build_report, sign_report

SETTINGS = "machine.json"
HOST_DATA = "host-data"
GUEST = "attested.ai soft TEE demonstration guest 1"
# GUIDs of the certificate table (GHCB specification, extended guest request).
GUIDS = {
    "vcek": "63da758d-e664-4564-adc5-f4b93be8accd",
    "vlek": "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
    "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
    "ark": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
}


def measurement(guest: str = GUEST) -> bytes:
    """48 bytes that stand for the launch digest of a guest. There is no image behind them."""
    return hashlib.sha384(guest.encode("ascii")).digest()


def old_tcb(product: str) -> Dict[str, int]:
    """The TCB of a machine whose firmware was not updated: below what ``policy`` asks, and below AMD-SB-3019."""
    return {**DEFAULT_TCB[product], "snp": 1, "microcode": DEFAULT_TCB[product]["microcode"] - 20}


def certificate_table(certificates: Dict[str, bytes]) -> bytes:
    """A GUID table: entries of (GUID, offset, length), a zero entry, the certificates.

    GUID bytes are in the order of their text (RFC 4122), as hosts write them.
    """
    offset = 24 * (len(certificates) + 1)
    head = body = b""
    for name, data in certificates.items():
        head += uuid.UUID(GUIDS[name]).bytes + (offset + len(body)).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        body += data
    return head + bytes(24) + body


@dataclass(frozen=True)
class Evidence:
    """What outblob and auxblob give."""

    report: bytes
    table: bytes


class Machine:
    """One chip of one product. ``key_kind`` is vcek or vlek."""

    tee = "sev-snp"
    provider = "sev_guest"

    def __init__(self, state: Path, product: str, key_kind: str, chip_id: bytes, rsa_bits: int = 4096) -> None:
        self.state = state
        self.product = product
        self.key_kind = key_kind
        self.chip_id = chip_id
        self.authority = SnpAuthority.create(state / "authority", [product], rsa_bits)
        self._leaves: Dict[Tuple[str, str], Tuple[ec.EllipticCurvePrivateKey, bytes]] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, state: Path, product: Optional[str] = None, key_kind: Optional[str] = None, rsa_bits: int = 4096) -> "Machine":
        """The machine of a state directory; what is not given stays as it was (at first genoa and vcek)."""
        settings = read_settings(state)
        product = product or settings.get("product") or "genoa"
        key_kind = key_kind or settings.get("key") or "vcek"
        if product not in PRODUCTS or key_kind not in ("vcek", "vlek"):
            raise SoftTeeError("%s with %s: the product is milan, genoa or turin, the key vcek or vlek" % (product, key_kind))
        chips = dict(settings.get("chips") or {})
        if product not in chips:
            chips[product] = secrets.token_bytes(8 if product == "turin" else 64).hex()
        wanted = {"product": product, "key": key_kind, "chips": chips}
        if wanted != settings:
            write_private(state / SETTINGS, json.dumps(wanted).encode("ascii"))
        return cls(state, product, key_kind, bytes.fromhex(chips[product]), rsa_bits)

    def prepare(self) -> None:
        """Make what the first answer needs, and the report that ``replay`` repeats: one that answers no request."""
        with self._lock:
            self._leaf("own", "current")
            self.authority.chain(self.product, self.key_kind)
        if not (self.state / self._replayed()).exists():
            first = self._make(secrets.token_bytes(64), 0, "none")
            text = json.dumps({"report": _text(first.report), "table": _text(first.table)})
            write_private(self.state / self._replayed(), text.encode("ascii"))

    def evidence(self, report_data: bytes, vmpl: int, behaviour: str) -> Evidence:
        """The answer to a request of 64 bytes at a VMPL, spoilt as ``behaviour`` says."""
        if behaviour == "replay":
            stored = json.loads((self.state / self._replayed()).read_text("ascii"))
            return Evidence(base64.b64decode(stored["report"]), base64.b64decode(stored["table"]))
        if behaviour == "empty":
            return Evidence(b"", b"")
        return self._make(report_data, vmpl, behaviour)

    def roots(self) -> List[str]:
        return [self.authority.ark_pem(self.product)]

    def policy(self) -> Dict[str, Any]:
        """The policy's section about this machine."""
        floor = DEFAULT_TCB[self.product]
        return {"sev_snp": {"products": [self.product], "signing_keys": [self.key_kind], "min_tcb": floor, "min_launch_tcb": floor}}

    def reference_values(self, not_after: str) -> List[Dict[str, Any]]:
        source = "softtee reference-values (made up: there is no image behind it)"
        return [{"tee": self.tee, "measurement": measurement().hex(), "covers": "launch", "image": GUEST, "source": source, "not_after": not_after}]

    def collateral(self, at: datetime) -> Dict[str, bytes]:
        """The ARK's list of revoked certificates; the chip's certificate comes with the report."""
        return {"ark.crl": self.authority.crl(self.product, this_update=at)}

    def _make(self, report_data: bytes, vmpl: int, behaviour: str) -> Evidence:
        chip = "other" if behaviour == "other-machine" else "own"
        level = "old" if behaviour == "old-tcb" else "current"
        with self._lock:
            key, certificate = self._leaf(chip, level)
            if behaviour == "foreign-chip":
                certificate = self._leaf("other", level)[1]
            intermediate, ark = self.authority.chain(self.product, self.key_kind)
        report = build_report(
            self.product,
            report_data=report_data,
            measurement=measurement(GUEST + " (changed)" if behaviour == "wrong-measurement" else GUEST),
            policy=POLICY_SMT | POLICY_RESERVED_ONE | (POLICY_DEBUG if behaviour == "debug" else 0),
            vmpl=1 if behaviour == "vmpl1" else vmpl,
            chip_id=self._chip(chip) if self.key_kind == "vcek" else b"",
            current_tcb=self._tcb(level),
            signing_key=self.key_kind,
            host_data=read_host_data(self.state),
            # Made anew for each report would be wrong: the firmware draws it once per launch.
            report_id=hashlib.sha256(b"report id" + self.chip_id).digest(),
        )
        sign_report(report, key)
        if behaviour == "bad-signature":
            report[SIGNED] ^= 1
        return Evidence(bytes(report), certificate_table({self.key_kind: certificate, "ask": intermediate, "ark": ark}))

    def _tcb(self, level: str) -> Dict[str, int]:
        return old_tcb(self.product) if level == "old" else DEFAULT_TCB[self.product]

    def _chip(self, chip: str) -> bytes:
        if chip == "own":
            return self.chip_id
        return hashlib.sha512(b"another chip" + self.chip_id).digest()[: len(self.chip_id)]

    def _leaf(self, chip: str, level: str) -> Tuple[ec.EllipticCurvePrivateKey, bytes]:
        # As on silicon, another TCB gives another key.
        if (chip, level) not in self._leaves:
            key = self._chip_key("%s-%s-%s-%s" % (self.product, self.key_kind, chip, level))
            hwid = self._chip(chip) if self.key_kind == "vcek" else None
            self._leaves[chip, level] = self.authority.leaf(self.key_kind, self.product, hwid, self._tcb(level), key=key)
        return self._leaves[chip, level]

    def _chip_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        path = self.state / ("chip-%s.key" % name)
        if path.exists():
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise SoftTeeError("%s is not an EC key: remove it" % path)
            return key
        fresh = ec.generate_private_key(ec.SECP384R1())
        write_private(path, key_pem(fresh))
        return fresh

    def _replayed(self) -> str:
        return "first-report-%s-%s.json" % (self.product, self.key_kind)


def read_settings(state: Path) -> Dict[str, Any]:
    path = state / SETTINGS
    try:
        settings = json.loads(path.read_text("ascii"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SoftTeeError("%s cannot be read (%s): remove it to begin anew" % (path, error)) from None
    return settings if isinstance(settings, dict) else {}


def launch_with(state: Path, host_data: str) -> None:
    """From now on the guest is one that was launched with these 32 bytes (hexadecimal) as HOST_DATA."""
    try:
        size = len(bytes.fromhex(host_data))
    except ValueError:
        size = -1
    if size != 32:
        raise SoftTeeError("HOST_DATA is 64 hexadecimal digits")
    write_private(state / HOST_DATA, host_data.lower().encode("ascii"))


def read_host_data(state: Path) -> bytes:
    try:
        return bytes.fromhex((state / HOST_DATA).read_text("ascii"))
    except FileNotFoundError:
        return bytes(32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
