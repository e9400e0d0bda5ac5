# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set right what Trustee's Helm chart of 0.21.0 cannot be told, between Helm's templates and the cluster; and let nothing else through.

Manifests come on standard input and go to standard output. The KBS gets a configuration with TLS 1.3, audience and all; its probes speak TLS; pods get the keys
that they need and no more; only the KBS reaches the attestation service, and only that the reference values. Any object that is not known, any image without a
digest and any data that a restart would lose is an error, and then Helm installs nothing. Hooks do not come by here: Helm 3 keeps them to itself. The chart has
some for demo keys only, which are switched off.
"""

from __future__ import annotations

import json
import re
import sys

import yaml

KINDS = {"ConfigMap", "Deployment", "Service"}
# Which of the keys in the Secret each needs.
KEYS = {"kbs": {"public.pub", "token-cert-chain.pem"}, "attestation-service": {"token.key", "token-cert-chain.pem"}}
RVPS = "reference-value-provider-service"
APPS = ("kbs", "attestation-service", RVPS)
DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}\Z")
PORTS = {"attestation-service": 50004, RVPS: 50003}
CALLERS = {"attestation-service": "kbs", RVPS: "attestation-service"}


class Refused(Exception):
    """Something in the chart is not as it was when this was written."""


def render(objects: list[dict], settings: dict) -> list[dict]:
    found = [one for one in objects if one]
    for one in found:
        if one.get("kind") not in KINDS:
            raise Refused(f"the chart makes an object of the kind {one.get('kind')}, which is not known here")
    names = [one["metadata"].get("labels", {}).get("helm.sh/chart") for one in found]
    if set(names) != {settings["chart"]}:
        raise Refused(f"the chart is {', '.join(sorted({str(name) for name in names}))}, {settings['chart']} was expected")
    deployments = {one["spec"]["template"]["metadata"]["labels"]["app"]: one for one in found if one["kind"] == "Deployment"}
    if set(deployments) != set(APPS):
        raise Refused(f"the chart deploys {', '.join(sorted(deployments))}")
    _configure(found, settings)
    for app, one in deployments.items():
        _deployment(app, one["spec"]["template"]["spec"], settings)
        # A volume that one pod may write to cannot be handed over while both run.
        one["spec"]["strategy"] = {"type": "Recreate"}
    return found + [_network(app, settings) for app in PORTS]


def _configure(objects: list[dict], settings: dict) -> None:
    for name, text in settings["configs"].items():
        maps = [one for one in objects if one["kind"] == "ConfigMap" and name in one.get("data", {})]
        if len(maps) != 1:
            raise Refused(f"the chart has no configuration {name}, or several")
        maps[0]["data"][name] = text


def _deployment(app: str, pod: dict, settings: dict) -> None:
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        container["image"] = settings["images"].get(container["image"], container["image"])
        if not DIGEST.match(container["image"]):
            raise Refused(f"the image {container['image']} of {app} has no digest")
    if len(pod["containers"]) != 1:
        raise Refused(f"{app} has several containers")
    for volume in pod.get("volumes", []):
        if volume["name"] == "data" and "persistentVolumeClaim" not in volume:
            raise Refused(f"{app} would lose its data with each restart")
        if volume["name"] == "user-keys":
            secret = volume["secret"]
            secret["items"] = [item for item in secret["items"] if item["path"] in KEYS[app]]
            secret["defaultMode"] = 0o440
            if {item["path"] for item in secret["items"]} != KEYS[app]:
                raise Refused(f"the keys of {app} are not those that were expected")
    if app == "kbs":
        probes = [pod["containers"][0][name] for name in ("readinessProbe", "livenessProbe")]
        for probe in probes:
            probe["httpGet"]["scheme"] = "HTTPS"


def _network(app: str, settings: dict) -> dict:
    """Both take orders from whoever reaches them: there is no password."""
    labels = {"app.kubernetes.io/instance": settings["release"]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{settings['full']}-{app}", "namespace": settings["namespace"], "labels": dict(labels)},
        "spec": {
            "podSelector": {"matchLabels": {"app": app, **labels}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": CALLERS[app], **labels}}}], "ports": [{"protocol": "TCP", "port": PORTS[app]}]}],
        },
    }


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as stream:
        settings = json.load(stream)
    try:
        objects = render(list(yaml.safe_load_all(sys.stdin)), settings)
    except (Refused, KeyError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, Refused) else f"an object has not the form that was expected ({error!r})"
        sys.stderr.write(f"attested.ai.trustee: {reason}. Nothing is installed\n")
        return 1
    yaml.safe_dump_all(objects, sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
