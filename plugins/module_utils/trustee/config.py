# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Configuration of KBS, attestation service and reference values, as Trustee 0.21 reads it.

Source: trustee v0.21.0, kbs/docs/config.md, attestation-service/docs/config.md, rvps/src/config.rs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Tuple

from ansible_collections.attested.ai.plugins.module_utils.trustee import toml
from ansible_collections.attested.ai.plugins.module_utils.trustee.settings import Settings

AS_PORT, RVPS_PORT, KBS_PORT = 50004, 50003, 8080
# Written before the first start, for what Trustee brings gives every resource to any real TEE on earth. It never replaces one that is there.
DENY_ALL = """# Managed by attested.ai until attested.ai.kbs_policy sets another one: nobody gets anything.
package policy

import rego.v1

default allow := false
"""
SEED = "kbs/resource-policy.rego"
# Where the Helm chart of 0.21.0 mounts things (templates/_helpers.tpl).
CHART_KEYS = "/opt/confidential-containers/kbs/user-keys"
CHART_TLS = "/etc/attested-ai/tls"
CHART_DATA = "/opt/confidential-containers/kbs/repository"
CHART_AS_DATA = "/opt/confidential-containers/attestation-service"


@dataclass(frozen=True)
class Places:
    """Where files are for the programs, and how they reach each other."""

    sockets: Tuple[str, ...]
    tls_key: str
    tls_certificate: str
    admin_public: str
    token_trust: str
    token_key: str
    token_certificate: str
    kbs_data: str
    as_data: str
    rvps_data: str
    as_url: str
    rvps_url: str


def places(settings: Settings, namespace: str = "", release: str = "") -> Places:
    if settings.way == "helm":
        host = "%s-%%s.%s.svc.cluster.local" % (release, namespace)
        return Places(
            ("0.0.0.0:%d" % KBS_PORT,), CHART_TLS + "/tls.key", CHART_TLS + "/tls.crt", CHART_KEYS + "/public.pub", CHART_KEYS + "/token-cert-chain.pem",
            CHART_KEYS + "/token.key", CHART_KEYS + "/token-cert-chain.pem", CHART_DATA, CHART_AS_DATA, "",
            "http://%s:%d" % (host % "as", AS_PORT), "http://%s:%d" % (host % "rvps", RVPS_PORT),
        )  # fmt: skip
    keys, data = settings.keys_dir, settings.data_dir
    sockets = settings.listen if settings.way == "binaries" else ("0.0.0.0:%d" % KBS_PORT,)
    return Places(
        sockets, keys + "/tls.key", keys + "/tls.crt", settings.config_dir + "/admin.pub", keys + "/token-ca.pem", keys + "/token.key", keys + "/token.crt",
        data + "/storage", data + "/attestation-service", data + "/reference-values",
        "http://127.0.0.1:%d" % AS_PORT, "http://127.0.0.1:%d" % RVPS_PORT,
    )  # fmt: skip


def kbs(settings: Settings, where: Places) -> str:
    """kbs.toml. [admin] is always in it: without it everybody would be one."""
    own = {"issuer": settings.admin.issuer, "audience": settings.admin.audience, "public_key_uri": where.admin_public}
    others = [{"issuer": issuer, "audience": audience, "jwk_set_uri": uri} for issuer, audience, uri in settings.admin.providers]
    document: Dict[str, Any] = {
        "session_storage_type": "Memory",
        "http_server": {
            "sockets": list(where.sockets), "insecure_http": False, "private_key": where.tls_key, "certificate": where.tls_certificate,
            "tls_profile": "modern", "payload_request_size": settings.payload_mib,
        },
        "attestation_token": {"trusted_certs_paths": [where.token_trust], "insecure_header_jwk": False},
        "attestation_service": _service(settings, where),
        "admin": {
            "authorization_mode": "AuthenticatedAuthorization",
            "authentication": {"bearer_jwt": {"identity_providers": [own, *others]}},
            "authorization": {"regex_acl": {"acls": [{"role": role, "allowed_endpoints": rule} for role, rule in settings.admin.acls]}},
        },
        "storage_backend": {"storage_type": "LocalFs", "backends": {"local_fs": {"dir_path": where.kbs_data}}},
        "plugins": [toml.Tables(name="resource", storage_backend_type="kvstorage")],
    }  # fmt: skip
    return "# Managed by attested.ai (trustee)\n" + toml.dumps(document)


def _service(settings: Settings, where: Places) -> Dict[str, Any]:
    if settings.layout == "services":
        return {"type": "coco_as_grpc", "as_addr": where.as_url, "pool_size": 200, "timeout": settings.session_minutes}
    return {"type": "coco_as_builtin", "timeout": settings.session_minutes, "attestation_token_broker": _broker(settings, where),
            "rvps_config": {"type": "BuiltIn"}, **({"verifier_config": dict(settings.verifiers)} if settings.verifiers else {})}  # fmt: skip


def attestation_service(settings: Settings, where: Places) -> str:
    document = {
        "storage_backend": _local(where.as_data), "rvps_config": {"type": "GrpcRemote", "address": where.rvps_url},
        "attestation_token_broker": _broker(settings, where), **({"verifier_config": dict(settings.verifiers)} if settings.verifiers else {}),
    }  # fmt: skip
    return json.dumps(document, indent=2) + "\n"


def reference_values(where: Places) -> str:
    """Its key is named storage; with another one the service would start, and keep nothing."""
    return json.dumps({"storage": _local(where.rvps_data)}, indent=2) + "\n"


def _broker(settings: Settings, where: Places) -> Dict[str, Any]:
    return {"duration_min": settings.token_minutes, "verbose_token": settings.verbose_token,
            "signer": {"key_path": where.token_key, "cert_path": where.token_certificate}}  # fmt: skip


def _local(path: str) -> Dict[str, Any]:
    return {"storage_type": "LocalFs", "backends": {"local_fs": {"dir_path": path}}}
