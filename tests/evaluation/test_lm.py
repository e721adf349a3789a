"""Answers of tiny random models against a plain loop over Hugging Face logits, one request at a time."""

import json
import shutil

import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Naive, Quiet, join_folders, open_lm
from lm_eval.api.instance import Instance
from small_bases import gemma_like

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.evaluation.lm import Traits

ARCHITECTURES = ["mistral", "llama", "qwen3", "gemma2", "gemma3", "mixtral"]
CONTEXTS = [
    "A river remembers the valley that it made. ",
    "川は自分が作った谷を覚えていて、",
    "Question: When 12 is divided by 4, what is the answer?\nAnswer:",
    "A",
]
CONTINUATIONS = [" The valley", "谷もまた川を覚えている。", " 3", "\n0"]
PAIRS = [(context, continuation) for context in CONTEXTS for continuation in CONTINUATIONS]


def asked(kind, *arguments, doc=None, task="made_up"):
    """Requests as lm-eval makes them; an item each."""
    return [
        Instance(kind, doc or {"id": f"item {number}"}, one, number, (task, number, 1))
        for number, one in enumerate(arguments)
    ]


def scores(lm, pairs=PAIRS):
    return lm.loglikelihood(asked("loglikelihood", *pairs))


def texts(lm, prompts=CONTEXTS, **settings):
    return lm.generate_until(asked("generate_until", *[(prompt, settings) for prompt in prompts]))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probabilities_equal_a_plain_loop(name, language_model, tmp_path):
    folder = language_model(name)
    naive = Naive(folder)
    with open_lm(folder, tmp_path) as lm:
        found = scores(lm)
    expected = [naive.logprob(*pair) for pair in PAIRS]
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert len({round(one, 2) for one, _ in found}) > 10  # they differ, so that an exchange would show


def test_greedy_continuations_are_called_greedy(language_model, tmp_path):
    naive = Naive(language_model())
    pairs = []
    for context in CONTEXTS[1:]:
        ids = naive.encode(context)
        while (text := naive.tokenizer.decode([*ids, *naive.new_tokens(ids, 2)])[len(context) :]).endswith("\ufffd"):
            ids += naive.encode("a")
            context += "a"
        if naive.encode(context + text)[len(ids) :] == naive.new_tokens(ids, 2):
            pairs.append((context, text))
    assert pairs
    with open_lm(language_model(), tmp_path) as lm:
        assert [greedy for _, greedy in scores(lm, pairs)] == [True] * len(pairs)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_generation_equals_a_plain_loop_cut_at_stop_strings(name, language_model, tmp_path):
    folder = language_model(name)
    naive = Naive(folder)
    whole = [naive.text(prompt, 14) for prompt in CONTEXTS]
    # Stop strings that really come: the middle of two of the outputs, found in text and not in tokens.
    until = ["never written", whole[0][4:6], whole[1][5:8]]
    assert all(until)
    with open_lm(folder, tmp_path) as lm:
        found = texts(lm, until=until, max_gen_toks=14)
        assert texts(lm, until=[], max_gen_toks=14) == whole
        ended = [lm.recorded(one)["ended"] for one in asked("generate_until", *[
            (prompt, {"until": until, "max_gen_toks": 14}) for prompt in CONTEXTS
        ])]  # fmt: skip
    assert found == [naive.text(prompt, 14, until) for prompt in CONTEXTS]
    assert len(found[0]) <= 4
    assert len(found[1]) <= 5
    assert ended[:2] == ["stop", "stop"]
    assert all(reason != "stop" for reason, text, all_of in zip(ended, found, whole, strict=True) if text == all_of)


def test_answers_end_at_every_end_token_of_the_configurations(language_model, tmp_path):
    naive = Naive(language_model())
    prompt = CONTEXTS[0]
    written = naive.new_tokens(naive.encode(prompt), 12)
    third = next(token for token in written[2:] if token not in written[:2])
    folder = tmp_path / "model"
    shutil.copytree(language_model(), folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, third]}))
    with open_lm(folder, tmp_path) as lm:
        (text,) = texts(lm, [prompt], until=[], max_gen_toks=12)
        (request,) = asked("generate_until", (prompt, {"until": [], "max_gen_toks": 12}))
        assert lm.recorded(request)["ended"] == "end"
        assert lm.recorded(request)["output_tokens"] == written.index(third)
    ids = naive.encode(prompt)
    whole = naive.tokenizer.decode([*ids, *written[: written.index(third)]])
    assert text == whole[len(prompt) :]


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_the_size_of_a_batch_changes_no_answer(name, language_model, tmp_path):
    found = []
    for size in (32, 8192):
        with open_lm(language_model(name), tmp_path / str(size), batch_tokens=size) as lm:
            found.append((scores(lm), texts(lm, until=["."], max_gen_toks=10)))
    (small, small_texts), (large, large_texts) = found
    assert [one for one, _ in small] == pytest.approx([one for one, _ in large], abs=1e-4)
    assert small_texts == large_texts


