"""Rows of new pieces against naive loops and against the distributions that they are said to follow."""

import numpy as np
import pytest
import torch

from tsugiki.errors import ModelError
from tsugiki.vocabulary import rows as module
from tsugiki.vocabulary.rows import new_rows

METHODS = ["mean", "normal", "random"]


def trained_rows(count: int = 300, width: int = 24, seed: int = 1) -> torch.Tensor:
    """Rows as a language model's are: correlated columns, of very different widths, not around zero."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) * torch.logspace(-2, 0.5, width)
    offset = 0.5 * torch.randn(width, generator=generator)
    return 0.02 * (torch.randn(count, width, generator=generator) @ mixing + offset)


def spelled(count: int, ids: int, seed: int = 2) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, ids, generator.integers(1, 7)).tolist() for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_mean_rows_are_means_of_the_old_rows(dtype: torch.dtype) -> None:
    old = trained_rows().to(dtype)
    pieces = spelled(2500, len(old))  # several blocks
    made = new_rows(old, pieces, "mean", noise=0, seed=3, name="m")
    assert made.dtype == dtype
    assert made.shape == (2500, 24)
    exact = old.double().numpy()
    for row, piece in zip(made, pieces, strict=True):
        expected = np.zeros(24)
        for token in piece:
            expected += exact[token] / len(piece)
        half_a_step = torch.finfo(dtype).eps * np.abs(expected) / 2 + 1e-8
        assert (np.abs(row.double().numpy() - expected) <= half_a_step * 1.01 + 6e-8).all()


@pytest.mark.parametrize("noise", [1e-3, 0.5])
def test_noise_has_the_asked_share_of_each_columns_deviation(noise: float) -> None:
    old = trained_rows()
    pieces = spelled(5000, len(old))
    added = new_rows(old, pieces, "mean", noise=noise, seed=3, name="m").double()
    added -= new_rows(old, pieces, "mean", noise=0, seed=3, name="m").double()
    share = added.numpy() / (noise * old.double().numpy().std(axis=0))
    assert np.abs(share.std(axis=0) - 1).max() < 0.05
    assert np.abs(share.mean(axis=0)).max() < 0.06
    assert np.abs(np.corrcoef(share.T) - np.eye(24)).max() < 0.08


def test_without_noise_pieces_of_the_same_bytes_have_equal_rows() -> None:
    old = trained_rows().bfloat16()
    made = new_rows(old, [[7, 8, 9], [8, 9, 7]], "mean", noise=0, seed=0, name="m")
    assert torch.equal(made[0], made[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_noise_separates_pieces_of_the_same_bytes_in_every_dtype(dtype: torch.dtype) -> None:
    old = trained_rows(64, 576).to(dtype)  # the width of the smallest model that anyone extends
    pieces = [[first, second, third] for first in range(3) for second in range(10, 30) for third in range(40, 50)]
    pieces += [[third, second, first] for first, second, third in pieces]
    made = new_rows(old, pieces, "mean", noise=1e-3, seed=0, name="m")
    assert len({row.view(torch.uint8).numpy().tobytes() for row in made}) == len(pieces) == 1200
    moved = (made[:600] != made[600:]).float().mean()
    assert moved > 0.15  # that no two are equal is no luck


@pytest.mark.parametrize("block", [2048, 7])
def test_normal_rows_have_mean_and_covariance_of_the_old_rows(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_ROWS", block)
    old = trained_rows(100, 5)
    made = new_rows(old, [[0]] * 40_000, "normal", noise=0, seed=5, name="m").double().numpy()
    exact = old.double().numpy()
    deviation = exact.std(axis=0)
    assert np.abs((made.mean(axis=0) - exact.mean(axis=0)) / deviation).max() < 0.02
    scale = np.outer(deviation, deviation)
    assert np.abs((np.cov(made.T, bias=True) - np.cov(exact.T, bias=True)) / scale).max() < 0.03


def test_normal_works_where_the_covariance_has_no_full_rank() -> None:
    old = trained_rows(10, 64)
    made = new_rows(old, [[0]] * 50, "normal", noise=0, seed=5, name="m").double().numpy()
    centred = old.double().numpy() - old.double().numpy().mean(axis=0)
    _, values, directions = np.linalg.svd(centred)
    outside = (made - old.double().numpy().mean(axis=0)) @ directions[9:].T  # ten centred rows span nine directions
    assert values[9] < 1e-6
    assert np.abs(outside).max() < 1e-6
    assert np.isfinite(made).all()


def test_random_rows_have_the_deviation_of_all_old_entries_around_zero() -> None:
    old = trained_rows() + 0.1 * torch.randn(24, generator=torch.Generator().manual_seed(3))
    made = new_rows(old, [[0]] * 3000, "random", noise=0, seed=5, name="m")
    assert made.mean().abs() < 0.01 * old.std()
    assert torch.isclose(made.std(), old.std(), rtol=0.01)
    assert (made.std(dim=0) / old.std() - 1).abs().max() < 0.06  # every column alike


@pytest.mark.parametrize("method", METHODS)
def test_random_numbers_come_from_seed_and_name_alone(method: str) -> None:
    old, pieces = trained_rows().bfloat16(), spelled(1100, 300)

    def make(seed: int, name: str) -> torch.Tensor:
        torch.manual_seed(torch.randint(1000, ()).item())
        return new_rows(old, pieces, method, noise=1e-2, seed=seed, name=name)

    first = make(1, "input")
    assert torch.equal(first, make(1, "input"))
    for other in (make(2, "input"), make(1, "output")):
        assert (first != other).any(dim=1).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_bias_is_a_matrix_of_one_column(method: str) -> None:
    bias = torch.linspace(-1, 1, 50)[:, None]
    made = new_rows(bias, [[0, 49], [3]], method, noise=0, seed=0, name="bias")
    assert made.shape == (2, 1)
    if method == "mean":
        assert torch.allclose(made[:, 0], torch.tensor([0.0, bias[3].item()]), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_matrix_is_refused(method: str) -> None:
    old = trained_rows()
    old[5, 2] = torch.nan
    with pytest.raises(ModelError, match=r"lm_head\.weight holds NaN"):
        new_rows(old, [[1, 2]], method, noise=0, seed=0, name="lm_head.weight")


@pytest.mark.parametrize("piece", [[], [0, -1], [300]])
def test_a_piece_must_be_spelled_by_rows_in_use(piece: list[int]) -> None:
    with pytest.raises(ValueError, match="0 to 299 are in use"):
        new_rows(trained_rows(), [[1], piece], "mean", noise=0, seed=0, name="m")


def test_no_pieces_make_no_rows() -> None:
    assert new_rows(trained_rows(), [], "mean", noise=0, seed=0, name="m").shape == (0, 24)
