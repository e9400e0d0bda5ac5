# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the model and the host are: more work never needs less, and what a plan says that helps, helps."""

from __future__ import annotations

import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.attested.ai.plugins.module_utils.planning import tables
from ansible_collections.attested.ai.plugins.module_utils.planning.gpu_fit import best, fit, most_context, most_requests, shapes, splits
from ansible_collections.attested.ai.plugins.module_utils.planning.guest_fit import guest_memory
from ansible_collections.attested.ai.plugins.module_utils.planning.model import DTYPES, parse_model
from ansible_collections.attested.ai.plugins.module_utils.planning.plan import plan

from .plan_lab import hosts, models


def fits(model, host):
    return plan(model, [host])["fits"]


@settings(max_examples=150, deadline=None)
@given(models(), hosts(), st.sampled_from(["concurrency", "context", "parameters", "layers", "dtype", "kv_dtype"]), st.integers(2, 9))
def test_more_work_never_makes_a_model_fit(model, host, what, factor):
    if what == "dtype":
        order = sorted(DTYPES, key=lambda name: DTYPES[name])
        larger = {**model, "dtype": order[min(order.index(model["dtype"]) + factor, len(order) - 1)]}
    elif what == "kv_dtype":
        larger = {**model, "kv_dtype": "bf16"}
    else:
        larger = {**model, what: min(model[what] * factor, 10_000 if what == "layers" else 10**12 if what == "parameters" else 1_000_000)}
        assume(larger[what] >= model[what])
    assert fits(model, host) or not fits(larger, host)


@settings(max_examples=100, deadline=None)
@given(models(), hosts())
def test_more_memory_and_a_mapped_model_never_hurt(model, host):
    if fits(model, host):
        assert fits(model, {**host, "ram_gib": host["ram_gib"] * 2})
        assert fits(model, {**host, "profile": "image"})


@settings(max_examples=100, deadline=None)
@given(models(), hosts())
def test_a_plan_keeps_to_the_card_the_host_and_the_support_matrix(model, host):
    found = plan(model, [host])["hosts"][0]
    if not found["fits"]:
        assert found["why"] and found["next"]
        return
    assert found["guest_ram_gib"] * found["guests_per_host"] < host["ram_gib"]
    if found["mode"]:
        gpu = tables.gpus()[host["gpu"]]
        assert found["gpus_used"] in gpu.shapes[found["mode"]] and found["gpus_used"] * found["guests_per_host"] <= host["gpus"]
        assert found["gpu_gib"]["needed"] <= found["gpu_gib"]["usable"] < gpu.memory / tables.GIB
        assert model["heads"] % found["tensor_parallel"] == 0 and found["most_requests"] >= model["concurrency"]
        assert found["mode"] != "ppcie" or (host["gpus"] == 8 == found["gpus_used"] and found["guests_per_host"] == 1)
        assert found["mode"] != "on" or gpu.architecture == "blackwell" or found["gpus_used"] == 1


@settings(max_examples=100, deadline=None)
@given(models(), st.sampled_from(["h100", "h200", "b200", "b300"]))
def test_the_most_of_a_shape_is_the_most(model, key):
    one = parse_model(model)
    for shape in shapes(tables.gpus()[key], 8):
        if not splits(one, shape):
            continue
        found = fit(one, shape, {})
        requests, context = most_requests(one, found), most_context(one, found)
        for changed, limit in (("concurrency", requests), ("context", context)):
            # One more for each copy of the model is one too many.
            step = shape.replicas if changed == "concurrency" else 1
            if limit > 0:
                assert fit(parse_model({**model, changed: min(limit, 1_000_000)}), shape, {}).spare >= 0
            if 0 <= limit < 1_000_000 - step:
                assert fit(parse_model({**model, changed: limit + step}), shape, {}).spare < 0


@settings(max_examples=60, deadline=None)
@given(models(), hosts())
def test_the_steps_help(model, host):
    assume(host["gpu"])
    found = plan(model, [{**host, "ram_gib": 100_000}])["hosts"][0]
    if found["fits"]:
        return
    rich = {**host, "ram_gib": 100_000}
    for pattern, key in ((r"concurrency to (\d+)", "concurrency"), (r"context to (\d+)", "context")):
        match = re.search(pattern, found["next"])
        if match:
            assert fits({**model, key: int(match.group(1))}, rich)
    if "KV cache in fp8" in found["next"]:
        assert fits({**model, "kv_dtype": "fp8"}, rich)
    match = re.search(r"weights in (\w+)", found["next"])
    if match:
        gpu = tables.gpus()[host["gpu"]]
        assert best(parse_model(model).with_dtype(match.group(1)), gpu, host["gpus"], {})[0]


@settings(max_examples=100, deadline=None)
@given(models(), st.integers(0, 8), st.sampled_from(["files", "image"]), st.sampled_from(["tdx", "snp"]))
def test_the_memory_of_a_guest_is_the_sum_of_its_figures(model, gpus, profile, tee):
    memory = guest_memory(parse_model(model), gpus, profile, tee, {})
    parts = sum(one.value for one in memory.figures if one.id not in ("guest-ram", "vmm"))
    assert parts <= memory.guest / tables.GIB + 1e-6 and memory.host >= memory.guest
