# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between Helm and the cluster: it sets the chart right, and lets nothing through that it does not know."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.attested.ai.plugins.module_utils.trustee import plan

sys.path.insert(0, str(Path(__file__).resolve().parent))
from trustee_lab import HELM, IMAGES, ROLE, description  # noqa: E402  pylint: disable=wrong-import-position

SPEC = importlib.util.spec_from_file_location("trustee_post_render", ROLE / "files" / "post_render.py")
post_render = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(post_render)
MADE = plan.make(description(way="helm", layout="services", helm=HELM))
SETTINGS = MADE["render"]
LABELS = {"helm.sh/chart": "trustee-0.18.0"}
ITEMS = [{"key": "A", "path": path} for path in ("private.key", "public.pub", "token.key", "token-cert-chain.pem")]


def deployment(app: str, image: str) -> dict:
    probe = {"httpGet": {"path": "/healthz", "port": "http"}}
    pod = {
        "initContainers": [{"name": "wait", "image": "busybox:1.36"}],
        "containers": [{"name": app, "image": image, "readinessProbe": copy.deepcopy(probe), "livenessProbe": copy.deepcopy(probe)}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": app}}],
    }
    if app in post_render.KEYS:
        pod["volumes"].append({"name": "user-keys", "secret": {"secretName": "trustee-keys", "items": copy.deepcopy(ITEMS)}})
    return {"kind": "Deployment", "metadata": {"name": app, "labels": LABELS}, "spec": {"template": {"metadata": {"labels": {"app": app}}, "spec": pod}}}


def chart() -> list[dict]:
    """The form of what the chart of 0.21.0 renders, as far as it matters here. tests/peers renders the chart itself."""
    maps = {"trustee-kbs-config": "kbs-config.toml", "trustee-as-config": "config.json", "trustee-rvps-config": "rvps.json"}
    found = [{"kind": "ConfigMap", "metadata": {"name": name, "labels": LABELS}, "data": {key: "insecure_http = true"}} for name, key in maps.items()]
    found.append({"kind": "Service", "metadata": {"name": "trustee-kbs", "labels": LABELS}, "spec": {"type": "ClusterIP"}})
    return [*found, deployment("kbs", IMAGES["kbs"]), deployment("attestation-service", IMAGES["as"]), deployment(post_render.RVPS, IMAGES["rvps"])]


def pods(objects: list[dict]) -> dict[str, dict]:
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"}


def test_the_chart_is_set_right():
    made = post_render.render(chart(), SETTINGS)
    configs = {name: text for one in made if one["kind"] == "ConfigMap" for name, text in one["data"].items()}
    assert "insecure_http = false" in configs["kbs-config.toml"] and json.loads(configs["config.json"])["attestation_token_broker"]["signer"]
    found = pods(made)
    assert {probe["httpGet"]["scheme"] for probe in (found["kbs"]["containers"][0][name] for name in ("readinessProbe", "livenessProbe"))} == {"HTTPS"}
    keys = {name: {item["path"] for item in volume["secret"]["items"]} for name, pod in found.items() for volume in pod["volumes"] if "secret" in volume}
    assert keys == {"kbs": {"public.pub", "token-cert-chain.pem"}, "attestation-service": {"token.key", "token-cert-chain.pem"}}
    assert {container["image"] for pod in found.values() for container in pod["initContainers"]} == {IMAGES["busybox"]}
    network = {one["spec"]["podSelector"]["matchLabels"]["app"]: one["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["app"]
               for one in made if one["kind"] == "NetworkPolicy"}  # fmt: skip
    assert network == {"attestation-service": "kbs", post_render.RVPS: "attestation-service"}


def job(objects):
    objects.append({"kind": "Job", "metadata": {"name": "bootstrap", "labels": LABELS}})


def other_chart(objects):
    objects[0]["metadata"] = {"name": "x", "labels": {"helm.sh/chart": "trustee-0.19.0"}}


def no_config(objects):
    objects[0]["data"] = {"kbs-config.yaml": ""}


def tag(objects):
    objects[-1]["spec"]["template"]["spec"]["containers"][0]["image"] = "ghcr.io/x/rvps:latest"


def new_init(objects):
    objects[-1]["spec"]["template"]["spec"]["initContainers"].append({"name": "x", "image": "busybox:1.37"})


def empty_dir(objects):
    objects[-1]["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]


def fewer(objects):
    objects.pop()


def sidecar(objects):
    objects[-1]["spec"]["template"]["spec"]["containers"].append({"name": "x", "image": IMAGES["kbs"]})


def keys(objects):
    objects[-2]["spec"]["template"]["spec"]["volumes"][1]["secret"]["items"].pop()


def formless(objects):
    del objects[-1]["spec"]["template"]["spec"]["containers"]


@pytest.mark.parametrize("act", [job, other_chart, no_config, tag, new_init, empty_dir, fewer, sidecar, keys, formless])
def test_what_is_not_known_installs_nothing(act, tmp_path, monkeypatch, capsys):
    objects = chart()
    act(objects)
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    monkeypatch.setattr(sys, "argv", ["post_render.py", str(tmp_path / "settings.json")])
    monkeypatch.setattr(sys, "stdin", io.StringIO(yaml.safe_dump_all(objects)))
    assert post_render.main() == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("attested.ai.trustee: ") and "Nothing is installed" in told.err and "Traceback" not in told.err
