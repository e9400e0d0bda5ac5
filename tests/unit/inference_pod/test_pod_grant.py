# SPDX-License-Identifier: GPL-3.0-or-later
"""The grant of a plan before our own KBS: the pod's init-data opens its resources, and nothing else does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "kbs")]

import kbs_lab  # noqa: E402
import pod_lab  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kbs.protocol import Resource  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.kbs.rego_resource import resource_policy  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.inference_pod import inference_pod  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.kbs_grants import grants_of  # noqa: E402

# What the sample TEE says of itself.
TRUST = {"launch_digest": ["abcde"], "svn": ["1"], "major_version": 1, "minimum_minor_version": 1}


def test_only_the_pods_own_init_data_opens_its_resources(tmp_path):
    api = {"name": "api", "resource": "kbs:///default/tokens/api", "env": "VLLM_API_KEY"}
    described = pod_lab.described(tee="none", allow_unprotected=True, secrets=[api])
    made = inference_pod(described, sealing_key=pod_lab.key_file(tmp_path))
    text, _notes = resource_policy(grants_of([{"init_data_waiver": None, **made["grant"]}], Inputs(str)))
    with kbs_lab.soft_peer(tmp_path, tls=False) as peer:
        admin = peer.admin()
        admin.set_reference_values(TRUST)
        admin.set_resource_policy(text)
        wanted = made["grant"]["resources"]
        for path in [*wanted, "default/tokens/other"]:
            admin.set_resource(Resource.parse(path), path.encode())

        def fetch(init_data: str, path: str) -> bytes:
            guest = peer.guest()
            guest.attest("sample", kbs_lab.with_init_data(init_data))
            return guest.resource(path)

        assert "default/tokens/api" in wanted and "default/signing-key/sealed-secret" in wanted and "default/key/model-7" in wanted
        assert all(fetch(described["initdata"], path) == path.encode() for path in wanted)
        for init_data, path in ((described["initdata"], "default/tokens/other"), (pod_lab.document("registry.example.com/x@" + pod_lab.DIGEST), wanted[0])):
            with pytest.raises(KbsError):
                fetch(init_data, path)