def test_bos_stands_before_every_prompt_where_it_is_added(language_model, tmp_path):
    folder = language_model()
    naive, without = Naive(folder, bos=1), Naive(folder)
    with open_lm(folder, tmp_path / "on", add_bos=True) as lm:
        found, written = scores(lm), texts(lm, until=[], max_gen_toks=8)
    expected = [naive.logprob(*pair)[0] for pair in PAIRS]
    assert [one for one, _ in found] == pytest.approx(expected, abs=1e-4)
    assert written == [naive.text(prompt, 8) for prompt in CONTEXTS]
    with open_lm(folder, tmp_path / "off") as lm:
        off = scores(lm)
    assert [one for one, _ in off] == pytest.approx([without.logprob(*pair)[0] for pair in PAIRS], abs=1e-4)
    assert max(abs(a - b[0]) for a, b in zip(expected, off, strict=True)) > 0.1


def test_an_answer_with_bos_is_not_taken_for_one_without(language_model, tmp_path):
    """One journal: a run with --add-bos after one without must ask anew."""
    with open_lm(language_model(), tmp_path) as lm:
        plain = scores(lm)
        count = len(lm.journal)
    with open_lm(language_model(), tmp_path, add_bos=True) as lm:
        assert scores(lm) != plain
        assert len(lm.journal) == 2 * count


def test_what_the_journal_knows_is_not_asked_again(language_model, tmp_path):
    with open_lm(language_model(), tmp_path) as lm:
        first = scores(lm, PAIRS[:6])
    before = (tmp_path / "journal.jsonl").read_bytes()
    with open_lm(language_model(), tmp_path) as lm:
        lm.engine = Refusing()
        assert scores(lm, PAIRS[:6]) == first
        with pytest.raises(AssertionError, match="asked 2"):
            scores(lm, PAIRS[:8])
    assert (tmp_path / "journal.jsonl").read_bytes() == before


class Refusing:
    """An engine that answers nothing."""

    def score(self, requests, done):
        raise AssertionError(f"asked {len(requests)}")

    generate = score


def test_the_same_question_twice_in_an_item_is_asked_once(language_model, tmp_path):
    with open_lm(language_model(), tmp_path) as lm:
        progress = Quiet()
        lm.on_begin, lm.on_advance = lambda requests, tokens: progress.begin("", requests, tokens), progress.advance
        requests = asked("loglikelihood", PAIRS[0], PAIRS[0], doc={"id": "one"})
        for request in requests:
            request.idx = 0
        first, second = lm.loglikelihood(requests)
        assert first == second
        assert progress.begun == [("", 1, progress.tokens)]


def test_progress_counts_every_token_that_it_announced(language_model, tmp_path):
    progress = Quiet()
    with open_lm(language_model(), tmp_path) as lm:
        lm.on_begin, lm.on_advance = lambda requests, tokens: progress.begin("", requests, tokens), progress.advance
        scores(lm)
        texts(lm, until=[], max_gen_toks=5)
    (_, requests, scored), (_, prompts, written) = progress.begun
    assert (requests, prompts) == (len(PAIRS), len(CONTEXTS))
    assert progress.tokens == scored + written
    naive = Naive(language_model())
    assert scored == sum(len(naive.encode(context + continuation)) for context, continuation in PAIRS)
    assert written == sum(len(naive.encode(prompt)) + 5 for prompt in CONTEXTS)


def test_records_count_tokens_of_prompt_and_answer(language_model, tmp_path):
    naive = Naive(language_model())
    with open_lm(language_model(), tmp_path) as lm:
        scores(lm, PAIRS[:1])
        answer = lm.recorded(asked("loglikelihood", PAIRS[0])[0])
    context, continuation = PAIRS[0]
    assert answer["prompt_tokens"] == len(naive.encode(context.rstrip()))
    assert answer["prompt_tokens"] + answer["output_tokens"] == len(naive.encode(context + continuation))


# Prompts and answers of limited length.


def test_a_prompt_that_is_too_long_loses_its_beginning_and_says_so(language_model, tmp_path):
    naive = Naive(language_model(), bos=1)
    text = " ".join(CONTEXTS) * 3
    ids = naive.encode(text)
    assert len(ids) > 100
    with open_lm(language_model(), tmp_path, add_bos=True, max_length=64) as lm:
        (written,) = texts(lm, [text], until=[], max_gen_toks=6)
        (request,) = asked("generate_until", (text, {"until": [], "max_gen_toks": 6}))
        answer = lm.recorded(request)
        ((scored, _),) = scores(lm, [(text, " 3")])
    kept = [1, *ids[-(64 - 6 - 1) :]]
    assert answer["prompt_tokens"] == len(kept) == 58
    assert answer["cut"] == 1 + len(ids) - 58
    decoded = naive.tokenizer.decode([*kept, *naive.new_tokens(kept, 6)], skip_special_tokens=False)
    assert written == decoded[len(naive.tokenizer.decode(kept, skip_special_tokens=False)) :]
    whole = naive.encode(text + " 3")
    continuation = whole[len(ids) :]
    kept = [1, *ids[-(64 - len(continuation)) :]]  # the last token of the continuation is no input
    logits = naive.logits([*kept, *continuation])[len(kept) - 1 : -1].log_softmax(-1)
    assert scored == pytest.approx(sum(float(logits[i, token]) for i, token in enumerate(continuation)), abs=1e-4)


