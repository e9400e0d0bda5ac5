# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The objects of Kubernetes that make an inference service, in the order that they are applied: the pod comes last, when all that it needs is there."""

from __future__ import annotations

import base64
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.kbs.initdata import ANNOTATION
from ansible_collections.attested.ai.plugins.module_utils.kubernetes import secrets, template
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.channel import Channel
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.parts import Store
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import Platform, RuntimeClass, server
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.quantity import written
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.sizing import Sizing
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.traffic import Peer

MANAGER = "attested.ai"
INSTANCE, MANAGED_BY = "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"
DNS_PORT = 53
Object = Dict[str, Any]


def objects(
    spec: PodSpec, platform: Platform, runtime: RuntimeClass, sizing: Sizing, channel: Optional[Channel], sealed: Mapping[str, str]
) -> List[Object]:  # fmt: skip
    found = [_network_policy(spec, platform)]
    if spec.tls is not None:
        found.append({**_head(spec, "v1", "ConfigMap", template.public_name(spec)), "data": {secrets.TLS_CERTIFICATE: spec.tls.certificate}})
    if sealed:
        data = {name: base64.b64encode(text.encode("ascii")).decode("ascii") for name, text in sorted(sealed.items())}
        found.append({**_head(spec, "v1", "Secret", template.secret_name(spec)), "type": "Opaque", "data": data})
    if spec.trusted_store is not None and not spec.trusted_store.claim:
        found.append(_claim(spec, spec.trusted_store))
    return [*found, _service(spec), _deployment(spec, platform, runtime, sizing, channel)]


def _labels(spec: PodSpec) -> Dict[str, str]:
    return {INSTANCE: spec.name, MANAGED_BY: MANAGER}


def _head(spec: PodSpec, version: str, kind: str, name: str) -> Object:
    labels = {"app.kubernetes.io/name": spec.server, "app.kubernetes.io/component": "inference", **_labels(spec)}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": spec.namespace, "labels": labels}}


def _deployment(spec: PodSpec, platform: Platform, runtime: RuntimeClass, sizing: Sizing, channel: Optional[Channel]) -> Object:
    head = _head(spec, "apps/v1", "Deployment", spec.name)
    annotations = {}
    if channel is not None and platform.init_data:
        annotations[ANNOTATION] = channel.document.annotation
    elif channel is not None and platform.policy_annotation:
        annotations[platform.policy_annotation] = base64.b64encode(channel.policy.encode("utf-8")).decode("ascii")
    metadata: Object = {"labels": dict(head["metadata"]["labels"])}
    if annotations:
        metadata["annotations"] = annotations
    # A second pod beside the first would wait for GPUs, or for the device, that the first one has.
    alone = spec.gpus is not None or spec.trusted_store is not None
    return {**head, "spec": {
        "replicas": spec.replicas,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": spec.start_seconds + 600,
        "strategy": {"type": "Recreate"} if alone else {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": _labels(spec)},
        "template": {"metadata": metadata, "spec": template.pod_spec(spec, platform, runtime, sizing)},
    }}  # fmt: skip


def _service(spec: PodSpec) -> Object:
    protocol = server(spec.server).protocol
    name = "https" if spec.tls and protocol == "http" else protocol
    return {**_head(spec, "v1", "Service", spec.name), "spec": {
        "type": "ClusterIP", "selector": _labels(spec), "ports": [{"name": name, "port": spec.port, "targetPort": spec.port, "protocol": "TCP"}],
    }}  # fmt: skip


def _claim(spec: PodSpec, store: Store) -> Object:
    found: Object = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "resources": {"requests": {"storage": written(store.size_mib)}}}
    if store.storage_class:
        found["storageClassName"] = store.storage_class
    return {**_head(spec, "v1", "PersistentVolumeClaim", template.store_name(spec)), "spec": found}


def _network_policy(spec: PodSpec, platform: Platform) -> Object:
    """The host enforces it: it keeps other tenants away, and not the host."""
    exits: List[Object] = [{"ports": [{"protocol": protocol, "port": port} for port in platform.dns_ports for protocol in ("UDP", "TCP")],
                            "to": [{"namespaceSelector": {}}]}]  # fmt: skip
    for one in spec.traffic.exits:
        # A name server of the node's own has an address, and no namespace.
        ports = [("TCP", port) for port in one.ports] + [("UDP", port) for port in one.ports if port == DNS_PORT]
        exits.append({"to": [{"ipBlock": {"cidr": one.cidr}}], "ports": [{"protocol": protocol, "port": port} for protocol, port in ports]})
    peers = [_peer(one) for one in spec.traffic.peers]
    return {**_head(spec, "networking.k8s.io/v1", "NetworkPolicy", spec.name), "spec": {
        "podSelector": {"matchLabels": _labels(spec)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": [{"protocol": "TCP", "port": spec.port}]}] if peers else [],
        "egress": [{}] if spec.traffic.open_egress else exits,
    }}  # fmt: skip


def _peer(peer: Peer) -> Object:
    if peer.cidr:
        return {"ipBlock": {"cidr": peer.cidr}}
    found: Object = {}
    if peer.namespace:
        found["namespaceSelector"] = {"matchLabels": dict(peer.namespace)}
    if peer.pods:
        found["podSelector"] = {"matchLabels": dict(peer.pods)}
    return found
