"""lm-eval as the engine for tasks: task files are loaded, requests built and scored there; here its answers become
results.

Only our folder of task files is indexed (lm-eval's own holds some 14,000 files, 13 seconds). A folder of somebody
else's is a program: templates are rendered unsandboxed and `!function` runs the neighbouring Python file, so that it
needs `allow_task_code`.
"""

import logging
import math
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError, TsugikiError
from tsugiki.evaluation.data import load_set
from tsugiki.evaluation.lm import MAX_NEW_TOKENS, JournalLM, Traits, item_of
from tsugiki.evaluation.metrics.bleu import bleu_signature
from tsugiki.evaluation.metrics.rouge import rouge2
from tsugiki.evaluation.metrics.words import words
from tsugiki.evaluation.prompts import shorten
from tsugiki.evaluation.results import Record
from tsugiki.evaluation.shots import TASK_FILE_SEED, describe
from tsugiki.evaluation.suites import SUITES
from tsugiki.evaluation.task_digest import task_digest
from tsugiki.evaluation.tasks import FOLDER
from tsugiki.evaluation.tasks.scoring import Scoring
from tsugiki.evaluation_files import TaskResult
from tsugiki.printable import one_line
from tsugiki.score_combinations import COMBINATIONS

METADATA = (
    "title", "language", "headline", "combine", "chance", "max_characters", "max_context", "filter", "version",
    "items", "profile", "tokenize", "model_rouge", "shorten",
)  # fmt: skip
"""What a task file says under `metadata` that is read here; there may be more, for other readers."""


