"""The task files under lm-eval itself: what perfect, empty, inverted and random models score on all fourteen sets."""

import random
import shutil
from functools import cache

import pytest

pytest.importorskip("lm_eval")
import lm_eval
import yaml
from evaluation_tasks import load_task, manager, requests, task_name
from lm_eval.api.model import LM

from tsugiki.errors import DataError, RecipeError
from tsugiki.evaluation import harness
from tsugiki.evaluation.data import SETS, MissingData, load_set
from tsugiki.evaluation.harness import Harness
from tsugiki.evaluation.shots import published_shots
from tsugiki.evaluation.suites import SUITES, full_names
from tsugiki.evaluation.tasks import FOLDER
from tsugiki.evaluation.tasks.items import DATA_VARIABLE, load
from tsugiki.recipe_evaluation import task_names

BOTH = [(profile, name) for profile in SUITES for name in SETS]
LIKELIHOOD = {"swallow": {"openbookqa", "hellaswag", "xwinograd_en"}}
LIKELIHOOD["default"] = {*LIKELIHOOD["swallow"], "jcommonsenseqa"}
GENERATION = [(profile, name) for profile, name in BOTH if name not in LIKELIHOOD[profile]]
CHOSEN = [(profile, name) for profile, name in BOTH if name in LIKELIHOOD[profile]]


