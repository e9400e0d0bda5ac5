# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller asks of a guest about its devices, and what it makes of an answer that leaves them out."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("ansible")

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import Binding, EvidenceDocument, EvidenceItem  # noqa: E402
from ansible_collections.attested.ai.plugins.modules import tee_evidence  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.attestation_options import COLLECTION, PASSED_ON  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.guest import Guest  # noqa: E402

NONCE = bytes(range(32))
ITEMS = {
    "sev-snp": EvidenceItem("sev-snp", "sev_guest", b"report"),
    "nvidia-gpu": EvidenceItem("nvidia-gpu", "hopper", b"report", {"certificates": b"chain"}),
    "nvidia-switch": EvidenceItem("nvidia-switch", "ls10", b"report", {"certificates": b"chain"}),
}


def ask(types_of_items, **options):
    asked = []

    def execute(module_name, module_args, task_vars):
        asked.append(module_args)
        document = EvidenceDocument("attested/1", NONCE, Binding(), tuple(ITEMS[name] for name in types_of_items), {})
        return {"evidence": document.to_dict()}

    action = types.SimpleNamespace(_task=types.SimpleNamespace(delegate_to=None), _execute_module=execute)
    defaults = {name: entry.get("default") for name, entry in COLLECTION.items()}
    document = Guest(action, {"inventory_hostname": "guest-1"}).evidence(NONCE, {**defaults, **options}, bind_ssh_host_keys=False)
    return document, asked[0]


def test_every_option_of_the_collection_reaches_the_module():
    _document, asked = ask(["sev-snp"], privlevel=1, gpus="auto", nvml_library="/opt/nvml.so")
    assert set(PASSED_ON) <= set(asked) and asked["gpus"] == "auto" and asked["nvml_library"] == "/opt/nvml.so"
    assert set(asked) <= set(tee_evidence.ARGUMENT_SPEC)


def test_both_sides_have_the_same_options():
    for name, entry in COLLECTION.items():
        own = tee_evidence.ARGUMENT_SPEC[name]
        assert {key: own.get(key) for key in ("type", "default")} == {key: entry.get(key) for key in ("type", "default")}, name


@pytest.mark.parametrize("options, given", [({"gpus": "required"}, ["sev-snp"]), ({"gpus": "required", "switches": "required"}, ["sev-snp", "nvidia-gpu"])])
def test_devices_that_were_asked_for_cannot_be_left_out(options, given):
    with pytest.raises(CollectError, match="no evidence of type nvidia-"):
        ask(given, **options)


def test_devices_that_are_there():
    document, _asked = ask(["sev-snp", "nvidia-gpu", "nvidia-switch"], gpus="required", switches="required")
    assert len(document.items) == 3
