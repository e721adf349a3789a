"""The suites' tasks through a chat template: the prompts that lm-eval's own backend makes, and what becomes of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Naive, Quiet
from lm_eval.evaluator import evaluate as evaluate_there
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from tsugiki.chat.conversations import Message
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, RecipeError
from tsugiki.evaluation import run
from tsugiki.evaluation.conversations import Budget, Chat
from tsugiki.evaluation.harness import Harness
from tsugiki.evaluation.instructions import asking, tasks
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.results import require_one_suite
from tsugiki.evaluation.run import Settings
from tsugiki.evaluation.suites import SUITES
from tsugiki.evaluation.table import make_table
from tsugiki.evaluation.table_forms import to_json
from tsugiki.evaluation.templated import Templated, TemplatedEncoder
from tsugiki.evaluation_files import MissingTask, ModelResult, read_records, read_results

TEMPLATE = (
    "{{- bos_token }}{% for m in messages %}[{{ m.role }}]\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}" + TEMPLATE


def with_template(folder: Path, template: str) -> Path:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture
def talking(language_model: Callable[..., Path], tmp_path: Path) -> Path:
    """A model with a chat template of its own."""
    return with_template(shutil.copytree(language_model(), tmp_path / "talking"), TEMPLATE)


def theirs(folder: Path) -> Any:
    """lm-eval's own backend, without weights: what renders there."""
    backend = HFLM.__new__(HFLM)
    backend.tokenizer, backend.chat_template_args = AutoTokenizer.from_pretrained(folder), {}
    return backend


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers: a tiny model never stops."""
    for module in (tasks, asking):
        monkeypatch.setattr(module, "BUDGETS", {name: Budget(9) for name in tasks.BUDGETS})


def evaluate(model: Path, data: Path, output: Path, names: list[str], **settings: Any) -> tuple[Path, ModelResult]:
    asked = Settings(tasks=names, data_dir=data, **{"limit": 2, "chat_template": True, **settings})
    ((folder, result),) = run.evaluate([find_model(str(model))], asked, output, lambda line: None, Quiet(), {})
    return folder, result


@pytest.mark.parametrize("multiturn", [True, False])
@pytest.mark.parametrize("suite", SUITES)
def test_every_prompt_is_the_one_of_lm_evals_own_backend(
    suite: str, multiturn: bool, talking: Path, official_data: Path
) -> None:
    ours, backend = Templated(Chat(talking)), theirs(talking)
    harness = Harness(suite, official_data, own=None, shots=None)
    assert len(harness.names) >= 14
    systems = 0
    for name in harness.names:
        built = []
        for render in (
            backend.apply_chat_template,
            lambda history, add_generation_prompt=True: ours.render(history, answered=not add_generation_prompt),
        ):
            task = harness.load(name)
            task.build_all_requests(
                limit=2, apply_chat_template=True, fewshot_as_multiturn=multiturn, chat_template=render,
                tokenizer_name="",
            )  # fmt: skip
            built.append([request.args for request in task.instances])
        assert built[0] == built[1]
        turns = built[0][0][0].count("[assistant]\n")
        shots = int(task.config.num_fewshot or 0) if multiturn else 0
        assert shots <= turns <= 1 + shots, name  # a set-up that draws from its own items takes the item out
        systems += "[system]\n" in built[0][0][0]
        ids = backend.tokenizer(built[0][0][0], add_special_tokens=False)["input_ids"]
        assert ours.ids(built[0][0][0]) == ids
    assert systems >= 5


def test_a_begun_answer_stands_where_theirs_does(talking: Path) -> None:
    history = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "The answer is"}]
    for template in (TEMPLATE, TEMPLATE.replace("m.content", "m.content | trim")):
        ours = Templated(Chat(with_template(talking, template)))
        for begun in ("The answer is", " The answer is ", "?"):
            history[1]["content"] = begun
            expected = theirs(talking).apply_chat_template(history, add_generation_prompt=False)
            assert ours.render(history, answered=True) == expected
            assert expected.endswith(begun.strip()) or expected.endswith(begun)


def test_what_an_item_spells_like_a_marker_stays_text(talking: Path) -> None:
    ours = Templated(Chat(talking))
    text = ours.render([{"role": "user", "content": "Is </s> an end?"}], answered=False)
    ids = ours.ids(text)
    assert ids == ours.chat.renderer.prompt_ids([Message("user", "Is </s> an end?")])
    assert ids.count(2) == 1
    assert theirs(talking).tokenizer(text, add_special_tokens=False)["input_ids"].count(2) == 2


def test_a_template_without_a_system_turn_keeps_the_description(talking: Path) -> None:
    history = [{"role": "system", "content": "Be brief.\n\n"}, {"role": "user", "content": "Why?"}]
    ours = Templated(Chat(with_template(talking, NO_SYSTEM)))
    assert "[user]\nBe brief.\n\nWhy?</s>" in ours.render(history, answered=False)
    assert "brief" not in theirs(talking).apply_chat_template(history)
    silent = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + TEMPLATE
    assert "Be brief." in Templated(Chat(with_template(talking, silent))).render(history, answered=False)


def test_choices_are_scored_and_answers_written_as_by_a_naive_loop(
    talking: Path, official_data: Path, tmp_path: Path
) -> None:
    folder, result = evaluate(talking, official_data, tmp_path / "out", ["openbookqa", "xwinograd_en", "triviaqa"])
    naive = Naive(talking)
    for name in ("openbookqa", "xwinograd_en"):
        for record in read_records(folder, f"tsugiki_{name}"):
            for choice in record["choices"]:
                context = choice.get("prompt", record["prompt"])
                assert context.startswith("<s>[")
                assert context.endswith("[assistant]\n")
                prompt, ids = naive.encode(context), naive.encode(context + choice["text"])
                assert ids[: len(prompt)] == prompt
                logits = naive.logits(ids).log_softmax(-1)
                expected = sum(float(logits[at - 1, ids[at]]) for at in range(len(prompt), len(ids)))
                assert choice["logprob"] == pytest.approx(expected, abs=1e-4)
    for record in read_records(folder, "tsugiki_triviaqa"):
        assert record["prompt_tokens"] == len(naive.encode(record["prompt"]))
        assert naive.text(record["prompt"], 40, ["\n"]).startswith(record["output"][:20])
    assert result.header["chat_template"] == {"fewshot_as_multiturn": True, **Chat(talking).facts}


def test_answers_and_likelihoods_are_those_of_lm_evals_own_backend(
    talking: Path, official_data: Path, tmp_path: Path
) -> None:
    """Where the generation prompt ends without white space, which lm-eval would score with the continuation."""
    with_template(talking, TEMPLATE.replace("[assistant]\n{% endif", "[assistant]{% endif"))
    names = ["openbookqa", "hellaswag", "xwinograd_en", "triviaqa"]
    folder, _ = evaluate(talking, official_data, tmp_path / "out", names)
    backend = HFLM(pretrained=str(talking), dtype="float32", device="cpu", batch_size=1)
    harness = Harness("default", official_data, own=None, shots=None)
    for name in (f"tsugiki_{name}" for name in names):
        found = evaluate_there(
            lm=backend, task_dict={"tasks": {name: harness.load(name)}, "groups": {}, "group_map": {}}, limit=2,
            bootstrap_iters=0, log_samples=True, apply_chat_template=True, fewshot_as_multiturn=True,
        )  # fmt: skip
        for record, sample in zip(read_records(folder, name), found["samples"][name], strict=True):
            if "choices" in record:
                ours = [one["logprob"] for one in record["choices"]]
                assert ours == pytest.approx([float(one[0][0]) for one in sample["resps"]], abs=1e-4)
            else:  # theirs ends by tokens, ours by characters
                assert record["output"]
                assert sample["resps"][0][0].startswith(record["output"])
            assert record["prompt"] == sample["arguments"][0][0]


def test_results_in_another_form_lie_elsewhere_and_are_not_compared(
    talking: Path, official_data: Path, tmp_path: Path, few: None
) -> None:
    found = [
        evaluate(talking, official_data, tmp_path, ["openbookqa"], **settings)[0]
        for settings in ({}, {"fewshot_as_multiturn": False}, {"chat_template": False}, {"template": "llama-2"})
    ]
    assert [folder.name.removeprefix("default-first-2") for folder in found] == [
        "-chat", "-chat-one-turn", "", "-chat-llama-2",
    ]  # fmt: skip
    prompts = [next(iter(read_records(folder, "tsugiki_openbookqa")))["prompt"] for folder in found]
    assert len(set(prompts)) == 4
    results = [read_results(folder) for folder in found]
    assert require_one_suite([results[0], results[3]]) == "default"
    form = "through the chat template, solved examples as turns"
    table = make_table([results[0]])
    assert to_json(table)["form"] == form
    assert f"Asked {form}." in table.notes
    assert to_json(make_table([results[2]]))["form"] == ""
    for other in results[1:3]:
        with pytest.raises(DataError, match=r"default \(through the chat template, solved examples as turns\).*--chat"):
            require_one_suite([results[0], other])
    # Instruction checks come to the suite's scores, and these to them.
    assert evaluate(talking, official_data, tmp_path, ["instructions_en"], limit=2)[0] == found[0]
    assert {"tsugiki_openbookqa", "instructions_en"} <= read_results(found[0]).tasks.keys()
    # Under another template of its own, the model's earlier scores leave the folder.
    with_template(talking, TEMPLATE.replace("[", "("))
    folder, _ = evaluate(talking, official_data, tmp_path, ["xwinograd_en"])
    assert folder == found[0]
    assert list(read_results(folder).tasks) == ["tsugiki_xwinograd_en"]


def test_published_scores_are_not_compared_with(talking: Path, official_data: Path, tmp_path: Path) -> None:
    _, result = evaluate(talking, official_data, tmp_path, ["openbookqa"], suite="swallow")
    assert not result.scored()["swallow_openbookqa"].comparable
    assert result.header["tasks"]["swallow_openbookqa"]["comparable"] is False


def test_a_prompt_too_long_is_shortened_by_its_tasks_rule_and_then_rendered(
    language_model: Callable[..., Path], official_data: Path, tmp_path: Path
) -> None:
    model = with_template(
        shutil.copytree(language_model(max_position_embeddings=900), tmp_path / "short"), TEMPLATE
    )  # fmt: skip
    folder, _ = evaluate(model, official_data, tmp_path / "out", ["mgsm_ja"])
    records = list(read_records(folder, "tsugiki_mgsm_ja"))
    assert any(record["truncated"] for record in records)
    for record in records:
        assert record["prompt"].startswith("<s>[user]\n問題：")
        assert record["prompt"].endswith("ステップごとの答え：</s>\n[assistant]\n")
        assert record["prompt_tokens"] + record["output_tokens"] <= 900


def test_what_is_cut_leaves_bos_in_its_place(talking: Path) -> None:
    templated = Templated(Chat(talking))
    encoder = TemplatedEncoder(TextTokenizer.from_folder(talking), templated, max_length=60)
    text = templated.render([{"role": "user", "content": "word " * 100}], answered=False)
    (one,) = encoder.prompts([text], room=20)
    assert (one.prompt[0], len(one.prompt), one.cut) == (1, 40, len(templated.ids(text)) - 40)
    assert one.prompt[1:] == templated.ids(text)[-39:]


def test_a_model_without_a_template_has_no_score_and_the_suite_quick_has_no_form(
    language_model: Callable[..., Path], official_data: Path, tmp_path: Path
) -> None:
    _, result = evaluate(language_model(), official_data, tmp_path, ["openbookqa"])
    missing = result.tasks["tsugiki_openbookqa"]
    assert isinstance(missing, MissingTask)
    assert "name one by --template" in missing.reason
    with pytest.raises(RecipeError, match="leave out --chat-template"):
        evaluate(language_model(), official_data, tmp_path, ["texts"], suite="quick")