class Harness:
    """The tasks of one profile, and of the user's own folder, over one folder of data."""

    def __init__(self, profile: str | None, data_dir: Path | None, *, own: Path | None, shots: int | None):
        """`profile`: a folder of our task files. `own`: one of further task files, whose code the user has allowed."""
        from lm_eval.tasks import TaskManager

        _silence()
        if own is not None:
            _check_task_files(own)
        folders = [str(FOLDER / profile)] if profile else []
        self._shots, self._data_dir = shots, data_dir
        self._tasks: dict[str, Any] = {}
        self._stated: dict[str, dict[str, Any]] = {}
        metadata: dict[str, Any] = {"data_dir": str(data_dir)} if data_dir else {}
        self._manager = TaskManager(
            include_path=folders + ([str(own)] if own else []), include_defaults=False, metadata=metadata
        )
        if profile:
            self._check_suite(profile)

    def _check_suite(self, profile: str) -> None:
        """Raise RecipeError for a file of the suite that lm-eval left out, or that is not what its place says."""
        for path in sorted((FOLDER / profile).rglob("*.yaml")):
            name = SUITES[profile].prefix + path.stem
            if name not in self._manager.task_index:
                raise RecipeError(
                    f"{path}: no task file that can be read, or its `task` is not {name}, as it must be here"
                )
            facts = self._facts(name)
            if facts.get("profile") != profile or not facts.get("items"):
                raise RecipeError(
                    f"{path}: its metadata must say profile: {profile}, and under items which set it asks"
                )

    @property
    def names(self) -> list[str]:
        """All tasks that are there."""
        return list(self._manager.all_subtasks)

    def title(self, name: str) -> str:
        """The short name that a task goes by in tables."""
        return str(self._facts(name).get("title") or name)

    def language(self, name: str) -> str:
        """The code of a task's language, or "other"."""
        return str(self._facts(name).get("language") or "other")

    def _facts(self, name: str) -> dict[str, Any]:
        """A task's metadata as its file has them."""
        entry = self._manager.task_index.get(name)
        return dict((entry and entry.cfg and entry.cfg.get("metadata")) or {})

    def load(self, name: str) -> Any:
        """The task of a name, its data read and its shots set; one is made once, for every model. Raises TsugikiError,
        also for a task file in error."""
        if name not in self._tasks:
            self._tasks[name] = self._make(name)
        task = self._tasks[name]
        task.set_fewshot_seed(seed=TASK_FILE_SEED)  # each model is shown the same draws
        return task

    def _make(self, name: str) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _check_metrics(name, self._manager.task_index[name].yaml_path)
                task = self._manager.load([name])["tasks"][name]
                if self._shots is not None and task.config.num_fewshot != 0:
                    task.set_config(key="num_fewshot", value=self._shots)
                elif task.config.num_fewshot is None:
                    task.set_config(key="num_fewshot", value=0)
                _check_keys(name, self._facts(name))
                if (combine := self._facts(name).get("combine", "mean")) not in COMBINATIONS:
                    raise RecipeError(
                        f"task {name}: metadata.combine is {combine!r}; it is one of {', '.join(COMBINATIONS)}"
                    )
        except TsugikiError:
            raise
        except Exception as error:  # a task file is a program: whatever it does wrong comes out here
            cause = next((one for one in _causes(error) if isinstance(one, TsugikiError)), None)
            if cause is not None:
                raise cause from None
            raise RecipeError(
                f"task {name} cannot be loaded: {type(error).__name__}: {one_line(error, 500)}"
            ) from error
        return task

    def facts(self, task: Any) -> dict[str, Any]:
        """What a result's header says of a task: its version, a digest of its definition and data, its shots, the files
        that its items came from, whether a score may stand beside published ones."""
        name = task.config.task
        if name not in self._stated:  # the files are read and digested for it: a second for the largest
            self._stated[name] = self._state(task)
        return self._stated[name]

    def _state(self, task: Any) -> dict[str, Any]:
        stated, shots = dict(task.config.metadata or {}), int(task.config.num_fewshot or 0)
        path = self._manager.task_index[task.config.task].yaml_path
        facts: dict[str, Any] = {"version": stated.get("version"), "shots": shots, "total": len(task.eval_docs)}
        if not _is_ours(task) or self._data_dir is None:
            return facts | {"digest": task_digest(path, _data(task)), "comparable": True, "notes": []}
        loaded = load_set(stated["items"], self._data_dir)
        plan = describe(stated["profile"], loaded, shots)
        return facts | {
            "digest": task_digest(path, {"files": loaded.files.items()}), **_signature(task), "total": loaded.total,
            "files": loaded.files, "shot_ids": plan.ids, "comparable": plan.comparable,
            "notes": [*loaded.notes, *plan.obstacles],
        }  # fmt: skip

    def digest(self, name: str) -> str | None:
        """Of a task as it is now; None where that cannot be known: no such task here, no data, a file in error."""
        if name not in self._manager.task_index:
            return None
        try:
            return str(self.facts(self.load(name))["digest"])
        except TsugikiError:
            return None

    def run(
        self, task: Any, lm: JournalLM, *, limit: int | None, fewshot_as_multiturn: bool = True
    ) -> tuple[TaskResult, list[Record]]:
        """The scores and records of a task on the first `limit` items (all where it is None). Through a chat template,
        `fewshot_as_multiturn` makes each solved example a turn."""
        from lm_eval.evaluator import evaluate

        name, facts = task.config.task, dict(task.config.metadata or {})
        try:
            lm.begin(_traits(task, lm))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = evaluate(
                    lm=lm, task_dict={"tasks": {name: task}, "groups": {}, "group_map": {}}, limit=limit,
                    bootstrap_iters=0, log_samples=True, apply_chat_template=lm.templated is not None,
                    fewshot_as_multiturn=lm.templated is not None and fewshot_as_multiturn,
                )  # fmt: skip
            return self._result(task, facts, found["samples"][name], lm)
        except TsugikiError:
            raise
        except Exception as error:
            if _is_ours(task):
                raise  # a defect of Tsugiki
            raise RecipeError(f"task {name} failed: {type(error).__name__}: {one_line(error, 500)}") from error

    def _result(
        self, task: Any, facts: Mapping[str, Any], samples: list[dict[str, Any]], lm: JournalLM
    ) -> tuple[TaskResult, list[Record]]:
        name = task.config.task
        samples = [sample for sample in samples if sample["filter"] == facts.get("filter", samples[0]["filter"])]
        if facts.get("model_rouge"):
            samples = [sample | _model_rouge(task, sample, lm.text_tokenizer) for sample in samples]
        headline = facts.get("headline") or samples[0]["metrics"][0]
        requests: dict[int, list[Any]] = {}
        for request in task.instances:
            requests.setdefault(request.doc_id, []).append(request)
        records: list[Record] = []
        for sample in samples:
            if headline not in sample:
                raise RecipeError(
                    f"task {name}: metadata.headline is {headline!r}, and its items have only "
                    f"{', '.join(sample['metrics'])}"
                )
            own = sorted(requests[sample["doc_id"]], key=lambda request: request.idx)
            records.append(_record(task, sample, headline, own, [lm.recorded(request) for request in own]))
        values = np.array([_values(record) for record in records], dtype=np.float64)
        cut = sum(bool(record["truncated"]) for record in records)
        stated = self.facts(task)
        notes = list(stated["notes"])
        if cut:
            notes.append(f"{cut:,} prompts were too long for {lm.encoder.max_length:,} tokens and were shortened")
        return TaskResult(
            task=name, title=str(facts.get("title") or name), language=str(facts.get("language") or "other"),
            metric=headline, combine=str(facts.get("combine") or "mean"),
            ids=[record["item"] for record in records], values=values, total=stated["total"],
            shots=int(task.config.num_fewshot or 0), chance=facts.get("chance"),
            comparable=stated["comparable"] and lm.templated is None, notes=notes, digest=stated["digest"],
        ), records  # fmt: skip


