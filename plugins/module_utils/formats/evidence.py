# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The evidence document: what a guest hands to its verifier, and the report data that binds it.

A document carries a nonce, what the guest binds to its evidence, one item per attester, and observations. Observations are
claims of the guest: nothing but a person may rely on them.

Records here are named tuples: a guest keeps nothing compiled, and a frozen dataclass would write and compile its methods anew for each answer.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict

SCHEMA = "attested.ai/evidence/1"
PROFILE_ATTESTED = "attested/1"
PROFILE_KBS = "kbs"
PROFILES = (PROFILE_ATTESTED, PROFILE_KBS)
# The provider of a device item, as its collector names it -> the word that Trustee and NVIDIA's services use.
KBS_ARCHITECTURES = {"hopper": "HOPPER", "blackwell": "BLACKWELL", "ls10": "LS10"}

# What vouches for the machine that runs the guest's code, and what vouches for a device that was given to it.
CPU_TYPES = ("sev-snp", "tdx", "cca", "az-snp-vtpm", "az-tdx-vtpm")
DEVICE_TYPES = ("nvidia-gpu", "nvidia-switch", "nvidia-nras")
ITEM_TYPES = CPU_TYPES + DEVICE_TYPES
AUXILIARY_NAMES = ("certificates", "event-log")
STORAGES = ("memory", "disk", "unknown")
COLLECTORS = ("configfs-tsm", "sev-guest-ioctl", "azure-vtpm")

NONCE_MIN, NONCE_MAX = 16, 64
EVIDENCE_MAX = 64 * 1024
AUXILIARY_MAX = 1024 * 1024
ITEMS_MAX = 16
SSH_HOST_KEYS_MAX = 16
REPORT_DATA_SIZE = 64
DEVICE_NONCE_SIZE = 32
ADDITIONAL_EVIDENCE_MAX = 4 * 1024 * 1024

# Coordinate sizes in bytes (RFC 7518 section 6.2.1.2). Trustee accepts these two curves for the key that it wraps to.
_CURVES = {"P-256": 32, "P-521": 66}
_EC_ALGORITHM = "ECDH-ES+A256KW"
_RSA_ALGORITHM = "RSA-OAEP-256"
_PRIVATE_MEMBERS = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))


class Binding(NamedTuple):
    """What the report data covers besides the nonce. Members that are absent are None or empty."""

    tee_pubkey: Optional[Mapping[str, str]] = None
    ssh_host_keys: Tuple[str, ...] = ()
    tls_spki: Optional[str] = None

    @classmethod
    def parse(cls, obj: Any, profile: str = PROFILE_ATTESTED, where: str = "evidence binding") -> Binding:
        """Read the ``binding`` member. Raises FormatError, also where ``profile`` does not allow a member."""
        check_profile(profile)
        binding = strict.members(obj, (), ("tee-pubkey", "ssh-host-keys", "tls-spki"), where=where)
        result = cls(
            tee_pubkey=parse_public_jwk(binding["tee-pubkey"], where + " tee-pubkey") if "tee-pubkey" in binding else None,
            ssh_host_keys=_parse_ssh_host_keys(binding["ssh-host-keys"], where + " ssh-host-keys") if "ssh-host-keys" in binding else (),
            tls_spki=_parse_spki(binding["tls-spki"], where + " tls-spki") if "tls-spki" in binding else None,
        )
        if profile == PROFILE_KBS:
            _check_kbs(result, where)
        return result

    def to_dict(self) -> Dict[str, Any]:
        result: Dict[str, Any] = {}
        if self.tee_pubkey is not None:
            result["tee-pubkey"] = dict(self.tee_pubkey)
        if self.ssh_host_keys:
            result["ssh-host-keys"] = list(self.ssh_host_keys)
        if self.tls_spki is not None:
            result["tls-spki"] = self.tls_spki
        return result


