"""The plan of what is computed once: every sequence is there, in rows whose masks say who its ancestors are."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.model.cached.prefixes import Prefix, PrefixPlan, Row, Sizes, common_length

Words = list[int]


@st.composite
def related_sequences(draw: st.DrawFn) -> list[Words]:
    """Sequences that begin with parts of each other, equal ones and beginnings of others among them."""
    tokens = st.lists(st.integers(0, 3), max_size=40)
    sequences: list[Words] = [draw(st.lists(st.integers(0, 3), min_size=1, max_size=120))]
    for _ in range(draw(st.integers(0, 12))):
        source = draw(st.sampled_from(sequences))
        kept = draw(st.integers(0, len(source)))
        sequences.append((source[:kept] + draw(tokens)) or [1])
    return sequences


def prefixes(prefix: Prefix) -> Iterator[Prefix]:
    yield prefix
    for child in prefix.children:
        assert child.begin == prefix.end < child.end
        yield from prefixes(child)


def plan_of(sequences: list[Words], row_tokens: int, least_gain: int | None = None) -> PrefixPlan:
    """A plan in which prefixes are split off wherever they save `least_gain` tokens: short random sequences would
    hardly ever make one worth while."""
    if least_gain is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tsugiki.model.cached.prefixes.LEAST_GAIN", least_gain)
            patch.setattr("tsugiki.model.cached.prefixes.SHORTEST", 1)
            return plan_of(sequences, row_tokens)
    limits = [max(0, len(tokens) - 2) for tokens in sequences]
    return PrefixPlan([np.array(tokens, dtype=np.int64) for tokens in sequences], limits, row_tokens)


def all_rows(plan: PrefixPlan) -> list[tuple[Prefix, Row]]:
    one_row = Sizes(1, 1, 1)
    return [
        (prefix, row)
        for prefix in prefixes(plan.root)
        for (row,) in plan.batches(prefix.followers, prefix.end, one_row)
    ]


def computed(plan: PrefixPlan) -> int:
    """Tokens that go through a model."""
    return sum(one.end - one.begin for one in prefixes(plan.root)) + sum(len(row) for _, row in all_rows(plan))


@settings(deadline=None, max_examples=200)
@given(related_sequences(), st.integers(1, 60), st.sampled_from([1, 20, 60]))
def test_every_sequence_is_spelt_out_once_by_a_prefix_and_the_columns_of_a_row(
    sequences: list[Words], row_tokens: int, least_gain: int
) -> None:
    plan = plan_of(sequences, row_tokens, least_gain)
    seen = []
    for prefix, row in all_rows(plan):
        longest = 0
        for i, columns in row.columns.items():
            seen.append(i)
            assert prefix.end <= max(0, len(sequences[i]) - 2)
            assert sequences[i][: prefix.end] == sequences[prefix.example][: prefix.end]
            assert sequences[i] == sequences[prefix.example][: prefix.end] + row.tokens[columns].tolist()
            assert row.positions[columns].tolist() == list(range(prefix.end, len(sequences[i])))
            longest = max(longest, len(columns))
        assert len(row) <= max(row_tokens, longest)
    assert sorted(seen) == list(range(len(sequences)))


@settings(deadline=None, max_examples=200)
@given(related_sequences(), st.integers(1, 60), st.sampled_from([1, 20, 60]))
def test_a_token_sees_its_ancestors_alone(sequences: list[Words], row_tokens: int, least_gain: int) -> None:
    for _, row in all_rows(plan_of(sequences, row_tokens, least_gain)):
        ancestors = {
            int(column): set(columns[: place + 1].tolist())
            for columns in row.columns.values()
            for place, column in enumerate(columns)
        }
        assert sorted(ancestors) == list(range(len(row)))
        for column, expected in ancestors.items():
            visible = (
                set(range(column + 1)) if row.visible is None else set(np.flatnonzero(row.visible[column]).tolist())
            )
            assert visible == expected
            assert max(visible) == column


def test_examples_before_all_questions_are_computed_once() -> None:
    rng = np.random.default_rng(0)
    examples = rng.integers(0, 10**6, 600).tolist()
    questions = [rng.integers(0, 10**6, 50).tolist() for _ in range(30)]
    plan = plan_of([examples + question for question in questions], row_tokens=512)
    assert [(one.begin, one.end) for one in plan.root.children] == [(0, 600)]
    assert computed(plan) == 600 + 30 * 50


def test_prefixes_nest() -> None:
    """Two tasks that begin alike, and in one of them a paragraph with many questions."""
    rng = np.random.default_rng(1)
    common, first, second, paragraph = (rng.integers(0, 10**6, size).tolist() for size in (200, 300, 400, 900))
    sequences = [
        common + middle + rng.integers(0, 10**6, 40).tolist()
        for middle in (first, second, second + paragraph)
        for _ in range(30)
    ]
    plan = plan_of(sequences, row_tokens=512)
    assert sorted((one.begin, one.end) for one in prefixes(plan.root)) == [
        (0, 0), (0, 200), (200, 500), (200, 600), (600, 1500),
    ]  # fmt: skip
    assert computed(plan) == 200 + 300 + 400 + 900 + 90 * 40


def test_endings_of_one_context_share_a_row_and_no_prefix_is_made_of_them() -> None:
    rng = np.random.default_rng(2)
    sequences = []
    for _ in range(5):
        context = rng.integers(0, 10**6, 80).tolist()
        sequences += [context + rng.integers(0, 10**6, 20).tolist() for _ in range(4)]
    plan = plan_of(sequences, row_tokens=512)
    assert not plan.root.children
    assert computed(plan) == 5 * (80 + 4 * 20)
    assert len(all_rows(plan)) == 2


def test_batches_keep_to_their_sizes() -> None:
    rng = np.random.default_rng(3)
    plan = plan_of([rng.integers(0, 10**6, size).tolist() for size in range(10, 60)], row_tokens=1)
    for sizes in (Sizes(200, 200, 1), Sizes(400, 130, 1), Sizes(1, 1, 1)):
        batches = list(plan.batches(plan.order, 0, sizes))
        assert sorted(i for batch in batches for row in batch for i in row.columns) == list(range(50))
        for batch in batches:
            size = len(batch) * max(map(len, batch))
            assert len(batch) == 1 or size <= min(sizes.batch, sizes.computed)
    assert len(list(plan.batches(plan.order, 0, Sizes(200, 200, 1)))) < 25


def test_common_length() -> None:
    assert common_length(np.array([1, 2, 3]), np.array([1, 2, 4, 5])) == 2
    assert common_length(np.array([1, 2]), np.array([1, 2, 4])) == 2
    assert common_length(np.array([2]), np.array([1])) == 0
