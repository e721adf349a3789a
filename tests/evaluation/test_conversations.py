"""How a model is asked through its chat template: the ids that transformers makes, a naive loop's answers, its end."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from evaluation_models import Naive, Quiet
from transformers import AutoTokenizer

from tsugiki.chat.conversations import Message
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.evaluation import backends, run
from tsugiki.evaluation.conversations import Budget, Chat, NoChat, Question, ask
from tsugiki.evaluation.encoding import ContextTooShort
from tsugiki.evaluation.instructions import asking, tasks
from tsugiki.evaluation.journal import Journal
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings
from tsugiki.evaluation_files import MissingTask, ModelResult, read_records, read_results
from tsugiki.model.cached import Prompt

OWN = "{{- bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
NAMES = tasks.scores_of("instructions_en")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers: a tiny model never stops."""
    budgets = {name: Budget(90, characters=30) for name in tasks.BUDGETS}
    monkeypatch.setattr(tasks, "BUDGETS", budgets)
    monkeypatch.setattr(asking, "BUDGETS", budgets)


@pytest.fixture
def talking(language_model: Callable[..., Path], tmp_path: Path) -> Path:
    """A model with a chat template of its own."""
    folder = shutil.copytree(language_model(), tmp_path / "talking")
    (folder / "chat_template.jinja").write_text(OWN, encoding="utf-8")
    return folder


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    return lambda: monkeypatch.setattr(backends, "read_pretrained", refuse)


def evaluate(
    model: Path, output: Path, names: list[str], said: list[str] | None = None, **settings: object
) -> tuple[Path, ModelResult]:
    asked = Settings(tasks=names, **{"suite": "quick", "limit": 3, **settings})  # type: ignore[arg-type]
    lines = said if said is not None else []
    ((folder, result),) = run.evaluate([find_model(str(model))], asked, output, lines.append, Quiet(), {})
    return folder, result


@pytest.mark.parametrize("template", [None, "llama-2"])
def test_prompts_are_those_of_transformers_and_answers_a_naive_loops(
    template: str | None, talking: Path, tmp_path: Path, few: None
) -> None:
    folder, result = evaluate(talking, tmp_path / "out", ["instructions_en"], template=template)
    assert list(result.tasks) == NAMES
    tokenizer, naive = AutoTokenizer.from_pretrained(talking), Naive(talking)
    source = Chat(talking, template).renderer.template.source
    for record in read_records(folder, "instructions_en"):
        messages = [{"role": "user", "content": record["prompt"]}]
        ids = tokenizer.apply_chat_template(messages, chat_template=source, add_generation_prompt=True)["input_ids"]
        assert record["prompt_tokens"] == len(ids)
        new = naive.new_tokens(ids, 90)
        before = naive.tokenizer.decode(ids, skip_special_tokens=False)
        text = naive.tokenizer.decode([*ids, *new], skip_special_tokens=False)[len(before) :]
        assert record["output"] == text[:30]
        assert (record["ended"], record["answer"]) == ("characters", text[:30].strip())
    stated = result.header["tasks"]
    assert list(stated) == NAMES
    assert all(one["chat_template"] == Chat(talking, template).facts for one in stated.values())


