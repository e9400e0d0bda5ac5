# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The appraisal policy: its schema, its strict defaults and its digest. See docs/policy-reference.md.

A policy is read once into frozen dataclasses with every default filled in. ``Policy.digest`` is the SHA-256 of the
canonical JSON of that normalised form, so two files that mean the same have the same digest.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import azure_policy, cca_policy, gcp_policy, nvidia_policy, schema, snp_policy, tdx_policy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.azure_policy import AzurePolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.cca_policy import CcaPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.gcp_policy import GcpPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.nvidia_policy import NvidiaPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.providers import PROVIDERS
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp_policy import SnpPolicy
from ansible_collections.attested.ai.plugins.module_utils.appraisal.tdx_policy import TdxPolicy
from ansible_collections.attested.ai.plugins.module_utils.errors import PolicyError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs

SCHEMA = "attested.ai/policy/1"
DOCUMENT = "policy"

# From the least to the most that a launch measurement can cover: each stage vouches for the next.
STAGES = ("launch", "kernel", "root-fs", "service")
# What is asked of each kind of evidence has a section and a file of its own.
SECTION_KEYS: Dict[str, Tuple[str, ...]] = {
    "sev_snp": snp_policy.KEYS,
    "tdx": tdx_policy.KEYS,
    "cca": cca_policy.KEYS,
    "nvidia": nvidia_policy.KEYS,
    "azure": azure_policy.KEYS,
    "gcp": gcp_policy.KEYS,
}
TOP_KEYS = (
    "schema", "id", "provider", "allow_nonvendor_roots", "roots", "revocation", "ssh_binding", "ssh_keys_in_memory", "chain_of_trust",
    "machines", "measurements_required", "require",
) + tuple(SECTION_KEYS)
# A guest has one CPU that vouches for it; 8 GPUs and 4 switches are the largest system known.
KINDS = ("cpu", "gpu", "switch")
KIND_MAX = 16


@dataclass(frozen=True)
class ChainOfTrust:
    must_reach: str = "service"
    waiver: Optional[str] = None

    def to_dict(self) -> Dict[str, Any]:
        return {"must_reach": self.must_reach, "waiver": self.waiver}


@dataclass(frozen=True)
class Machines:
    """Machine identities: SHA-256 (hexadecimal) of CHIP_ID (SEV-SNP, 64 bytes), of the PPID (TDX) or of the instance id (CCA);
    ``csp_ids`` are the CSP_ID texts of VLEKs."""

    allow: Tuple[str, ...] = ()
    deny: Tuple[str, ...] = ()
    csp_ids: Tuple[str, ...] = ()

    def to_dict(self) -> Dict[str, Any]:
        return {"allow": list(self.allow), "deny": list(self.deny), "csp_ids": list(self.csp_ids)}


@dataclass(frozen=True)
class Require:
    """How many items of evidence of each kind there must be at least. Fewer are refused; every further item is judged as well."""

    cpu: int = 1
    gpu: int = 0
    switch: int = 0

    def to_dict(self) -> Dict[str, Any]:
        return {"cpu": self.cpu, "gpu": self.gpu, "switch": self.switch}


@dataclass(frozen=True)
class Policy:
    """A whole policy with every default filled in. Make one with load_policy."""

    id: str
    provider: str = "none"
    allow_nonvendor_roots: bool = False
    roots: Tuple[str, ...] = ()
    revocation: str = "not_required"
    ssh_binding: str = "auto"
    ssh_keys_in_memory: bool = False
    chain_of_trust: ChainOfTrust = field(default_factory=ChainOfTrust)
    machines: Machines = field(default_factory=Machines)
    measurements_required: bool = True
    require: Require = field(default_factory=Require)
    sev_snp: SnpPolicy = field(default_factory=SnpPolicy)
    tdx: TdxPolicy = field(default_factory=TdxPolicy)
    cca: CcaPolicy = field(default_factory=CcaPolicy)
    nvidia: NvidiaPolicy = field(default_factory=NvidiaPolicy)
    azure: AzurePolicy = field(default_factory=AzurePolicy)
    gcp: GcpPolicy = field(default_factory=GcpPolicy)

    def to_dict(self) -> Dict[str, Any]:
        """The normalised policy: every key, defaults filled in. load_policy reads it back to an equal Policy."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "provider": self.provider,
            "allow_nonvendor_roots": self.allow_nonvendor_roots,
            "roots": list(self.roots),
            "revocation": self.revocation,
            "ssh_binding": self.ssh_binding,
            "ssh_keys_in_memory": self.ssh_keys_in_memory,
            "chain_of_trust": self.chain_of_trust.to_dict(),
            "machines": self.machines.to_dict(),
            "measurements_required": self.measurements_required,
            "require": self.require.to_dict(),
            **{name: getattr(self, name).to_dict() for name in SECTION_KEYS},
        }

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of the normalised policy. Made once: every result of a fleet carries it."""
        return hashlib.sha256(jcs.canonicalize(self.to_dict())).hexdigest()