class EvidenceItem(NamedTuple):
    """Evidence of one attester: raw bytes as the TEE gave them, and auxiliary blobs by name (see AUXILIARY_NAMES)."""

    type: str
    provider: str
    evidence: bytes
    auxiliary: Mapping[str, bytes] = MappingProxyType({})

    @property
    def is_device(self) -> bool:
        """True for evidence of a device, which is bound by the evidence of the CPU and says nothing without it."""
        return self.type in DEVICE_TYPES

    @classmethod
    def parse(cls, obj: Any, where: str) -> EvidenceItem:
        item = strict.members(obj, ("type", "provider", "evidence", "auxiliary"), where=where)
        auxiliary = strict.members(item["auxiliary"], (), AUXILIARY_NAMES, where=where + " auxiliary")
        return cls(
            type=_one_of(item["type"], ITEM_TYPES, where + " type"),
            provider=_printable(item["provider"], where + " provider"),
            evidence=strict.decode_base64(item["evidence"], where + " evidence", 1, EVIDENCE_MAX),
            auxiliary={name: strict.decode_base64(blob, where + " " + name, 1, AUXILIARY_MAX) for name, blob in auxiliary.items()},
        )

    def to_dict(self) -> Dict[str, Any]:
        return {
            "type": self.type,
            "provider": self.provider,
            "evidence": strict.encode_base64(self.evidence),
            "auxiliary": {name: strict.encode_base64(blob) for name, blob in sorted(self.auxiliary.items())},
        }


class EvidenceDocument(NamedTuple):
    """A whole evidence document. ``nonce`` is raw bytes; ``observations`` are unproven claims of the guest."""

    profile: str
    nonce: bytes
    binding: Binding
    items: Tuple[EvidenceItem, ...]
    observations: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def parse(cls, obj: Any, where: str = "evidence") -> EvidenceDocument:
        """Read a document from parsed JSON. Raises FormatError on anything that is not exactly of this schema."""
        names = ("schema", "profile", "nonce", "binding", "items", "observations")
        document = strict.members(obj, names, where=where)
        _one_of(document["schema"], (SCHEMA,), where + " schema")
        profile = _one_of(document["profile"], PROFILES, where + " profile")
        items = document["items"]
        if not isinstance(items, (list, tuple)) or not 1 <= len(items) <= ITEMS_MAX:
            raise FormatError("a list of 1 to %d items was expected" % ITEMS_MAX, where=where + " items")
        parsed = tuple(EvidenceItem.parse(item, "%s item %d" % (where, index)) for index, item in enumerate(items))
        # So that a document which the profile cannot bind is refused here and not while it is judged.
        additional_evidence(profile, parsed)
        return cls(
            profile=profile,
            nonce=strict.decode_base64(document["nonce"], where + " nonce", NONCE_MIN, NONCE_MAX),
            binding=Binding.parse(document["binding"], profile, where + " binding"),
            items=parsed,
            observations=_parse_observations(document["observations"], where + " observations"),
        )

    @classmethod
    def from_json(cls, text: Union[str, bytes], where: str = "evidence") -> EvidenceDocument:
        """Read a document from JSON text, refusing duplicate members too."""
        return cls.parse(strict.loads(text, where), where)

    def to_dict(self) -> Dict[str, Any]:
        return {
            "schema": SCHEMA,
            "profile": self.profile,
            "nonce": strict.encode_base64(self.nonce),
            "binding": self.binding.to_dict(),
            "items": [item.to_dict() for item in self.items],
            "observations": dict(self.observations),
        }

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of the document."""
        return hashlib.sha256(jcs.canonicalize(self.to_dict())).hexdigest()

    def expected_report_data(self, nonce: bytes) -> bytes:
        """The 64 bytes that the CPU evidence must carry if it answers ``nonce``, which is the verifier's own, never the document's."""
        return report_data(self.profile, nonce, self.binding, additional_evidence(self.profile, self.items))

    def expected_device_nonce(self, nonce: bytes) -> bytes:
        """The 32 bytes that device evidence must carry if it answers ``nonce``, the verifier's own."""
        return device_nonce(self.profile, nonce, self.binding)


def report_data(profile: str, nonce: Union[bytes, str], binding: Union[Binding, Mapping[str, Any]], additional_evidence: str = "") -> bytes:
    """Return the 64 bytes of report data that bind ``nonce`` and ``binding`` under ``profile``.

    ``nonce`` is 16 to 64 raw bytes, or their standard base64. In profile ``kbs`` the hashed object has exactly the members
    additional-evidence, nonce and tee-pubkey, as Trustee rebuilds it; ``attested/1`` leaves out what is not bound and adds
    ssh-host-keys and tls-spki. Raises FormatError.
    """
    members = _runtime_data(profile, nonce, binding)
    members["additional-evidence"] = _limited(additional_evidence)
    return runtime_data_digest(members)


