# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans of models that are known, against figures that were counted by hand; what is refused, and with which words."""

from __future__ import annotations

import pytest

from ansible_collections.attested.ai.plugins.module_utils.planning import tables
from ansible_collections.attested.ai.plugins.module_utils.planning.failure import PlanError
from ansible_collections.attested.ai.plugins.module_utils.planning.guest_fit import bounce_buffers, with_bounce_buffers
from ansible_collections.attested.ai.plugins.module_utils.planning.model import parse_model
from ansible_collections.attested.ai.plugins.module_utils.planning.plan import plan

from .plan_lab import CONFIG, HOST, SHAPE

GIB = 1 << 30


def one(model=(), host=(), options=None):
    return plan({**SHAPE, **dict(model)}, [{**HOST, **dict(host)}], options)["hosts"][0]


def figure(found, key):
    return next(row["value"] for row in found["figures"] if row["id"] == key)


def test_eight_h100_take_70b_in_protected_pcie():
    found = one()
    assert (found["fits"], found["mode"], found["gpus_used"], found["tensor_parallel"], found["guests_per_host"]) == (True, "ppcie", 8, 8, 1)
    # 2 x 80 layers x 1 of 8 heads x 128 x 2 bytes x 32768 x 16 tokens
    assert figure(found, "gpu-kv-cache") == 2 * 80 * 1 * 128 * 2 * 32768 * 16 / GIB == 20.0
    assert figure(found, "gpu-weights") == round(70.6e9 / 8 / GIB, 3)
    assert "switches to ppcie" in found["next"]


def test_one_h200_does_not_take_it_and_says_what_would():
    found = one(host={"gpu": "h200", "gpus": 1, "tee": "snp"})
    assert not found["fits"] and found["mode"] is None
    assert "229.8 GiB of 126.4 usable" in found["why"]
    assert found["next"].startswith("Lower the concurrency to 5; or lower the context to 11593; or")
    assert "8 x H100 SXM (HGX) (ppcie)" in found["next"]
    # What it says helps, and one more does not.
    assert one(model={"concurrency": 5}, host={"gpu": "h200", "gpus": 1})["fits"]
    assert not one(model={"concurrency": 6}, host={"gpu": "h200", "gpus": 1})["fits"]
    assert one(model={"context": 11593}, host={"gpu": "h200", "gpus": 1})["fits"]


def test_two_of_eight_b200_take_it_with_the_driver_that_joins_them():
    found = one(host={"gpu": "b200"})
    assert (found["mode"], found["gpus_used"], found["driver"]["least"], found["guests_per_host"]) == ("on", 2, "590.48.01", 4)


def test_hopper_joins_all_or_none():
    found = one(host={"gpu": "h100", "gpus": 4})
    assert not found["fits"] and "all 8 with their switches (ppcie); 4 do not make a board" in found["why"]
    # Nine are no board, either.
    assert not one(host={"gpu": "h100", "gpus": 9})["fits"]
    small = one(model={"parameters": "8B", "context": 8192, "concurrency": 4}, host={"gpu": "h100", "gpus": 4})
    assert (small["mode"], small["gpus_used"], small["guests_per_host"], small["driver"]["least"]) == ("on", 1, 4, "575.57.08")


def test_cards_without_links_never_join():
    found = one(host={"gpu": "rtx-pro-6000"})
    assert not found["fits"] and "one GPU for each guest" in found["why"]


def test_a_model_on_the_cpu_keeps_its_cache_in_ram():
    found = one(host={"gpu": None, "gpus": 1, "ram_gib": 256})
    assert found["fits"] and found["gpu"] is None and figure(found, "kv-cache") == 160.0
    assert found["guest_ram_gib"] == 235
    assert [row["id"] for row in found["overhead"]] == ["cpu-inference"]


def test_ram_that_does_not_do_names_the_profile_that_does():
    found = one(host={"gpu": "b200", "ram_gib": 72})
    assert not found["fits"] and found["next"].startswith("Take the profile image")
    assert one(host={"gpu": "b200", "ram_gib": 72, "profile": "image"})["fits"]
    assert "Add" in one(host={"gpu": "b200", "ram_gib": 20})["next"]


def test_gpus_do_not_go_with_cca():
    found = one(host={"tee": "cca"})
    assert not found["fits"] and "CCA" in found["why"]


@pytest.mark.parametrize(("ram", "buffers"), [(1, 64 / 1024), (10, 0.6), (17, 1.0), (2048, 1.0)])
def test_bounce_buffers_are_six_percent_within_their_bounds(ram, buffers):
    assert bounce_buffers(ram * GIB) == pytest.approx(buffers * GIB, rel=0.01)


