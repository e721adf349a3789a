"""Held-out loss of conversations: of the text that the model is to write, and of where it is to stop.

Each conversation is scored alone and whole, by the masks of training: only what a loss weight makes a target counts.
Text and the end of an answer are told apart, since they are learnt at another pace and bits per byte are about text;
whether a model stops is asked directly, by the probability that it gives the end token where an answer really ends, and
where it goes on (falsely). Conversations are padded on the right: attention is causal, so padding changes nothing.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from tsugiki.corpus.windows import IGNORE, shift
from tsugiki.model.bits_per_byte import Window, add_up, plan_batches, plan_windows
from tsugiki.model.loss import TrainingModel


@dataclass(frozen=True)
class ConversationScores:
    """Sums for each conversation [n], float64; what is named a probability is a sum of probabilities."""

    nats: NDArray[np.float64]  # of all trained tokens
    tokens: NDArray[np.float64]  # how many these are
    text_nats: NDArray[np.float64]  # of those among them that are text: control tokens left out
    text_tokens: NDArray[np.float64]
    end_probability: NDArray[np.float64]  # of the end token, where it is the target
    ends: NDArray[np.float64]  # how many such places there are
    false_end_probability: NDArray[np.float64]  # of the end token, where another token is the target
    insides: NDArray[np.float64]  # how many such places there are


def score_conversations(
    model: TrainingModel,
    conversations: Sequence[tuple[NDArray[np.integer], NDArray[np.floating]]],
    *,
    end_id: int,
    control_ids: Collection[int],
    batch_tokens: int = 8192,
    group: dist.ProcessGroup | None = None,
    stop: Callable[[], bool] | None = None,
) -> ConversationScores | None:
    """Score conversations: ids, and the loss weight of each token as a target. Collective over all processes.

    Every rank passes the same conversations and gets all scores; `group` (gloo) adds them up, None is the default
    group. `end_id` ends an answer; it and `control_ids` are no text. `stop` is asked before each round of batches and
    must answer alike on all ranks; once true, None is returned.
    """
    lengths = [len(ids) for ids, _ in conversations]
    batches = plan_batches(plan_windows(lengths, max([2, *lengths])), batch_tokens)  # a window each
    device = next(model.hf.parameters()).device
    control = torch.tensor(sorted({end_id, *control_ids}))

    def score(windows: Sequence[Window]) -> Tensor:
        inputs, targets = _padded([conversations[window.document] for window in windows])
        scored = targets != IGNORE
        there = inputs.to(device, non_blocking=True)
        losses = model(there, targets).token_losses.double().cpu()
        of_end = model(there, torch.where(scored, end_id, IGNORE)).token_losses.double().cpu()
        text, ends = scored & ~torch.isin(targets, control), targets == end_id
        insides = scored & ~ends
        parts = (losses * scored, scored, losses * text, text, torch.exp(-losses) * ends, ends,
                 torch.exp(-of_end) * insides, insides)  # fmt: skip
        return torch.stack([part.double().sum(1) for part in parts])

    sums = torch.zeros(8, len(conversations), dtype=torch.float64)
    return ConversationScores(*sums.numpy()) if add_up(sums, model, batches, score, group, stop) else None


def _padded(conversations: Sequence[tuple[NDArray[np.integer], NDArray[np.floating]]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets [rows, longest], padded on the right; one ignored token where there is no conversation."""
    longest = max((len(ids) - 1 for ids, _ in conversations), default=1)
    inputs = torch.zeros(max(len(conversations), 1), longest, dtype=torch.int64)
    targets = torch.full_like(inputs, IGNORE)
    for row, (ids, weights) in enumerate(conversations):
        own, wanted, _ = shift(np.asarray(ids, np.int64), np.asarray(weights))
        inputs[row, : len(own)], targets[row, : len(own)] = torch.from_numpy(own), torch.from_numpy(wanted)
    return inputs, targets
