# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the description of a key broker to all that is written for it."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.formats.strict import members
from ansible_collections.attested.ai.plugins.module_utils.trustee import config
from ansible_collections.attested.ai.plugins.module_utils.trustee.problem import TrusteeError
from ansible_collections.attested.ai.plugins.module_utils.trustee.settings import Settings, parse

# How it is reached from outside of the cluster. No Ingress: that would end TLS before the KBS.
EXPOSED = ("none", "load_balancer", "node_port")
_TITLES = {"kbs": "key broker", "as": "attestation service", "rvps": "reference values"}


def make(given: Any) -> Dict[str, Any]:
    """``files`` of the configuration folder by name, ``components`` in the order of their start, ``warnings``; with the way helm ``values`` and ``render``.

    Raises TrusteeError, FormatError.
    """
    told = dict(given) if isinstance(given, Mapping) else {}
    chart = told.pop("helm", {})
    settings = parse(told)
    if settings.way == "helm":
        return _helm(settings, chart)
    where = config.places(settings)
    files = {"kbs.toml": config.kbs(settings, where)}
    if settings.layout == "services":
        files["as.json"] = config.attestation_service(settings, where)
        files["rvps.json"] = config.reference_values(where)
    return {
        "files": files, "seed": config.DENY_ALL, "seed_path": "%s/%s" % (where.kbs_data, config.SEED), "keys_dir": settings.keys_dir,
        "folders": [where.kbs_data, *([where.as_data, where.rvps_data] if settings.layout == "services" else [])],
        "components": [_component(settings, where, name) for name in settings.components], "warnings": settings.warnings,
    }  # fmt: skip


def _component(settings: Settings, where: config.Places, name: str) -> Dict[str, Any]:
    program = settings.programs.get(name) or {"kbs": "/usr/local/bin/kbs", "as": "/usr/local/bin/grpc-as", "rvps": "/usr/local/bin/rvps"}[name]
    line = {
        "kbs": [program, "--config-file", settings.config_dir + "/kbs.toml"],
        "as": [program, "--socket", "127.0.0.1:%d" % config.AS_PORT, "--config-file", settings.config_dir + "/as.json"],
        "rvps": [program, "--address", "127.0.0.1:%d" % config.RVPS_PORT, "--config", settings.config_dir + "/rvps.json"],
    }[name]
    before = settings.components[: settings.components.index(name)]
    return {
        "name": name, "title": _TITLES[name], "unit": "%s-%s" % (settings.name, name), "line": " ".join(line), "program": program,
        "image": settings.images.get(name, ""), "after": ["%s-%s.service" % (settings.name, one) for one in before],
        # The first has the network of all: what listens on loopback in it is reached by nobody else.
        "network": "container:%s-%s" % (settings.name, settings.components[0]) if before else "",
        "publish": ["%s:%d" % (one, config.KBS_PORT) for one in settings.listen] if name == settings.components[0] else [],
        "log": settings.log, **_mounts(settings, where, name),
    }  # fmt: skip


def _mounts(settings: Settings, where: config.Places, name: str) -> Dict[str, Any]:
    """What a container sees: its own files, and never the key of an authority."""
    read = {"kbs": ["%s/kbs.toml" % settings.config_dir, where.admin_public, where.tls_key, where.tls_certificate, where.token_trust],
            "as": ["%s/as.json" % settings.config_dir, where.token_key, where.token_certificate],
            "rvps": ["%s/rvps.json" % settings.config_dir]}[name]  # fmt: skip
    if settings.layout == "builtin":
        read = [*read, where.token_key, where.token_certificate]
    hidden = ["%s/%s-ca.key" % (settings.keys_dir, kind) for kind in ("tls", "token")]
    return {"read": read, "write": {"kbs": where.kbs_data, "as": where.as_data, "rvps": where.rvps_data}[name], "hidden": hidden}


def _helm(settings: Settings, chart: Any) -> Dict[str, Any]:
    names = ("release", "namespace", "keys_secret", "tls_secret", "claims", "chart_version", "user", "expose")
    told = members(chart, names, where="trustee helm")
    release = str(told["release"])
    if told["expose"] not in EXPOSED:
        raise TrusteeError("it is none of %s" % ", ".join(EXPOSED), where="trustee expose", code="trustee-settings")
    # The chart puts its own name behind that of a release without it (templates/_helpers.tpl).
    full = release if "trustee" in release else release + "-trustee"
    if len(full) > 40:
        raise TrusteeError("names of objects would be cut off", where="trustee release", fix="Take a shorter name", code="trustee-settings")
    where = config.places(settings, str(told["namespace"]), full)
    claims = members(told["claims"], ("kbs", "as", "rvps"), where="trustee claims")
    render = {
        "full": full, "chart": "trustee-%s" % told["chart_version"], "namespace": str(told["namespace"]), "release": release,
        "configs": {"kbs-config.toml": config.kbs(settings, where), "config.json": config.attestation_service(settings, where)},
        "images": {"busybox:1.36": settings.images["busybox"]},
    }  # fmt: skip
    values = _values(settings, told, claims)
    return {"components": [], "warnings": settings.warnings, "full": full, "files": {}, "seed": config.DENY_ALL, "values": values, "render": render}


def _values(settings: Settings, told: Mapping[str, Any], claims: Mapping[str, Any]) -> Dict[str, Any]:
    user = {"runAsNonRoot": True, "runAsUser": told["user"], "runAsGroup": told["user"], "fsGroup": told["user"]}
    values: Dict[str, Any] = {
        "log_level": settings.log,
        "sessionStorageType": "Memory",
        "storageBackend": {"type": "LocalFs", "localFs": {"persistence": {name: str(claims[name]) for name in ("kbs", "as", "rvps")}}},
        "postgresql": {"enabled": False},
        "secrets": {"useEphemeralGeneratedKeys": False, "existingSecretName": str(told["keys_secret"])},
        "nodePort": {"enabled": told["expose"] == "node_port"},
        "ingress": {"enabled": False},
    }
    for name in ("kbs", "as", "rvps"):
        repository, _at, digest = settings.images[name].partition("@sha256:")
        # The chart writes repository:tag, and so this becomes repository@sha256:digest.
        values[name] = {"image": {"repository": repository + "@sha256", "tag": digest, "pullPolicy": "IfNotPresent"}, "podSecurityContext": dict(user)}
    role = settings.admin.acls[0][0]
    values["kbs"].update(
        config={"admin": {"issuer": settings.admin.issuer, "audience": settings.admin.audience, "role": role}},
        service={"exposeLoadBalancer": told["expose"] == "load_balancer", "port": config.KBS_PORT},
        extraVolumes=[{"name": "attested-tls", "secret": {"secretName": str(told["tls_secret"]), "defaultMode": 0o440}}],
        extraVolumeMounts=[{"name": "attested-tls", "mountPath": config.CHART_TLS, "readOnly": True}],
    )
    return values