def test_ram_with_bounce_buffers_is_enough_and_not_more():
    for needed in (GIB // 2, GIB, 15 * GIB, 16 * GIB, 17 * GIB, 100 * GIB + 1):
        ram = with_bounce_buffers(needed)
        assert ram % GIB == 0 and ram - bounce_buffers(ram) >= needed and ram - GIB - bounce_buffers(ram - GIB) < needed


def test_a_config_is_counted():
    model = parse_model({"config": CONFIG, "context": 8192, "concurrency": 1})
    # 8.03 billion, as the model's own index says.
    assert 8.02e9 * 2 < model.weights < 8.04e9 * 2
    assert (model.layers, model.heads, model.kv_heads, model.head_dim, model.dtype) == (32, 32, 8, 128, "bf16")
    assert model.kv_per_token(1) == 2 * 32 * 8 * 128 * 2
    assert "counted from config.json" in model.weights_from


def test_quantized_checkpoints_keep_embeddings_at_16_bits():
    plain = parse_model({"config": {**CONFIG, "tie_word_embeddings": True}, "dtype": "int4", "context": 1, "concurrency": 1})
    assert plain.weights > parse_model({"config": CONFIG, "dtype": "int4", "context": 1, "concurrency": 1, "parameters": 1e9}).weights
    assert "embeddings at 16 bits" in plain.weights_from
    fp8 = parse_model({"config": {**CONFIG, "quantization_config": {"quant_method": "fp8"}}, "context": 1, "concurrency": 1})
    assert fp8.dtype == "fp8"


def test_compressed_heads_are_not_split():
    config = {**CONFIG, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    with pytest.raises(PlanError, match="neither size nor parameters"):
        parse_model({"config": config, "context": 1, "concurrency": 1})
    model = parse_model({"config": config, "size": "700 GB", "context": 1, "concurrency": 1})
    assert model.kv_per_token(1) == model.kv_per_token(8) == 61 * 576 * 2


def test_models_that_also_see_have_a_section_of_their_own():
    model = parse_model({"config": {"text_config": CONFIG, "torch_dtype": "bfloat16"}, "context": 1, "concurrency": 1})
    assert model.layers == 32 and model.weights > 16e9


@pytest.mark.parametrize(
    ("model", "host", "options", "words"),
    [
        ({"contxt": 1}, {}, None, "contxt is not known"),
        ({"dtype": "fp3"}, {}, None, "'fp3' is not known. There are fp32"),
        ({"dtype": None}, {}, None, "dtype is missing"),
        ({"parameters": "many"}, {}, None, "'many' is no number"),
        ({"parameters": float("nan")}, {}, None, "nan is no number"),
        ({"parameters": None}, {}, None, "neither size nor parameters"),
        ({"size": "141 Gx"}, {}, None, "no unit of size"),
        ({"concurrency": 0}, {}, None, "0 is no whole number from 1"),
        ({"concurrency": True}, {}, None, "True is no whole number"),
        ({"layers": 1.5}, {}, None, "1.5 is no whole number"),
        ({"kv_heads": 7}, {}, None, "64 heads cannot share 7"),
        ({"config": {"hidden_size": 1}}, {}, None, "num_hidden_layers"),
        ({"config": CONFIG, "context": 200000}, {}, None, "contexts up to 131072"),
        ({"config": {**CONFIG, "quantization_config": {"quant_method": "compressed-tensors"}}, "dtype": None}, {}, None, ""),
        ({}, {"gpu": "a100"}, None, "nothing is known of 'a100'"),
        ({}, {"tee": "sgx"}, None, "'sgx' is no TEE"),
        ({}, {"gpus": -1}, None, "-1 is no whole number"),
        ({}, {"ram_gib": 0}, None, "0 is no number above 0"),
        ({}, {"profile": "zip"}, None, "'zip' is no profile"),
        ({}, {"memory": 1}, None, "memory is not known"),
        ({}, {}, {"gpu_use": 1.2}, "more than all of it"),
        ({}, {}, {"magic": 1}, "magic is not known"),
    ],
)
def test_what_cannot_be_planned_is_named(model, host, options, words):
    if not words:
        # A checkpoint whose config.json does not tell takes what config.json says elsewhere, and that is refused.
        given = {key: value for key, value in {**SHAPE, **model}.items() if key not in ("dtype",)}
        given["config"] = {key: value for key, value in given["config"].items() if key != "torch_dtype"}
        with pytest.raises(PlanError, match="dtype is missing"):
            parse_model(given)
        return
    with pytest.raises(PlanError) as error:
        one(model, host, options)
    assert words in str(error.value)


@pytest.mark.parametrize("hosts", [[], None, "host1", [1], [{"name": "x"}]])
def test_hosts_must_be_hosts(hosts):
    with pytest.raises(PlanError):
        plan(SHAPE, hosts)


def test_every_figure_has_a_source_and_every_gpu_a_mark():
    for gpu in tables.gpus().values():
        assert gpu.mark and gpu.memory > 40 * GIB and gpu.shapes["on"][0] == 1 and gpu.architecture in ("hopper", "blackwell")
    assert all("ppcie" not in gpu.shapes for gpu in tables.gpus().values() if gpu.architecture != "hopper")
    for row in tables.table("performance")["figures"]:
        assert row["source"] and row["setup"] and row["mark"] in ("published", "unverified"), row
    found = plan(SHAPE, [HOST])["hosts"][0]
    assert all(row["source"] and row["mark"] in ("source", "rule", "assumption", "unverified", "given") for row in found["figures"])
    assert next(row for row in one(options={"system_gib": 2})["figures"] if row["id"] == "system")["mark"] == "given"
