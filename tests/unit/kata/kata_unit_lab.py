# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of a cluster and files of a node for tests of Kata."""

from __future__ import annotations

from typing import Any

PREFIX = "io.katacontainers.config.hypervisor."
SNP = {"amd.feature.node.kubernetes.io/snp": "true"}
INSTALLED = {"katacontainers.io/kata-runtime": "true"}


def options(**changed: Any) -> dict[str, Any]:
    return {"version": "4.3.0", "shims": ["qemu-snp"], "allow_image_tags": True, **changed}


def node(name: str = "n1", runtime: str = "containerd://2.3.7", kubelet: str = "v1.36.3", labels: Any = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {**SNP, **INSTALLED} if labels is None else labels},
            "status": {"nodeInfo": {"containerRuntimeVersion": runtime, "kubeletVersion": kubelet, "kernelVersion": "6.12.48-amd64"}}}  # fmt: skip


def runtime_class(name: str, handler: str = "", ours: bool = True, selector: Any = None) -> dict[str, Any]:
    # As it is in a cluster: Helm writes its own name over the chart's.
    labels = {"app.kubernetes.io/managed-by": "Helm", "kata-deploy/instance": "default"} if ours else {}
    return {"metadata": {"name": name, "labels": labels}, "handler": handler or name, "scheduling": {"nodeSelector": selector or dict(INSTALLED)}}


def release(*shims: str, status: str = "deployed", **values: Any) -> dict[str, Any]:
    return {"status": status, "values": {"shims": {"disableAll": True, **{name: {"enabled": True} for name in shims}}, **values}}


def handler(name: str = "qemu-snp", forwarded: str = '["%scc_init_data"]' % PREFIX, config: str = "", table: str = "io.containerd.cri.v1.runtime") -> str:
    where = "[plugins.'%s'.containerd.runtimes.kata-%s" % (table, name)
    return "%s]\nruntime_type = 'io.containerd.kata-%s.v2'\nruntime_path = '/opt/kata/bin/shim'\npod_annotations = %s\n%s.options]\nConfigPath = '%s'\n" % (
        where, name, forwarded, where, config or "/etc/kata/%s/configuration.toml" % name)  # fmt: skip


def facts(*handlers: str, files: Any = None, containerd: str = "2.3.7", release: str = "4.3.0") -> dict[str, Any]:
    shipped = '[hypervisor.qemu]\nenable_annotations = ["kernel_params", "cc_init_data"]\n'
    closed = '[hypervisor.qemu]\nenable_annotations = ["cc_init_data"]\n'
    known = {"/etc/kata/qemu-snp/configuration.toml": shipped, "/etc/kata/qemu-snp/config.d/50-x.toml": closed}
    return {"containerd": "containerd github.com/containerd/containerd/v2 v%s abc" % containerd, "dump": "version = 3\n" + "".join(handlers or (handler(),)),
            "files": known if files is None else files, "present": ["/opt/kata/bin/shim"], "release": release}  # fmt: skip