def test_a_task_may_want_less_context_than_the_model_has(language_model, tmp_path):
    text = " ".join(CONTEXTS) * 3
    (request,) = asked("generate_until", (text, {"until": [], "max_gen_toks": 4}))
    with open_lm(language_model(), tmp_path) as lm:
        lm.begin(Traits(max_context=40))
        lm.generate_until([request])
        assert lm.recorded(request)["prompt_tokens"] == 36
        lm.begin(Traits(max_context=100_000))  # more than the model has
        lm.generate_until([request])
        assert "cut" not in lm.recorded(request)
        assert len(lm.journal) == 2


def test_a_rule_to_shorten_makes_the_prompt_and_the_journal_keeps_it(language_model, tmp_path):
    long = " ".join(CONTEXTS) * 3
    naive = Naive(language_model())
    told = []

    def rule(doc):
        told.append(doc)
        return CONTEXTS[0].rstrip()

    with open_lm(language_model(), tmp_path, max_length=64) as lm:
        lm.begin(Traits(shorten=rule))
        requests = asked("generate_until", *[(text, {"until": [], "max_gen_toks": 6}) for text in (long, CONTEXTS[3])])
        found = lm.generate_until(requests)
        first, second = (lm.recorded(request) for request in requests)
    assert told == [{"id": "item 0"}]  # the other one fits
    assert found[0] == naive.text(CONTEXTS[0].rstrip(), 6)
    assert first["prompt"] == CONTEXTS[0].rstrip()
    assert first["cut"] > 0
    assert "prompt" not in second
    assert "cut" not in second


@pytest.fixture
def bytes_model(tiny_model_folder, tmp_path):
    """A tokenizer with byte fallback: most Japanese characters are three tokens."""
    weights = tiny_model_folder("mistral", vocab_size=720, max_position_embeddings=512)
    return join_folders(tmp_path / "model", weights, gemma_like(tmp_path / "tokenizer"))


class Writing:
    """An engine that writes given tokens until it is told to stop."""

    def __init__(self, tokens):
        self.tokens = tokens

    def generate(self, requests, done):
        for number, request in enumerate(requests):
            new = []
            for token in self.tokens[: request.max_new_tokens]:
                new.append(token)
                if request.stop(new):
                    break
            done(number, new)


@pytest.mark.parametrize("budget", [1, 5, 12])
def test_a_budget_in_characters_is_met_whatever_a_character_takes(budget, bytes_model, tmp_path):
    answer = "鍬と籠と瓜を買い、市場の帰りに川を見た。"
    ids = TextTokenizer.from_folder(bytes_model).encode(answer)
    assert len(ids) > 2 * len(answer)  # byte by byte
    with open_lm(bytes_model, tmp_path) as lm:
        lm.engine = Writing(ids)
        lm.begin(Traits(max_characters=budget))
        # YAML's own budget, in tokens, would leave a third of it
        assert texts(lm, ["A"], until=["\n"], max_gen_toks=budget) == [answer[:budget]]
        (request,) = asked("generate_until", ("A", {"until": ["\n"], "max_gen_toks": budget}))
        assert lm.recorded(request)["ended"] == "characters"
        assert lm.recorded(request)["output_tokens"] == len(
            TextTokenizer.from_folder(bytes_model).encode(answer[:budget])
        )
        lm.begin(Traits())
        assert len(texts(lm, ["B"], until=["\n"], max_gen_toks=6)[0].rstrip("\ufffd")) == 2


# What cannot be asked.


@pytest.mark.parametrize("settings", [{"do_sample": True}, {"temperature": 0.7}, {"temperature": "0.7"}])
def test_a_task_that_samples_is_refused(settings, language_model, tmp_path):
    with (
        open_lm(language_model(), tmp_path) as lm,
        pytest.raises(RecipeError, match=r"made_up samples.*do_sample: false"),
    ):
        texts(lm, until=[], **settings)


def test_rolling_likelihoods_are_refused_with_what_to_use(language_model, tmp_path):
    with open_lm(language_model(), tmp_path) as lm, pytest.raises(RecipeError, match="--suite quick"):
        lm.loglikelihood_rolling(asked("loglikelihood_rolling", ("text",)))


def test_a_budget_that_fills_the_context_is_named(language_model, tmp_path):
    with (
        open_lm(language_model(), tmp_path, max_length=16) as lm,
        pytest.raises(ModelError, match=r"16 positions.*20 tokens.*no prompt fits"),
    ):
        texts(lm, until=[], max_gen_toks=20)
