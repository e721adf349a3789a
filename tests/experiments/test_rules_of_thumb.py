"""What is measured on a base before anything runs, against torch's own arithmetic."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tsugiki.experiments.rules_of_thumb import Weights, bfloat16, read_weights, rules_of_thumb
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.experiments.trials import expand


def test_rounding_to_bf16_is_torchs():
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.randint(-6, 3, (100_000,))
    assert np.array_equal(bfloat16(values.numpy()), values.bfloat16().float().numpy())
    halves = torch.arange(0x3F80_0000, 0x3F90_0000, 0x8000, dtype=torch.int32).view(torch.float32)  # ties, to even
    assert np.array_equal(bfloat16(halves.numpy()), halves.bfloat16().float().numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_sampled_from_files_of_every_format(tmp_path, dtype):
    torch.manual_seed(0)
    tensors = {"a.weight": torch.randn(300, 200) * 0.02, "norm.weight": torch.ones(200), "ids": torch.arange(5)}
    save_file(
        {name: one.to(dtype) if one.is_floating_point() else one for name, one in tensors.items()},
        tmp_path / "model.safetensors",
    )
    found = read_weights(tmp_path)
    assert found.parameters == 300 * 200 + 200
    assert found.root_mean_square == pytest.approx(0.02, rel=0.03)
    ((size, part),) = found.vectors
    assert (size, part.min(), part.max()) == (200, 1.0, 1.0)


def test_a_large_tensor_is_sampled_from_its_beginning_to_its_end(tmp_path):
    """In 64 blocks of 256: no more pages of the file are touched, and what grows along it has its mean."""
    ramp = torch.linspace(-1, 1, 4_000_000).reshape(2000, 2000)
    save_file({"a.weight": ramp}, tmp_path / "model.safetensors")
    ((size, part),) = read_weights(tmp_path).matrices
    assert (size, len(part), part[0], part[-1]) == (4_000_000, 64 * 256, -1.0, 1.0)
    assert float(part.mean()) == pytest.approx(0, abs=1e-4)
    assert float((part**2).mean()) == pytest.approx(1 / 3, rel=0.05)
    blocks = part.reshape(64, 256)
    assert np.array_equal(blocks[10], ramp.ravel().numpy()[(first := int(10 * (size - 256) / 63)) : first + 256])


@pytest.mark.parametrize(("rate", "share"), [(1e-6, 0.02), (2e-5, 0.30), (6e-5, 0.57), (1e-4, 0.88)])
def test_the_published_shares_of_bf16_weights_that_a_step_moves(rate, share):
    drawn = torch.normal(0.0, 0.02, (200_000,), generator=torch.Generator().manual_seed(1))
    weights = Weights(1, [(200_000, drawn.numpy())], [(10, np.ones(10, np.float32))])
    matrices, norms = weights.moved(rate, bfloat16)
    before = drawn.bfloat16()
    after = (before.float() - rate).bfloat16()
    assert matrices == pytest.approx(float((after != before).float().mean()))
    assert matrices == pytest.approx(share, abs=0.16)  # as told in the notes, which count steps of either sign
    assert norms == 0.0
    assert weights.moved(rate, lambda values: values) == (pytest.approx(1.0, abs=1e-3), 1.0)


def test_the_panel_says_what_holds_for_each_trial(project):
    path = project.write(
        probe={"steps": 6},
        trials={
            "a": {"training.precision": "pure-bf16"},
            "b": {"data.sources.en.weight": 0, "training.warmup_steps": 3},
        },
    )
    weights = Weights(48, [(16, np.full(16, 0.6, np.float32))], [])
    rules = {rule.name: rule.values for rule in rules_of_thumb(expand(load_sweep(path)), weights)}
    assert rules["weights moved in a step"] == {"a": "0% of matrices", "b": "100% of matrices"}
    assert rules["update to weight"] == {"a": "1.7e-03", "b": "1.7e-03"}
    assert rules["tokens a parameter"] == {"a": "2 of 4", "b": "2 of 4"}  # 6 of 12 steps of 16 tokens over 48
    assert rules["replay"] == {"a": "30% en", "b": "0%"}
    assert rules["warm-up"] == {"a": "67%", "b": "50%"}
