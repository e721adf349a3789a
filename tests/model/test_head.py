"""The stand-in for an output layer, and which layers it may stand in for."""

import pytest
import torch
from torch import nn

from tsugiki.model.head import replaced_head, why_not_linear


def test_stand_in_is_taken_away_even_after_an_error() -> None:
    head = nn.Linear(2, 3)
    with pytest.raises(ZeroDivisionError), replaced_head(head, lambda hidden: 1 / 0):
        head(torch.ones(2))
    assert head(torch.ones(2)).shape == (3,)


def test_only_a_plain_linear_layer_counts_as_linear() -> None:
    class Lora(nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden) + 1

    assert why_not_linear(nn.Linear(2, 3)) is None
    assert "Lora" in str(why_not_linear(Lora(2, 3)))
    assert "Sequential" in str(why_not_linear(nn.Sequential(nn.Linear(2, 3))))
    assert why_not_linear(None) is not None