def load_policy(obj: Any, document: str = DOCUMENT) -> Policy:
    """Read a policy from parsed YAML or JSON. ``document`` names it in errors.

    Raises PolicyError on anything that is not exactly of the schema: an unknown key is refused with the nearest known one.
    """
    top = schema.Section(obj, TOP_KEYS, document)
    if top.required("schema") != SCHEMA:
        raise top.refuse("schema", "%s is not %s" % (schema.show(top.raw("schema")), SCHEMA))
    provider = top.choice("provider", "none", tuple(PROVIDERS))
    # The user's own keys are checked before the profile's are merged in, so that errors speak of what the user wrote.
    for name, keys in SECTION_KEYS.items():
        schema.Section(top.raw(name, {}), keys, document, name)
    full = schema.Section(schema.merged(PROVIDERS[provider], {key: top.raw(key) for key in TOP_KEYS if key in top}), TOP_KEYS, document)
    sections = {name: schema.Section(full.raw(name, {}), keys, document, name) for name, keys in SECTION_KEYS.items()}
    policy = Policy(
        id=full.text("id", limit=128),
        provider=provider,
        allow_nonvendor_roots=full.boolean("allow_nonvendor_roots", False),
        roots=full.listed("roots", (), _pem),
        revocation=full.choice("revocation", "not_required", ("not_required", "required")),
        ssh_binding=_ssh_binding(full),
        ssh_keys_in_memory=full.boolean("ssh_keys_in_memory", False),
        chain_of_trust=_chain_of_trust(full, document),
        machines=_machines(full, document),
        measurements_required=full.boolean("measurements_required", True),
        require=_require(full, document),
        sev_snp=snp_policy.load_snp(sections["sev_snp"], document),
        tdx=tdx_policy.load_tdx(sections["tdx"], document),
        cca=cca_policy.load_cca(sections["cca"], document),
        nvidia=nvidia_policy.load_nvidia(sections["nvidia"], document),
        azure=azure_policy.load_azure(sections["azure"], document),
        gcp=gcp_policy.load_gcp(sections["gcp"], document),
    )
    if policy.roots and not policy.allow_nonvendor_roots:
        raise full.refuse("roots", "roots that are not a vendor's need allow_nonvendor_roots: true",
                          "Set it, or remove them; every result is then marked anchor: nonvendor")
    return policy


def _ssh_binding(top: schema.Section) -> str:
    # YAML 1.1 reads the bare word off as false; there is nothing else that it could mean here.
    if top.raw("ssh_binding") is False:
        return "off"
    return top.choice("ssh_binding", "auto", ("auto", "required", "off"))


def _pem(value: Any, where: str) -> str:
    text = schema.check_text(value, where, limit=64 * 1024)
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise PolicyError("the PEM text of a certificate was expected", where=where)
    return text


def _chain_of_trust(top: schema.Section, document: str) -> ChainOfTrust:
    section = schema.Section(top.raw("chain_of_trust", {}), ("must_reach", "waiver"), document, "chain_of_trust")
    waiver = None if section.raw("waiver") is None else section.text("waiver")
    return ChainOfTrust(section.choice("must_reach", "service", STAGES), waiver)


def _machines(top: schema.Section, document: str) -> Machines:
    section = schema.Section(top.raw("machines", {}), ("allow", "deny", "csp_ids"), document, "machines")
    identity = schema.check_hex(32)
    return Machines(section.listed("allow", (), identity), section.listed("deny", (), identity), section.listed("csp_ids", (), schema.check_text))


def _require(top: schema.Section, document: str) -> Require:
    section = schema.Section(top.raw("require", {}), KINDS, document, "require")
    require = Require(*(section.integer(kind, getattr(Require, kind), KIND_MAX) for kind in KINDS))
    if require.cpu < 1:
        raise section.refuse("cpu", "evidence of the CPU cannot be waived: without it nothing binds a device to this guest", "Set it to 1, or leave it out")
    return require