def device_nonce(profile: str, nonce: Union[bytes, str], binding: Union[Binding, Mapping[str, Any]]) -> bytes:
    """Return the 32 bytes that devices are challenged with: the first half of SHA-384 over the nonce and the guest's key.

    Device evidence comes first and is bound by the CPU evidence, so it cannot cover that in turn. Trustee's guest components draw the
    nonce in the same way, for ``kbs`` with the key, without which that profile binds nothing. Raises FormatError.
    """
    members = _runtime_data(profile, nonce, binding)
    return runtime_data_digest({name: members[name] for name in ("nonce", "tee-pubkey") if name in members})[:DEVICE_NONCE_SIZE]


def additional_evidence(profile: str, items: Sequence[EvidenceItem]) -> str:
    """The text that stands for all device evidence in the report data, empty if there is none.

    Profile ``kbs``: canonical JSON of ``{"nvidia": {"device_evidence_list": [...]}}`` as Trustee takes it; ``attested/1``: canonical
    JSON of the device items as they stand in the document.
    """
    check_profile(profile)
    devices = [item for item in items if item.is_device]
    if not devices:
        return ""
    if profile == PROFILE_KBS:
        listed = [_kbs_device(item, index) for index, item in enumerate(devices)]
        return _limited(jcs.canonicalize({"nvidia": {"device_evidence_list": listed}}).decode("utf-8"))
    return _limited(jcs.canonicalize([item.to_dict() for item in devices]).decode("utf-8"))


def _limited(text: str) -> str:
    return strict.text_of(text, "additional-evidence", limit=ADDITIONAL_EVIDENCE_MAX)


def _kbs_device(item: EvidenceItem, index: int) -> Dict[str, str]:
    arch, chain = KBS_ARCHITECTURES.get(item.provider), item.auxiliary.get("certificates")
    if arch is None or chain is None or item.type == "nvidia-nras":
        raise FormatError("this device evidence has no form that a KBS knows", where="device %d" % index, fix="Use profile %s" % PROFILE_ATTESTED)
    return {"arch": arch, "evidence": strict.encode_base64(item.evidence), "certificate": strict.encode_base64(chain)}


def _runtime_data(profile: str, nonce: Union[bytes, str], binding: Union[Binding, Mapping[str, Any]]) -> Dict[str, Any]:
    """What is bound, with the nonce as text. Raises FormatError."""
    check_profile(profile)
    raw = nonce if isinstance(nonce, (bytes, bytearray)) else strict.decode_base64(nonce, "nonce", NONCE_MIN, NONCE_MAX)
    if not NONCE_MIN <= len(raw) <= NONCE_MAX:
        raise FormatError("it holds %d bytes, %d to %d are allowed" % (len(raw), NONCE_MIN, NONCE_MAX), where="nonce")
    # Parsed once more even if it is a Binding already: the rules of the profile hold for hand-made ones too.
    members = Binding.parse(binding.to_dict() if isinstance(binding, Binding) else binding, profile).to_dict()
    members["nonce"] = strict.encode_base64(bytes(raw))
    return members


def runtime_data_digest(members: Mapping[str, Any]) -> bytes:
    """SHA-384 of the canonical JSON of ``members``, padded with zeros to 64 bytes."""
    return hashlib.sha384(jcs.canonicalize(dict(members))).digest().ljust(REPORT_DATA_SIZE, b"\0")


def check_profile(profile: str) -> None:
    """Raise FormatError unless ``profile`` is one of PROFILES."""
    _one_of(profile, PROFILES, "binding profile")