def _check_task_files(folder: Path) -> None:
    """Raise RecipeError for a file of the user's that lm-eval would leave out, or take in place of ours, without a
    word."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if not folder.is_dir():
        raise RecipeError(f"--task-dir {folder}: no such folder")
    for path in sorted(folder.rglob("*.yaml")):
        try:
            name = str(load_yaml(path, resolve_func=False).get("task"))
        except Exception as error:  # of the file, of one that it includes, of YAML
            raise RecipeError(f"{path}: no task file: {type(error).__name__}: {one_line(error, 500)}") from None
        if name.startswith(tuple(suite.prefix for suite in SUITES.values())):
            raise RecipeError(f"{path}: the name {name} is kept for the suites' own tasks: give this one another")


def _check_keys(name: str, facts: Mapping[str, Any]) -> None:
    """Raise RecipeError for a key that is a letter away from one of ours: the score would silently be another one."""
    for key in facts:
        if key not in METADATA and (near := get_close_matches(str(key), METADATA, 1, 0.85)):
            raise RecipeError(f"task {name}: metadata.{key} is no key that is known; the nearest is {near[0]}")


def _check_metrics(name: str, path: Path | None) -> None:
    """Raise RecipeError for a metric that lm-eval would fetch from the hub as a program (or, where that fails, leave
    out)."""
    from lm_eval.api.registry import metric_registry
    from lm_eval.tasks._yaml_loader import load_yaml

    stated = {} if path is None else load_yaml(path)
    for one in [] if stated.get("process_results") else stated.get("metric_list") or []:
        metric = one.get("metric")
        if one.get("hf_evaluate") or (isinstance(metric, str) and metric not in metric_registry):
            raise RecipeError(
                f"task {name}: the metric {metric} is not lm-eval's own, and none is taken from the hub: compute it "
                "in a function that process_results names"
            )


def _is_ours(task: Any) -> bool:
    """Whether a task comes with this package: its file then names one of our sets."""
    return "items" in (task.config.metadata or {})


def _data(task: Any) -> dict[str, Any]:
    """The rows of the splits that a task asks, or takes its shots from."""
    config = task.config
    named = (config.test_split, config.validation_split, config.training_split, config.fewshot_split)
    return {split: task.dataset[split] for split in dict.fromkeys(named) if split in task.dataset}


def _signature(task: Any) -> dict[str, str]:
    """What a score over words depends on besides the answers: how and by which version they are found."""
    tokenize, scoring = task.config.metadata.get("tokenize"), task.config.process_results
    if tokenize is not None:
        return {"signature": bleu_signature(tokenize)}
    return {"signature": words(scoring.words).signature} if isinstance(scoring, Scoring) and scoring.words else {}


def _check_gold(task: Any, sample: Mapping[str, Any]) -> None:
    """Raise RecipeError where the gold answer is none of the choices, which lm-eval would count as a wrong answer."""
    gold, choices = sample["target"], task.doc_to_choice(sample["doc"])
    for one in gold if isinstance(gold, list) else [gold]:
        if not (one in choices if isinstance(one, str) else 0 <= one < len(choices)):
            raise RecipeError(
                f"task {task.config.task}, item {item_of(sample['doc'], sample['doc_id'])}: the gold answer {one!r} is "
                f"none of its {len(choices)} choices"
            )


MODEL_ROUGE = "rouge2_model_tokens"


def _traits(task: Any, lm: JournalLM) -> Traits:
    """What a task's metadata says to the model's side."""
    stated = dict(task.config.metadata or {})
    rule, budget = stated.get("shorten"), (task.config.generation_kwargs or {}).get("max_gen_toks", MAX_NEW_TOKENS)

    def shorter(doc: Any) -> str:
        tokenizer, count = lm.text_tokenizer, int(task.config.num_fewshot or 0)
        shots = list(task.sampler.sample(n=count, eval_doc=doc)) if count else []
        room = lm.encoder.max_length - lm.encoder.frame
        return shorten(str(rule), doc, shots, tokenizer.encode, tokenizer.decode, room, budget)

    return Traits(stated.get("max_characters"), stated.get("max_context"), shorter if rule else None)


def _model_rouge(task: Any, sample: Mapping[str, Any], tokenizer: TextTokenizer) -> dict[str, Any]:
    """ROUGE-2 over the tokens of the evaluated model, as published for XL-Sum: the one score that lm-eval cannot know.
    It falls with a larger vocabulary, whose tokens are longer, whatever the summary is worth."""
    scoring = task.config.process_results
    answer, gold = (
        tokenizer.encode(text) for text in (scoring.answer(sample["resps"][0][0]), scoring.gold(sample["doc"]))
    )
    return {"metrics": [*sample["metrics"], MODEL_ROUGE], MODEL_ROUGE: rouge2(answer, gold)}


def _record(
    task: Any, sample: Mapping[str, Any], headline: str, requests: list[Any], answers: list[dict[str, Any]]
) -> dict[str, Any]:
    """One item: what was asked, what came, what it was worth."""
    doc = sample["doc"]
    written = requests[0].request_type == "generate_until"
    record: dict[str, Any] = {
        "task": task.config.task,
        "item": item_of(doc, sample["doc_id"]),
        "prompt_hash": sample["prompt_hash"],
        "prompt": answers[0].get("prompt", requests[0].args[0]),
    }
    scoring = task.config.process_results
    if written:
        answer = scoring.answer(answers[0]["text"]) if isinstance(scoring, Scoring) else sample["filtered_resps"][0]
        record |= {"output": answers[0]["text"], "ended": answers[0]["ended"], "answer": answer}
    else:
        if task.OUTPUT_TYPE == "multiple_choice" and not task.multiple_input:
            _check_gold(task, sample)
        record["choices"] = [
            {"text": request.args[1], "logprob": answer["logprob"], "greedy": answer["greedy"]}
            | ({} if request.args[0] == requests[0].args[0] else {"prompt": request.args[0]})
            for request, answer in zip(requests, answers, strict=True)
        ]
        record["answer"] = max(range(len(answers)), key=lambda index: answers[index]["logprob"])
    value = sample[headline]
    record["gold"] = scoring.gold(doc) if isinstance(scoring, Scoring) else sample["target"]
    if not written and task.multiple_input:
        record["gold"] = task.doc_to_text(doc)  # which context is right; what follows it is lm-eval's target
    record |= {"statistics": [float(part) for part in value]} if isinstance(value, list | tuple) else {
        "score": float(value)
    }  # fmt: skip
    record |= {
        key: float(sample[key])
        for key in sample["metrics"]
        if key != headline and isinstance(sample[key], int | float) and math.isfinite(sample[key])
    }
    return record | {
        "prompt_tokens": sum(answer["prompt_tokens"] for answer in answers),
        "output_tokens": sum(answer["output_tokens"] for answer in answers),
        "truncated": any("cut" in answer for answer in answers),
    }


def _values(record: Mapping[str, Any]) -> list[float]:
    return record["statistics"] if "statistics" in record else [record["score"]]


def _silence() -> None:
    """lm-eval and datasets report every load; what matters is said by us."""
    import datasets
    from lm_eval.api import task

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    task.tqdm = lambda docs, **_: docs  # draws a bar for every task and takes no word against it


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