@pytest.fixture(autouse=True)
def _no_report_of_the_machine(monkeypatch):
    """lm-eval asks pip for all packages after each run: a second that says nothing here."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda storage: None)


class Stub(LM):
    """Answers requests by two functions of the item: text for generation; (item, number of the option) → likelihood."""

    def __init__(self, text=None, likelihood=None):
        super().__init__()
        self.text, self.likelihood = text, likelihood

    def generate_until(self, requests, disable_tqdm=False):
        return [self.text(request.doc) for request in requests]

    def loglikelihood(self, requests, disable_tqdm=False):
        return [(self.likelihood(request.doc, request.idx), False) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise AssertionError("no task asks for this")


def run(model, name, folder, limit=None, shots=None):
    """Headline metric and per-item records of one task."""
    results = lm_eval.simple_evaluate(
        model=model,
        tasks=[name],
        task_manager=manager(folder),
        limit=limit,
        num_fewshot=shots,
        bootstrap_iters=0,
        log_samples=True,
    )
    metadata = config(name)["metadata"]
    headline = {"rouge2_model_tokens": "rouge2"}.get(metadata["headline"], metadata["headline"])
    return results["results"][name][f"{headline},none"], results["samples"][name]


@cache
def config(name):
    profile, file = (
        ("swallow", name.removeprefix("swallow_"))
        if name.startswith("swallow")
        else ("default", name.removeprefix("tsugiki_"))
    )

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    (path,) = (FOLDER / profile).rglob(f"{file}.yaml")
    return yaml.load(path.read_text("utf-8"), Loader)


def perfect_text(profile, name):
    """What a model that knows the answer writes: itself in words, a number in a sentence."""

    def text(item):
        if name == "jcommonsenseqa":
            return str(item["label"])
        if name in ("jemhopqa", "niilc", "jsquad", "triviaqa"):
            if name == "niilc":
                return ",".join(item["answers"])
            return item["answer"] if "answer" in item else item["answers"][-1 if profile == "default" else 0]
        if name == "mgsm_ja":
            return f"計算します。答えは{int(item['answer']):,}です。"
        if name == "squad2":
            nothing = "" if profile == "swallow" else "unanswerable"
            return " " + item["answers"][-1] if item["answers"] else nothing
        if name == "gsm8k":
            return item["answer"] if profile == "swallow" else f"So the answer is ${item['answer'].split('#### ')[1]}."
        return item["summary"] if name == "xlsum_ja" else " " + item["reference"]

    return text


def perfect(profile, name):
    return Stub(perfect_text(profile, name), lambda item, option: -1.0 if option == item["label"] else -2.0)


@pytest.mark.parametrize(("profile", "name"), BOTH)
def test_a_perfect_model_scores_one_on_made_up_files(profile, name, official_data):
    score, samples = run(perfect(profile, name), task_name(profile, name), official_data)
    assert score == pytest.approx(1.0, abs=1e-9)
    assert samples


@pytest.mark.parametrize(("profile", "name"), [pair for pair in BOTH if pair[1] != "xlsum_ja"])
def test_a_perfect_model_scores_one_on_real_items(profile, name, evaldata):
    score, _ = run(
        perfect(profile, name),
        task_name(profile, name),
        evaldata,
        limit=None if name in ("niilc", "jemhopqa", "mgsm_ja") else 60,
    )
    assert score == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("profile", "name"), [pair for pair in GENERATION if pair[1] != "squad2"])
def test_an_empty_output_scores_zero(profile, name, official_data):
    score, _ = run(Stub(lambda item: ""), task_name(profile, name), official_data)
    assert score == 0


@pytest.mark.parametrize("profile", SUITES)
def test_an_empty_output_scores_the_share_of_unanswerable_items_on_squad2(profile, evaldata):
    score, samples = run(Stub(lambda item: ""), task_name(profile, "squad2"), evaldata, shots=0)
    assert len(samples) == 6078 - 16
    assert score == sum(not sample["doc"]["answers"] for sample in samples) / len(samples)
    reserved = list(load_task(task_name(profile, "squad2"), evaldata).sampler.df)
    assert round(score * len(samples)) + sum(not shot["answers"] for shot in reserved) == 3168


@pytest.mark.parametrize(("profile", "name"), CHOSEN)
def test_inverted_likelihoods_score_zero(profile, name, evaldata):
    inverted = Stub(likelihood=lambda item, option: -2.0 if option == item["label"] else -1.0)
    score, _ = run(inverted, task_name(profile, name), evaldata, limit=100, shots=1)
    assert score == 0


@pytest.mark.parametrize(("profile", "name"), CHOSEN)
def test_random_likelihoods_score_chance(profile, name, evaldata):
    generator = random.Random(5)
    score, samples = run(
        Stub(likelihood=lambda *_: generator.random()), task_name(profile, name), evaldata, limit=1000, shots=1
    )
    chance = config(task_name(profile, name))["metadata"]["chance"]
    assert abs(score - chance) < 1.96 * (chance * (1 - chance) / len(samples)) ** 0.5


@pytest.mark.parametrize("digit", [0, 4])
def test_a_constant_digit_scores_its_share_of_jcommonsenseqa(digit, evaldata):
    score, _ = run(Stub(lambda item: f"{digit}"), "swallow_jcommonsenseqa", evaldata, shots=0)
    assert score == pytest.approx([0.193, 0.212, 0.214, 0.204, 0.177][digit], abs=5e-4)


def test_a_limit_takes_the_first_items_with_the_same_prompts(evaldata):
    name = "swallow_mgsm_ja"
    _, few = run(perfect("swallow", "mgsm_ja"), name, evaldata, limit=3)
    _, more = run(perfect("swallow", "mgsm_ja"), name, evaldata, limit=9)
    assert [sample["arguments"] for sample in few] == [sample["arguments"] for sample in more[:3]]
    later = requests(load_task(name, evaldata), 8)[0][0]  # as if resumed there
    assert later == more[8]["arguments"][0][0]


@pytest.mark.parametrize("name", SETS)
def test_the_default_profile_shares_everything_before_the_item(name, official_data):
    task = load_task(task_name("default", name), official_data)
    first, last = (requests(task, place)[0][0] for place in (0, 5))
    query = task.doc_to_choice(task.eval_docs[0])[0] if name == "xwinograd_en" else task.doc_to_text(task.eval_docs[0])
    prefix = first.removesuffix(query)
    assert prefix != first
    assert prefix
    assert last.startswith(prefix)


@pytest.mark.parametrize(("profile", "name"), BOTH)
@pytest.mark.parametrize("shots", [0, 1, 3])
def test_any_number_of_shots_can_be_asked_for(profile, name, shots, official_data):
    task = load_task(task_name(profile, name), official_data)
    prompts = [requests(task, 1, k)[0][0] for k in (0, shots)]
    assert prompts[1].endswith(prompts[0].removeprefix(task.config.description))
    own = 1 if (profile, name) == ("swallow", "xwinograd_en") else 0  # the item may be drawn for itself, and goes
    sampled = len(task.sampler.sample(shots, eval_doc=task.eval_docs[1])) if shots else 0
    assert shots - own <= sampled <= shots
    assert (prompts[1] == prompts[0]) == (sampled == 0)


# What the runner and the table read.


def test_a_task_is_called_as_its_file_and_every_set_has_one_in_both_profiles(tmp_path):
    named = {task_name(profile, name) for profile in SUITES for name in task_names(profile)}
    assert set(manager(tmp_path).all_subtasks) == named
    assert {task_name(profile, name) for profile, name in BOTH} <= named


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_suite_is_its_folder_in_the_order_of_the_sets_without_what_must_be_named(suite):
    known = [suite.prefix + name for name in task_names(suite.name)]
    assert full_names(suite, None, known)[: len(SETS)] == [suite.prefix + name for name in SETS]
    assert "jcommonsenseqa_generate" not in task_names(suite.name, extra=False)
    assert ("jcommonsenseqa_generate" in task_names(suite.name)) == (suite.name == "default")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("task: tsugiki_rivers", "task: tsugiki_river", "its `task` is not tsugiki_rivers"),
        ("task: tsugiki_rivers", "task: rivers", "its `task` is not tsugiki_rivers"),
        ("include: ", "include ", "its `task` is not tsugiki_rivers"),
        ("profile: default", "profile: swallow", "must say profile: default"),
        ("items: gsm8k", "version: 2", "under items which set it asks"),
    ],
)
def test_a_file_that_is_not_what_its_place_says_is_named(old, new, said, tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / "tasks")
    text = (FOLDER / "default/gsm8k.yaml").read_text("utf-8").replace("tsugiki_gsm8k", "tsugiki_rivers")
    assert old in text
    (tmp_path / "tasks/default/rivers.yaml").write_text(text.replace(old, new), "utf-8")
    monkeypatch.setattr(harness, "FOLDER", tmp_path / "tasks")
    with pytest.raises(RecipeError, match=f"rivers.yaml: .*{said}"):
        Harness("default", None, own=None, shots=None)


def test_a_set_without_a_reader_of_its_own_is_read_as_it_stands(tmp_path):
    (tmp_path / "capitals").mkdir()
    for split, rows in (("test", 3), ("train", 5)):
        lines = [f'{{"id": "{split}{n}", "q": {n}}}\n' for n in range(rows)]
        (tmp_path / f"capitals/{split}.jsonl").write_text("".join(lines))
    loaded = load_set("capitals", tmp_path)
    assert loaded.test[1] == {"id": "test1", "q": 1}
    assert (len(loaded.shots), loaded.total, loaded.notes, loaded.published_items) == (5, 3, [], False)
    assert set(loaded.files) == {"capitals/test.jsonl", "capitals/train.jsonl"}
    with pytest.raises(
        MissingData, match=r"rivers: neither one of the sets jcommonsenseqa, .* nor .*rivers/test.jsonl"
    ):
        load_set("rivers", tmp_path)


@pytest.mark.parametrize(("profile", "name"), BOTH)
def test_a_file_says_what_yaml_cannot(profile, name, official_data):
    task = load_task(task_name(profile, name), official_data)
    metadata = task.config.metadata
    assert (metadata["items"], metadata["profile"]) == (name, profile)
    assert metadata["language"] == ("ja" if list(SETS).index(name) < 8 else "en")
    assert metadata["combine"] == ("bleu" if name.startswith("wmt20") else "mean")
    assert metadata["title"]
    assert task.config.num_fewshot == published_shots(name)
    assert metadata.get("model_rouge", False) == (task_name(profile, name) == "swallow_xlsum_ja")
    if not metadata.get("model_rouge"):
        assert metadata["headline"] in task.aggregation()
    generates = task.config.output_type == "generate_until"
    assert generates == ((profile, name) in GENERATION)
    assert ("max_characters" in metadata) == (generates and profile == "default")
    if generates:
        assert task.config.generation_kwargs["do_sample"] is False
        assert task.config.process_results.answer("  7\n") is not None  # records quote the parts
    if name in ("xlsum_ja", "mgsm_ja"):
        assert metadata["shorten"]


def test_the_generated_variant_of_jcommonsenseqa_reads_a_full_width_digit(evaldata):
    score, _ = run(
        Stub(lambda item: " " + "０１２３４"[item["label"]]), "tsugiki_jcommonsenseqa_generate", evaldata, limit=50
    )
    assert score == 1


# What the default profile measures and the published set-ups do not.


def test_default_scoring_accepts_every_gold_answer_and_width():
    from tsugiki.evaluation.tasks import scoring

    item = {"answers": ["東京", "京都"], "question": "?"}
    assert scoring.niilc(item, ["京都\n### 入力"])["char_f1"] == 1
    assert scoring.niilc(item, ["東京,京都"])["exact"] == 1
    assert scoring.published_niilc(item, ["京都"])["fuzzy_ratio"] < 1
    assert scoring.jsquad({"answers": ["10km", "約10km"]}, ["１０ｋｍ"])["exact"] == 1
    assert scoring.jemhopqa({"answer": "YES"}, ["はい、そうです。"])["exact"] == 1
    assert scoring.number({"answer": "1200"}, ["よって、答えは１，２００円です。"])["acc"] == 1
    assert scoring.published_mgsm({"answer": "1200"}, ["よって、答えは１，２００円です。"])["acc"] == 0
    assert scoring.squad2({"answers": []}, [" unanswerable"])["exact"] == 1
    assert scoring.published_squad2({"answers": []}, [" unanswerable"])["exact"] == 0
    trivia = {"answer": "St. Louis", "aliases": ["Saint Louis"]}
    assert scoring.triviaqa(trivia, [" St. Louis\n"])["exact_match"] == 1
    assert scoring.published_option({"label": 3}, ["３"])["exact_match"] == 1


# What can go wrong.


def test_a_missing_set_and_a_missing_folder_are_named(tmp_path, monkeypatch):
    with pytest.raises(MissingData, match="jsquad"):
        load(items="jsquad", profile="default", data_dir=str(tmp_path))
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(DataError, match=DATA_VARIABLE):
        load(items="jsquad", profile="default")


def test_plain_lm_eval_finds_the_data_by_the_environment(official_data, monkeypatch):
    monkeypatch.setenv(DATA_VARIABLE, str(official_data))
    from lm_eval.tasks import TaskManager

    plain = TaskManager(include_path=str(FOLDER), include_defaults=False)
    assert len(plain.load(["swallow_gsm8k"])["tasks"]["swallow_gsm8k"].eval_docs) == 12