def parse_public_jwk(obj: Any, where: str = "tee-pubkey") -> Dict[str, str]:
    """Return a public key of the two forms that a KBS wraps to (EC with ECDH-ES+A256KW, RSA with RSA-OAEP-256), or raise FormatError."""
    if isinstance(obj, Mapping) and _PRIVATE_MEMBERS.intersection(obj):
        # The value itself is kept out of the message.
        raise FormatError("it holds private members", where=where, fix="Give the public key only", code="private-key")
    kty = obj.get("kty") if isinstance(obj, Mapping) else None
    if kty == "EC":
        key = strict.members(obj, ("kty", "crv", "alg", "x", "y"), where=where)
        size = _CURVES[_one_of(key["crv"], tuple(_CURVES), where + " crv")]
        _one_of(key["alg"], (_EC_ALGORITHM,), where + " alg")
        for name in ("x", "y"):
            strict.decode_base64url(key[name], where + " " + name, size, size)
    elif kty == "RSA":
        key = strict.members(obj, ("kty", "alg", "n", "e"), where=where)
        _one_of(key["alg"], (_RSA_ALGORITHM,), where + " alg")
        for name, smallest, largest in (("n", 256, 1024), ("e", 1, 8)):
            if strict.decode_base64url(key[name], where + " " + name, smallest, largest)[0] == 0:
                raise FormatError("the number has leading zero bytes", where=where + " " + name)
    else:
        strict.members(obj, ("kty",), ("crv", "alg", "x", "y", "n", "e"), where=where)
        raise FormatError("the key type is not EC or RSA", where=where)
    return {name: str(value) for name, value in key.items()}


def check_ssh_fingerprint(value: Any, where: str) -> str:
    """Return ``value`` if it is a fingerprint as OpenSSH prints it: SHA256: and base64 of 32 bytes without padding."""
    text = strict.text_of(value, where, limit=50)
    if not text.startswith("SHA256:"):
        raise FormatError("a fingerprint of the form SHA256:<base64> was expected", where=where)
    strict.decode_base64(text[len("SHA256:"):] + "=", where, 32, 32)
    return text


def _parse_ssh_host_keys(value: Any, where: str) -> Tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= SSH_HOST_KEYS_MAX:
        raise FormatError("a list of 1 to %d fingerprints was expected" % SSH_HOST_KEYS_MAX, where=where)
    keys = tuple(check_ssh_fingerprint(key, where) for key in value)
    if any(first >= second for first, second in zip(keys, keys[1:])):
        raise FormatError("the fingerprints are not sorted, or one occurs twice", where=where)
    return keys


def _parse_spki(value: Any, where: str) -> str:
    text = strict.text_of(value, where, limit=71)
    if not text.startswith("sha256:"):
        raise FormatError("a digest of the form sha256:<hexadecimal> was expected", where=where)
    strict.decode_hex(text[len("sha256:"):], where, 32)
    return text


def _parse_observations(value: Any, where: str) -> Dict[str, Any]:
    numbers = ("generation", "privlevel", "privlevel_floor")
    observations = strict.members(value, (), ("ssh_host_key_storage", "collected_with") + numbers, where=where)
    if "ssh_host_key_storage" in observations:
        _one_of(observations["ssh_host_key_storage"], STORAGES, where + " ssh_host_key_storage")
    if "collected_with" in observations:
        _one_of(observations["collected_with"], COLLECTORS, where + " collected_with")
    for name in numbers:
        number = observations.get(name, 0)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= jcs.MAX_INTEGER:
            raise FormatError("a whole number from 0 was expected", where="%s %s" % (where, name))
    return dict(observations)


def _check_kbs(binding: Binding, where: str) -> None:
    if binding.tee_pubkey is None:
        raise FormatError("profile kbs needs tee-pubkey", where=where)
    if binding.ssh_host_keys or binding.tls_spki is not None:
        raise FormatError("profile kbs binds tee-pubkey only", where=where, fix="Use profile %s to bind more" % PROFILE_ATTESTED)


def _one_of(value: Any, choices: Tuple[str, ...], where: str) -> str:
    if not isinstance(value, str) or value not in choices:
        raise FormatError("%s is not one of %s" % (strict.quoted(value), ", ".join(choices)), where=where)
    return str(value)


def _printable(value: Any, where: str) -> str:
    text = strict.text_of(value, where, limit=64)
    if not text or not text.isascii() or not text.isprintable():
        raise FormatError("1 to 64 printable ASCII characters were expected", where=where)
    return text
