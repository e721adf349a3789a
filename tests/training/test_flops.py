"""FLOPs a token against counts written out from the configurations, and which device is which."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tsugiki.training.flops import device_peak, flops_per_token

VOCABULARY, WIDTH, INNER, LAYERS, SEQUENCE = 101, 16, 24, 2, 40
HEAD = VOCABULARY * WIDTH
GROUPED = 2 * WIDTH * 16 + 2 * WIDTH * 8  # q and o of 4 heads, k and v of 2, of 4
FEED_FORWARD = 3 * WIDTH * INNER
SCORES = 12 * LAYERS * 16 * SEQUENCE  # 4 heads of 4

# Of DeepSeek-V3: q through 8 to 4 heads of 4 + 4, k and v through 8 (and 4 of RoPE) to 4 heads of 4 + 4, o.
LATENT = WIDTH * 8 + 8 * 4 * 8 + WIDTH * (8 + 4) + 8 * 4 * 8 + 4 * 4 * WIDTH
# Its scores are of 8 elements a head, what they weight has 4: per token and layer 2 * 8 + 2 * 4 forward, times 3.
LATENT_SCORES = 3 * LAYERS * 4 * (2 * 8 + 2 * 4) * SEQUENCE
EXPERT = 3 * WIDTH * 12

COUNTS = {
    "mistral": 6 * (LAYERS * (GROUPED + FEED_FORWARD) + HEAD) + SCORES,
    "mistral-tied": 6 * (LAYERS * (GROUPED + FEED_FORWARD) + HEAD) + SCORES,
    "mixtral": 6 * (LAYERS * (GROUPED + WIDTH * 4 + 2 * FEED_FORWARD) + HEAD) + SCORES,  # 2 of 4 experts
    "qwen3_moe": 6 * (LAYERS * (GROUPED + WIDTH * 4 + 2 * EXPERT) + HEAD) + SCORES,
    # One dense layer, one of which a token visits 2 of 4 experts and the shared one.
    "deepseek_v3": 6 * (LAYERS * LATENT + FEED_FORWARD + WIDTH * 4 + 3 * EXPERT + HEAD) + LATENT_SCORES,
}


@pytest.mark.parametrize("name", COUNTS)
def test_flops_of_a_token_are_those_written_out(name, tiny_config):
    values = tiny_config(name)
    with torch.device("meta"):
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        model = AutoModelForCausalLM.from_config(config)
    assert flops_per_token(model, SEQUENCE) == COUNTS[name]


def test_frozen_matrices_cost_no_training(tiny_config):
    values = tiny_config("mistral")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    model.model.layers[0].requires_grad_(False)
    assert COUNTS["mistral"] - flops_per_token(model, SEQUENCE) == 6 * (GROUPED + FEED_FORWARD)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 NVL", 835), ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A40", 150), ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165), ("NVIDIA RTX A6000", 155), ("NVIDIA RTX A4000", None), ("NVIDIA L40", None),
        ("NVIDIA GH200 480GB", None), ("Tesla V100-SXM2-16GB", None),
    ],
)  # fmt: skip
def test_a_devices_peak_is_that_of_its_whole_name(monkeypatch, name, teraflops):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    peak = device_peak(torch.device("cuda", 0))
    assert peak == (None if teraflops is None else teraflops * 1e12)
    assert device_peak(torch.device("cpu")) is None