def test_what_is_answered_is_not_asked_again_and_a_killed_evaluation_goes_on(
    talking: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch, no_weights: Callable[[], None]
) -> None:
    whole, _ = evaluate(talking, tmp_path / "whole", ["instructions_en"])
    add, kept = Journal.add, 0

    def killed(self: Journal, *answer: object) -> None:
        nonlocal kept
        if kept == 2:
            raise KeyboardInterrupt
        kept += 1
        add(self, *answer)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(talking, tmp_path / "cut", ["instructions_en"])
    folder, _ = evaluate(talking, tmp_path / "cut", ["instructions_en"])
    lines = (folder.parent / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len({(line["item"], line["digest"]) for line in map(json.loads, lines)}) == 3
    assert [*read_records(folder, "instructions_en")] == [*read_records(whole, "instructions_en")]
    no_weights()
    again, _ = evaluate(talking, tmp_path / "cut", ["instructions_en"])
    assert [*read_records(again, "instructions_en")] == [*read_records(whole, "instructions_en")]


def test_scores_under_two_templates_never_stand_in_one_result(talking: Path, tmp_path: Path, few: None) -> None:
    both = ["instructions_en", "instructions_ja"]
    folder, _ = evaluate(talking, tmp_path / "out", ["texts", *both])
    before = read_results(folder)
    (talking / "chat_template.jinja").write_text(OWN.replace("[user]", "(user)").replace("[{{", "({{"), "utf-8")
    said: list[str] = []
    again, _ = evaluate(talking, tmp_path / "out", ["instructions_ja"], said)
    assert again == folder
    after = read_results(folder)
    assert "text_our functions" in after.scored()  # what has nothing to do with templates stays
    assert set(after.scored()) - {"text_our functions"} == set(tasks.scores_of("instructions_ja"))
    assert sum(line.startswith("left out   checks en") for line in said) == 4
    assert after.scored()["instructions_ja"].digest != before.scored()["instructions_ja"].digest
    other, _ = evaluate(talking, tmp_path / "out", ["instructions_ja"], template="llama-2")
    assert other.name == "quick-first-3-llama-2"
    kwargs, _ = evaluate(talking, tmp_path / "out", ["instructions_en"], template_kwargs={"enable_thinking": False})
    assert set(read_results(kwargs).scored()) - {"text_our functions"} == set(NAMES)


def test_a_model_without_a_template_is_told_the_remedy_and_asked_all_else(
    language_model: Callable[..., Path], tmp_path: Path
) -> None:
    _, result = evaluate(language_model(), tmp_path, ["texts", "instructions_en"])
    missing = result.tasks["instructions_en"]
    assert isinstance(missing, MissingTask)
    assert "no chat template; name one by --template (in a recipe evaluation.template): chatml" in missing.reason
    assert "text_our functions" in result.scored()
    _, result = evaluate(language_model(), tmp_path, ["instructions_en"], template="chatml")
    assert "<|im_start|>" in result.tasks["instructions_en"].reason  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match="--template chatmal: it is one of chatml"):
        evaluate(language_model(), tmp_path, ["instructions_en"], template="chatmal")
    with pytest.raises(RecipeError, match=r"texts, code.*instructions_en.* may be named"):
        evaluate(language_model(), tmp_path, ["instructions_en", "jsquad"])


def test_they_are_asked_in_every_suite_and_need_no_lm_eval(
    talking: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    folder, result = evaluate(talking, tmp_path, ["instructions_ja"], suite="default")
    assert folder.name == "default-first-3"
    assert list(result.scored()) == tasks.scores_of("instructions_ja")


class Written:
    """An engine that writes given tokens, asking after each whether the answer is over, as engines do."""

    def __init__(self, tokens: Sequence[int]):
        self.tokens = tokens

    def score(self, requests, done) -> None:  # type: ignore[no-untyped-def]
        raise AssertionError

    def generate(self, requests: Sequence[Prompt], done) -> None:  # type: ignore[no-untyped-def]
        for number, request in enumerate(requests):
            new: list[int] = []
            for token in self.tokens[: request.max_new_tokens]:
                new.append(token)
                if request.stop(new):
                    break
            done(number, new)


def test_an_answer_ends_where_the_template_ends_a_turn(talking: Path, tmp_path: Path) -> None:
    """The engine knows no end token here, as with a base whose configuration has not heard of the template."""
    chat, tokenizer = Chat(talking), TextTokenizer.from_folder(talking)
    assert chat.end.piece == "</s>"
    told = [*tokenizer.encode(" Yes."), chat.end.id, *tokenizer.encode("and on")]
    question = Question("a", (Message("user", "Really?"),))
    with Journal(tmp_path / "journal.jsonl") as journal:

        def reply(name: str, budget: Budget, positions: int = 100) -> tuple[str, str]:
            (found,) = ask(
                Written(told), chat, tokenizer, journal, name, [question], budget, max_length=positions, numerics=()
            )
            return found.answer, found.ended

        assert reply("end", Budget(50)) == ("Yes.", "end")
        assert reply("tokens", Budget(1))[1] == "tokens"
        assert reply("characters", Budget(50, characters=3)) == (" Yes."[:3].strip(), "characters")
        with pytest.raises(ContextTooShort, match="no answer fits behind it"):
            reply("full", Budget(5), positions=5)


def test_a_template_that_cannot_be_used_says_why(talking: Path) -> None:
    (talking / "chat_template.jinja").write_text("{{ raise_exception('never') }}", encoding="utf-8")
    with pytest.raises(NoChat, match="never"):
        Chat(talking)
    (talking / "chat_template.jinja").write_text("{{ strftime_now('%d') }}" + OWN, encoding="utf-8")
    with pytest.raises(ModelError, match=r"template_kwargs: \{today: 2026-01-31\}"):
        Chat(talking)
    assert Chat(talking, kwargs={"today": "2026-01-31"}).digest != Chat(talking, kwargs={"today": "2026-02-01"}).digest
