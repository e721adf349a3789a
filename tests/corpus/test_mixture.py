"""The order of data keeps the contract: pure, exact shares, nothing moves what came before."""

import json
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.apportionment import WEIGHT_DENOMINATOR
from tsugiki.corpus.mixture import RULE_VERSION, Mixture, MixtureStage, order_conflict
from tsugiki.corpus.permutation import mix, permute
from tsugiki.errors import DataError, RecipeError

GOLDEN = Path(__file__).with_name("golden_order.txt")
WINDOWS = {"ja": 61, "en": 17, "math": 5, "watched": 9}
STAGES = [
    MixtureStage(0, {"ja": 70, "en": 20, "math": 10, "watched": 0}),
    MixtureStage(137, {"ja": 5, "en": 0, "math": 1, "watched": 2}),
    MixtureStage(400, {"ja": 78, "en": 2}),
]

sizes = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40), min_size=2, max_size=6)


@st.composite
def mixtures(draw) -> Mixture:
    """Mixtures of 2 to 6 sources with 1 to 4 stages; weights add up to 20, so that periods end and epochs pass."""
    windows = draw(sizes)
    weights = st.lists(st.sampled_from(sorted(windows)), min_size=20, max_size=20).map(Counter)
    starts = sorted(draw(st.sets(st.integers(1, 300), max_size=3)))
    stages = [MixtureStage(start, draw(weights)) for start in [0, *starts]]
    return Mixture(draw(st.integers(0, 2**32)), windows, stages)


def rows(mixture: Mixture, samples) -> list[tuple]:
    """(stage, source name, epoch, window) of samples."""
    drawn = mixture.locate(samples)
    return [
        (int(stage), mixture.names[source], int(epoch), int(window))
        for stage, source, epoch, window in zip(drawn.stage, drawn.source, drawn.epoch, drawn.window, strict=True)
    ]


def of_source(located: list[tuple], name: str) -> list[tuple]:
    """(epoch, window) of one source in the order of drawing."""
    return [(epoch, window) for _, source, epoch, window in located if source == name]


@settings(deadline=None, max_examples=30)
@given(mixtures())
def test_each_epoch_of_a_source_is_each_of_its_windows_once(mixture):
    located = rows(mixture, np.arange(600))
    for name, count in mixture.windows.items():
        drawn = of_source(located, name)
        for epoch in range(len(drawn) // count):
            part = drawn[epoch * count : (epoch + 1) * count]
            assert sorted(part) == [(epoch, window) for window in range(count)]


@settings(deadline=None, max_examples=30)
@given(mixtures())
def test_in_each_stage_each_source_is_less_than_a_window_from_its_share_at_every_prefix(mixture):
    located = mixture.locate(np.arange(600))
    for stage, weights in enumerate(mixture.weights):
        inside = located.source[located.stage == stage]
        seats = np.arange(1, len(inside) + 1)
        for index, name in enumerate(mixture.names):
            fair = seats * weights[name] / WEIGHT_DENOMINATOR
            assert np.all(np.abs(np.cumsum(inside == index) - fair) < 1)
            if weights[name] == 0:
                assert index not in inside


@settings(deadline=None, max_examples=40)
@given(mixtures(), st.integers(0, 500))
def test_draws_before_a_sample_are_counted_without_going_through_them(mixture, sample):
    counted = Counter(source for _, source, _, _ in rows(mixture, np.arange(sample)))
    assert mixture.drawn_before(sample) == {name: counted[name] for name in mixture.names}


@settings(deadline=None, max_examples=30)
@given(mixtures(), st.integers(1, 7), st.integers(1, 60), st.randoms(use_true_random=False))
def test_any_cut_into_ranks_and_batches_reads_the_same_samples(mixture, world, batch, random):
    whole = dict(zip(range(420), rows(mixture, np.arange(420)), strict=True))
    parts = [np.arange(rank, 420, world) for rank in range(world)]
    random.shuffle(parts)
    for part in parts:
        for start in range(0, len(part), batch):
            chosen = part[start : start + batch]
            assert rows(mixture, chosen) == [whole[int(sample)] for sample in chosen]
    backwards = np.arange(420)[::-1]
    assert rows(mixture, backwards) == [whole[int(sample)] for sample in backwards]


def test_processes_that_never_met_agree(tmp_path):
    # Nothing in the order may depend on the process, such as Python's own randomised hash of strings.
    import subprocess
    import sys

    program = (
        "import numpy as np; from tsugiki.corpus.mixture import *;"
        "d = Mixture(3, {'日本語': 50, 'en': 20}, [MixtureStage(0, {'日本語': 2, 'en': 1})]).locate(np.arange(200));"
        "print(d.window.tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "src", "PYTHONUTF8": "1"},
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    here = Mixture(3, {"en": 20, "日本語": 50}, [MixtureStage(0, {"en": 1, "日本語": 2})]).locate(np.arange(200))
    assert outputs == {f"{here.window.tolist()}\n"}


@settings(deadline=None, max_examples=30)
@given(mixtures(), st.data())
def test_a_stage_changes_nothing_before_it(mixture, data):
    last = int(mixture.describe()["stages"][-1]["start_sample"])
    start = data.draw(st.integers(last + 1, last + 300))
    # The new stage may bring a new source along, with weight 0 until then.
    windows = mixture.windows | {"_new": 7}
    stages = [MixtureStage(s["start_sample"], s["weights"]) for s in mixture.describe()["stages"]]
    changed = Mixture(mixture.seed, windows, [*stages, MixtureStage(start, {"_new": 3, min(mixture.windows): 1})])
    assert rows(changed, np.arange(start)) == rows(mixture, np.arange(start))
    after = rows(changed, np.arange(start, start + 40))
    assert {name for _, name, _, _ in after} == {"_new", min(mixture.windows)}
    # Counts are carried over the border: the next draw of the old source follows on its last.
    old = min(mixture.windows)
    continued = of_source(rows(changed, np.arange(start + 40)), old)
    undisturbed = [draw_of(mixture, old, number) for number in range(len(continued))]
    assert continued == undisturbed


def draw_of(mixture: Mixture, name: str, number: int) -> tuple[int, int]:
    """(epoch, window) of draw `number` of a source that is alone in the world."""
    alone = Mixture(mixture.seed, {name: mixture.windows[name]}, [MixtureStage(0, {name: 1})])
    return rows(alone, [number])[0][2:]


@settings(deadline=None, max_examples=30)
@given(mixtures(), st.sampled_from([(50_000, 50_000), (20_000, 80_000), (300_000, 0)]))
def test_other_sources_and_weights_never_change_the_kth_draw_of_a_source(mixture, added):
    windows = mixture.windows | {"_first": 3, "zz_last": 11}
    stages = [
        MixtureStage(stage["start_sample"], stage["weights"] | dict(zip(("_first", "zz_last"), added, strict=True)))
        for stage in mixture.describe()["stages"]
    ]
    before, after = rows(mixture, np.arange(300)), rows(Mixture(mixture.seed, windows, stages), np.arange(300))
    for name in mixture.names:
        one, other = of_source(before, name), of_source(after, name)
        common = min(len(one), len(other))
        assert one[:common] == other[:common]


def test_lengthening_is_no_change_since_no_length_enters():
    mixture = Mixture(5, WINDOWS, STAGES)
    assert rows(mixture, np.arange(10_000))[:1000] == rows(mixture, np.arange(1000))
    assert rows(mixture, [10**12])[0][0] == 2


def test_the_order_of_sources_in_a_file_does_not_matter():
    turned = Mixture(
        5,
        dict(reversed(WINDOWS.items())),
        [MixtureStage(s.start_sample, dict(reversed(s.weights.items()))) for s in STAGES],
    )
    assert rows(turned, np.arange(700)) == rows(Mixture(5, WINDOWS, STAGES), np.arange(700))
    assert turned.names == ("en", "ja", "math", "watched")


def test_seed_name_and_epoch_each_give_another_shuffle():
    def order(seed: int, name: str, epoch: int) -> list[int]:
        mixture = Mixture(seed, {name: 1000}, [MixtureStage(0, {name: 1})])
        return mixture.locate(np.arange(epoch * 1000, (epoch + 1) * 1000)).window.tolist()

    # Neighbouring seeds and epochs, and names that run together ("1", "2a") and ("12", "a").
    cases = [(1, "2a", 0), (1, "2a", 1), (2, "2a", 0), (12, "a", 0), (1, "a", 0), (0, "2a", 1)]
    orders = [order(*case) for case in cases]
    for index, one in enumerate(orders):
        for other in orders[:index]:
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 10  # one expected by chance


def test_a_window_follows_from_seed_name_and_epoch_by_the_written_rule():
    mixture = Mixture(5, WINDOWS, STAGES)
    drawn = mixture.locate(np.arange(700))
    for source, epoch, window, draw in zip(drawn.source, drawn.epoch, drawn.window, drawn.draw, strict=True):
        name = mixture.names[source]
        count = WINDOWS[name]
        text = f'["tsugiki data order", 5, "{name}"]'
        key = mix(np.array([xxhash.xxh3_64_intdigest(text.encode())], dtype=np.uint64), [draw // count])
        assert (epoch, window) == (draw // count, permute(key, count, [draw % count])[0])


def test_the_order_is_the_one_that_was_published():
    """A change of this order breaks every checkpoint: it needs a new RULE_VERSION and a new file."""
    header, *lines = GOLDEN.read_text().splitlines()
    golden = json.loads(header)
    assert golden["rule_version"] == RULE_VERSION
    mixture = Mixture(
        golden["seed"],
        golden["windows"],
        [MixtureStage(stage["start_sample"], stage["weights"]) for stage in golden["stages"]],
    )
    expected = [(name, int(epoch), int(window)) for name, epoch, window in (line.split() for line in lines)]
    assert len(expected) == 1000
    assert [row[1:] for row in rows(mixture, np.arange(1000))] == expected


def test_the_plan_says_what_a_run_takes_from_each_source():
    plan = {entry.name: entry for entry in Mixture(5, WINDOWS, STAGES[:1]).plan(1000)}
    assert {name: (entry.samples, entry.share) for name, entry in plan.items()} == {
        "ja": (700, 0.7), "en": (200, 0.2), "math": (100, 0.1), "watched": (0, 0.0),
    }  # fmt: skip
    assert plan["ja"].epochs == pytest.approx(700 / 61)
    assert plan["math"].epochs == 20


def test_reading_a_source_more_often_than_allowed_is_refused_with_the_remedy():
    mixture = Mixture(5, WINDOWS, STAGES[:1], {"ja": 2, "en": None, "math": 1.5})
    mixture.check(70)  # 7 of 5 windows are drawn: 1.4 epochs
    with pytest.raises(DataError, match=r"data\.sources\.math.*1\.60 times \(8 windows of 5\).*max_epochs 1\.5"):
        mixture.check(80)
    with pytest.raises(DataError, match=r"(?s)sources\.ja.*at most 12\.20%.*sources\.math"):
        mixture.check(1000)
    exact = Mixture(5, {"a": 10}, [MixtureStage(0, {"a": 1})], {"a": 3})
    exact.check(30)
    with pytest.raises(DataError):
        exact.check(31)


def test_what_is_stepped_over_counts_as_drawn():
    stages = [MixtureStage(0, {"a": 1, "b": 1}), MixtureStage(12, {"b": 1})]
    whole, stepping = (Mixture(5, {"a": 10, "b": 10}, stages, {"a": 0.6}, skip) for skip in ([], [[8, 10], [2, 5]]))
    numbers = stepping.sample_numbers(range(9))
    assert numbers.tolist() == [0, 1, 5, 6, 7, 10, 11, 12, 13]
    assert rows(stepping, numbers) == [row for g, row in enumerate(rows(whole, range(14))) if g not in (2, 3, 4, 8, 9)]
    assert {plan.name: (plan.samples, plan.share) for plan in stepping.plan(9)} == {"a": (6, 6 / 14), "b": (8, 8 / 14)}
    assert [stepping.stage_of(number) for number in (0, 11, 12, 99)] == [0, 0, 1, 1]
    stepping.check(9)
    allowed = Mixture(5, {"a": 10, "b": 10}, stages[:1], {"a": 0.6})
    allowed.check(12)
    with pytest.raises(DataError, match=r"sources\.a: .* 0\.70 times .* to at most 46\.15%"):
        Mixture(5, {"a": 10, "b": 10}, stages[:1], {"a": 0.6}, [[3, 4]]).check(12)


def test_an_empty_source_may_be_watched_but_not_drawn():
    mixture = Mixture(1, {"a": 3, "empty": 0}, [MixtureStage(0, {"a": 1, "empty": 0})])
    assert {name for _, name, _, _ in rows(mixture, np.arange(20))} == {"a"}
    assert mixture.plan(20)[1].epochs == 0
    with pytest.raises(DataError, match="empty: too little text"):
        Mixture(1, {"a": 3, "empty": 0}, [MixtureStage(0, {"a": 1}), MixtureStage(9, {"empty": 1})])


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([], "start at sample 0"),
        ([MixtureStage(5, {"a": 1})], "start at sample 0"),
        ([MixtureStage(0, {"a": 1}), MixtureStage(8, {"a": 1}), MixtureStage(8, {"b": 1})], "order of their start"),
        ([MixtureStage(0, {"a": 1, "c": 1})], "c, which is no source"),
        ([MixtureStage(0, {"a": 1}), MixtureStage(8, {"a": 0})], "all zero"),
    ],
)
def test_impossible_stages_are_refused(stages, said):
    with pytest.raises(RecipeError, match=said):
        Mixture(1, {"a": 3, "b": 4}, stages)


def test_negative_samples_are_refused_and_none_is_fine():
    mixture = Mixture(1, {"a": 3}, [MixtureStage(0, {"a": 1})])
    with pytest.raises(ValueError, match="start at 0"):
        mixture.locate([3, -1])
    assert rows(mixture, []) == []


def test_a_recipe_gives_steps_where_the_mixture_has_samples():
    source = SimpleNamespace
    recipe = SimpleNamespace(
        seed=5,
        data=SimpleNamespace(
            sequence_length=8,
            sources={
                "b": source(weight=3.0, max_epochs=None),
                "a": source(weight=1.0, max_epochs=1.5),
                "later": source(weight=0.0, max_epochs=None),
            },
            stages=[SimpleNamespace(start_step=10, weights={"b": 0, "a": 0, "later": 1})],
            skip=[[7, 9]],
        ),
        training=SimpleNamespace(global_batch_size=6),
    )
    stores = {name: SimpleNamespace(window_count=lambda length: 100 * length) for name in recipe.data.sources}
    mixture = Mixture.from_recipe(recipe, stores)
    assert mixture.windows == {"a": 800, "b": 800, "later": 800}
    assert mixture.drawn_before(60) == {"a": 15, "b": 45, "later": 0}
    assert mixture.drawn_before(70) == {"a": 15, "b": 45, "later": 10}
    assert mixture.max_epochs["a"] == 1.5
    assert mixture.skip == ((7, 9),)
    assert Mixture.from_recipe(recipe, stores, [(8, 12), (20, 21)]).skip == ((7, 12), (20, 21))


def test_only_changes_of_samples_already_drawn_are_in_conflict():
    old = Mixture(5, WINDOWS, STAGES).describe()
    assert json.loads(json.dumps(old)) == old

    def conflict(consumed: int, seed: int = 5, windows: dict = WINDOWS, stages: list = STAGES) -> str | None:
        return order_conflict(old, Mixture(seed, windows, stages).describe(), consumed)

    later = [*STAGES, MixtureStage(1000, {"new": 1})]
    assert conflict(1000, windows=WINDOWS | {"new": 4}, stages=later) is None
    assert "weights" in (conflict(1001, windows=WINDOWS | {"new": 4}, stages=later) or "")
    # 400 samples drawn: the stage that starts at 400 may still change, and what it alone draws from too.
    assert conflict(400, stages=STAGES[:2]) is None
    assert "weights" in (conflict(401, stages=STAGES[:2]) or "")
    assert conflict(137, windows=WINDOWS | {"watched": 10}) is None
    assert "watched has 10 windows and had 9" in (conflict(138, windows=WINDOWS | {"watched": 10}) or "")
    assert "seed" in (conflict(1, seed=6) or "")
    stepping = Mixture(5, WINDOWS, STAGES, skip=[[30, 40]]).describe()
    assert json.loads(json.dumps(stepping)) == stepping
    assert order_conflict(old, stepping, 30) is order_conflict(stepping, old, 30) is None
    for one, other in ((old, stepping), (stepping, old)):
        assert "stepped over" in (order_conflict(one, other, 31) or "")
    assert order_conflict(stepping, Mixture(5, WINDOWS, STAGES, skip=[[30, 40], [51, 60]]).describe(), 41) is None
    shortened = Mixture(5, WINDOWS, STAGES[:1], skip=[[30, 40]]).describe()
    assert order_conflict(stepping, shortened, 127) is None  # the next stage begins after 127 that are read
    assert "weights" in (order_conflict(stepping, shortened, 128) or "")
    without = {key: value for key, value in old.items() if key != "skip"}  # as it was written before there were ranges
    assert order_conflict(without, old, 500) is None
    assert "version" in (order_conflict(old | {"rule_version": 0}, old, 0) or "")


def test_looking_up_a_thousand_samples_takes_about_a_millisecond():
    windows = dict(zip("abcdefgh", [17_000_000, 300_000, 1000, 2**20 + 1, 5_000_000, 70, 10**8, 12_345], strict=True))
    mixture = Mixture(1, windows, [MixtureStage(0, {name: 1.5 + index for index, name in enumerate(windows)})])
    times = []
    for start in range(0, 20_480, 1024):
        begun = time.perf_counter()
        mixture.locate(np.arange(start, start + 1024))
        times.append(time.perf_counter() - begun)
    # About 1.3 ms on a 2023 server core; the bound leaves room for a loaded machine.
    assert min(times) < 0.010
