"""A recipe file gives a Recipe, or one error that names every problem by line, key and remedy."""

import copy
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.errors import RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import json_schema, load_recipe, parse_recipe, show
from tsugiki.recipe_names import THESAURUS, THESAURUS_IN_PLACE, all_keys
from tsugiki.recipe_values import Section

GOOD = textwrap.dedent(
    """\
    run_dir: runs/first
    model:
      name_or_path: owner/model
    data:
      sequence_length: 512
      sources:
        ja: {path: ja.jsonl, weight: 80, language: no}
        en.web: {path: [en-*.jsonl, more.txt], weight: 20}
    training:
      max_steps: 100
      global_batch_size: 8
      micro_batch_size: 2
      learning_rate: 2e-5
      save_steps: 50
    """
)


GOOD_TREE = yaml.safe_load(GOOD)


def problems(text, *overrides, check_files=False):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "recipe.yaml", overrides, check_files)
    return str(caught.value).splitlines()


def test_a_good_recipe_is_read():
    recipe = parse_recipe(GOOD, check_files=False)
    assert recipe.training.learning_rate == 2e-5
    assert recipe.data.sources["ja"].language == "no"
    assert recipe.data.sources["ja"].paths == ["ja.jsonl"]
    assert recipe.data.sources["en.web"].paths == ["en-*.jsonl", "more.txt"]
    assert recipe.prepared_dir == Path("runs/first/data")
    assert recipe.held_out_share("ja") == 0.001


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    recipe = parse_recipe(GOOD, overrides=["run_dir=~/runs", "data.sources.ja.path=~/ja/*.txt"], check_files=False)
    assert recipe.run_dir == Path("/home/someone/runs")
    assert recipe.data.sources["ja"].paths == ["/home/someone/ja/*.txt"]


def test_all_field_errors_come_at_once_in_file_order():
    text = textwrap.dedent(
        """\
        run_dir: runs/first
        model: {name_or_path: 7}
        data:
          sequence_length: 5_12
          sources:
            ../ja: {path: a, weight: -1}
            con: {weight: 1}
        training:
          learning_rat: 2e-5
          max_steps: 1.5
          global_batch_size: true
          micro_batch_size: 2
          precision: fp16-master
          compile: yes
        tracking: {report_to: wandb}
        parallel:
        """
    )
    assert problems(text) == [
        "recipe.yaml:2: model.name_or_path: must be text, not 7; put it in quotes",
        "recipe.yaml:4: data.sequence_length: must be a whole number, not the text '5_12'; write 512",
        "recipe.yaml:6: data.sources.../ja: a source is named by 1 to 64 of A-Z a-z 0-9 . _ - and does not start "
        "with a dot",
        "recipe.yaml:6: data.sources.../ja.weight: must be at least 0, not -1",
        "recipe.yaml:7: data.sources.con: this name is reserved by Windows and cannot be a folder there; "
        "choose another",
        "recipe.yaml:8: training.save_steps: missing (Steps between checkpoints)",
        "recipe.yaml:9: training.learning_rat: unknown key; did you mean learning_rate?",
        "recipe.yaml:10: training.max_steps: must be a whole number, not 1.5",
        "recipe.yaml:11: training.global_batch_size: must be a whole number, not true",
        "recipe.yaml:13: training.precision: must be one of fp32-master, bf16-stochastic, pure-bf16, fp32, not the "
        "text 'fp16-master'; did you mean fp32-master?",
        "recipe.yaml:14: training.compile: must be true or false, not the text 'yes'",
        "recipe.yaml:15: tracking.report_to: must be a list, such as ['wandb'], not the text 'wandb'",
        "recipe.yaml:16: parallel: must be a mapping of keys to values, not empty; its keys are shard, replicas, timeout_minutes …",
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.lr=1", "from override: training.lr: unknown key; lr is called learning_rate here"),
        ("model.lr=1", "from override: model.lr: unknown key; lr is called training.learning_rate here"),
        ("output_dir=x", "from override: output_dir: unknown key; output_dir is called run_dir here"),
        ("data.seq_len=8", "from override: data.seq_len: unknown key; seq_len is called sequence_length here"),
        (
            "data.sources.ja.text_column=t",
            "from override: data.sources.ja.text_column: unknown key; text_column is called text_key here",
        ),
        (
            "training.text_field=t",
            "from override: training.text_field: unknown key; text_field is called data.sources.NAME.text_key here",
        ),
        (
            "learning_rate=1",
            "from override: learning_rate: unknown key; it belongs elsewhere: write training.learning_rate",
        ),
        ("training.Max-Steps=1", "from override: training.Max-Steps: unknown key; it is written max_steps"),
        (
            "data.sources.ja.wieght=1",
            "from override: data.sources.ja.wieght: unknown key; did you mean weight?",
        ),
        ("sequence_lenght=1", "from override: sequence_lenght: unknown key; did you mean data.sequence_length?"),
        (
            "data.sources.ja.data_files=x",
            "from override: data.sources.ja.data_files: unknown key; data_files is called path here",
        ),
        (
            "data.data_files=x",
            "from override: data.data_files: unknown key; data_files is called sources here",
        ),
        (
            "data.sources.ja.type=completion",
            "from override: data.sources.ja.type: not a key here: documents are plain text, or conversations with "
            "format: chat; both are said in data.sources.NAME.format",
        ),
        ("tracking.name=x", "from override: tracking.name: unknown key; name is called run_name here"),
        ("model.name=x", "from override: model.name: unknown key; name is called name_or_path here"),
        ("parallel.qqqq=1", "from override: parallel.qqqq: unknown key; known here: shard, replicas, timeout_minutes"),
    ],
)
def test_unknown_keys_are_answered_with_ours(override, said):
    assert problems(GOOD, override) == [said]


@pytest.mark.parametrize("foreign", sorted(THESAURUS))
def test_every_foreign_name_is_an_error_whose_answer_exists(foreign):
    meant = THESAURUS[foreign]
    if " " not in meant:
        assert meant in set(all_keys())
    assert foreign not in Recipe.model_fields
    (said, *_) = problems(GOOD, f"{foreign}=1")
    assert "did you mean" not in said
    assert "known here" not in said


def test_foreign_names_of_one_section_lead_to_keys_that_exist():
    for foreign, meant in THESAURUS_IN_PLACE.items():
        assert foreign not in set(all_keys())
        assert " " in meant or meant in set(all_keys())


@pytest.mark.parametrize(
    ("foreign", "said"),
    [
        ("embed_lr_scale", "is called embedding_lr_factor here"),
        ("embedding_learning_rate_multiplier", "is called embedding_lr_factor here"),
        ("decoupled_lr", "give the rate's ratio to the other weights' rate: training.embedding_lr_factor"),
        ("freeze_non_embeddings", "is called embedding_warmup_steps here"),
    ],
)
def test_other_names_of_the_embeddings_keys_are_answered(foreign, said):
    (line,) = problems(GOOD, f"training.{foreign}=2")
    assert line.endswith(said)


@pytest.mark.parametrize("foreign", ["name", "type", "conversations", "alpaca"])
@pytest.mark.parametrize("place", ["", "data.", "data.sources.ja.", "training."])
def test_what_other_tools_call_a_data_set_is_answered_everywhere(foreign, place):
    (said,) = problems(GOOD, f"{place}{foreign}=1")
    assert f"{place}{foreign}: not a key here: " in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.lr_scheduler=cosine_with_min_lr", "; write cosine, and give min_lr"),
        ("training.lr_scheduler=warmup_stable_decay", "; write wsd, and give decay_steps"),
        ("training.lr_scheduler=constant_with_warmup", "; write constant, and give warmup_steps"),
        ("training.precision=bf16", "; write fp32-master, which computes in bf16"),
        ("parallel.shard=FULL_SHARD", "; write full"),
    ],
)
def test_values_of_other_tools_are_answered_with_ours(override, said):
    (line,) = problems(GOOD, override)
    assert line.startswith(f"from override: {override.partition('=')[0]}: must be one of ")
    assert line.endswith(said)


def test_a_misspelt_required_key_is_reported_once():
    assert problems(GOOD.replace("learning_rate", "lr")) == [
        "recipe.yaml:13: training.lr: unknown key; lr is called learning_rate here"
    ]


# --- overrides -----------------------------------------------------------------------------------


def test_overrides_follow_the_yaml_rules_and_the_last_wins():
    recipe = parse_recipe(
        GOOD,
        overrides=[
            "training.learning_rate=1",
            "training.learning_rate=1e-4",
            "training.max_steps=",
            "training.max_tokens=1e6",
            "data.sources.en.web.weight=5",
            "data.sources.math={path: m.txt, weight: 1}",
            "data.sources.ja.path=[a.txt, b.txt]",
            "data.sources.ja.path.1=c.txt",
            "tracking.report_to=[none]",
            "training.preflight.skip=[labels]",
            "data.sources.ja.language=a=b",
        ],
        check_files=False,
    )
    assert recipe.training.learning_rate == 1e-4
    assert recipe.training.max_steps is None
    assert recipe.training.max_tokens == 1_000_000
    assert recipe.data.sources["en.web"].weight == 5
    assert recipe.data.sources["math"].weight == 1
    assert recipe.data.sources["ja"].paths == ["a.txt", "c.txt"]
    assert recipe.tracking.report_to == ["none"]
    assert recipe.training.preflight.skip == ["labels"]
    assert recipe.data.sources["ja"].language == "a=b"


def test_an_override_does_not_change_what_an_alias_copied():
    text = GOOD.replace("ja: {", "ja: &ja {").replace("en.web: {path: [en-*.jsonl, more.txt], weight: 20}", "en: *ja")
    recipe = parse_recipe(text, overrides=["data.sources.en.weight=1"], check_files=False)
    assert recipe.data.sources["ja"].weight == 80
    assert recipe.data.sources["en"].weight == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.max_steps", "write key.path=value"),
        ("=3", "write key.path=value"),
        ("training..max_steps=3", "write key.path=value"),
        ("training.max_steps.x=3", "from override: training.max_steps.x: training.max_steps is a value"),
        (
            "data.sources.en.web.path.7=x",
            "from override: data.sources.en.web.path.7: data.sources.en.web.path is a list",
        ),
        ("training.freeze=[", "from override: training.freeze:1: not valid YAML"),
        ("training.min_lr=1", "from override: training.min_lr: 1 is above learning_rate 2e-05: the rate would rise"),
        ("training.learning_rate=none", "from override: training.learning_rate: must be a number, not the text 'none'"),
    ],
)
def test_errors_of_overrides_say_so(override, said):
    (line,) = problems(GOOD, override)
    assert said in line


# --- files ---------------------------------------------------------------------------------------


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("seed", "seed") + "lr: 1\n")
    with pytest.raises(RecipeError, match=rf"^{path}:15: lr: unknown key; lr is called training\.learning_rate here$"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file; `tsugiki init DIR`"),
        (b"", "run_dir: missing"),
        (b"- 1", "a recipe is a mapping"),
        (b"hello", "a recipe is a mapping"),
        (b"a: 1\nb: \xff", ":2: not UTF-8"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (b"x" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_files_that_are_no_recipes(tmp_path, content, said):
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert said in str(caught.value)


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    load_recipe(tmp_path / "r.yaml", check_files=False)


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="a folder; name the recipe file"):
        load_recipe(tmp_path)


def test_reading_recipes_is_quick_and_imports_no_torch():
    code = "import sys, tsugiki.recipe_file, tsugiki.init; "
    code += "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"


# --- credentials ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "aB3" * 12,
        "sk-proj-" + "aB3" * 15,
        "ghp_" + "aB3" * 12,
        "https://someone:password@tracker.example/api",
        "https://someone@tracker.example/api",
        "0123456789abcdef" * 2 + "01234567",
    ],
)
def test_credentials_are_refused_without_being_printed(secret):
    (line,) = problems(GOOD, f"tracking.project='{secret}'")
    assert line.startswith("from override: tracking.project: looks like an access token or password")
    assert secret not in line
    for key in ("training.learning_rate", "tracking.report_to"):
        assert not any(secret in line for line in problems(GOOD, f"{key}='{secret}'"))


def test_a_commit_is_no_credential():
    parse_recipe(GOOD, overrides=[f"model.revision={'0123456789abcdef' * 2}01234567"], check_files=False)


def test_show_hides_credentials_of_recipes_made_otherwise():
    recipe = parse_recipe(GOOD, check_files=False)
    secret = "hf_" + "aB3" * 12
    recipe = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"project": secret})})
    assert secret not in show(recipe)


# --- writing -------------------------------------------------------------------------------------


def test_show_is_a_recipe_with_the_same_meaning():
    recipe = parse_recipe(GOOD, check_files=False)
    shown = show(recipe)
    again = parse_recipe(shown, check_files=False)
    assert show(again) == shown
    assert again.training == recipe.training
    assert again.data.sources["ja"].held_out == 0.001
    assert "prepared_dir: runs/first/data" in shown


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1) | st.sampled_from(["1e-5", "no", "012", "~"])
)
def test_show_keeps_every_text(text):
    recipe = Recipe.model_validate(
        {
            "run_dir": "r",
            "model": {"name_or_path": "m", "architecture": {"key": text}},
            "data": {"sequence_length": 8, "sources": {"a": {"path": "a", "weight": 1, "language": text}}},
            "training": {
                "max_steps": 1,
                "global_batch_size": 1,
                "micro_batch_size": 1,
                "learning_rate": 1,
                "save_steps": 1,
            },
        }
    )
    from tsugiki.recipe_secrets import looks_secret
    from tsugiki.recipe_yaml import read

    if not looks_secret(text):
        tree = read(show(recipe), "shown").tree
        assert tree["data"]["sources"]["a"]["language"] == text
        assert tree["model"]["architecture"] == {"key": text}


def test_the_schema_documents_every_key_and_its_resume_class():
    schema = json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    for name, definition in [("Recipe", schema), *schema["$defs"].items()]:
        for key, entry in definition["properties"].items():
            assert entry.get("description"), f"{name}.{key} has no description"
            assert entry.get("resume", "fixed") in ("free", "extending", "fixed")
    assert schema["$defs"]["TrainingSection"]["properties"]["max_steps"]["resume"] == "extending"
    kinds = [entry["type"] for entry in schema["$defs"]["SourceSection"]["properties"]["path"]["anyOf"]]
    assert kinds == ["string", "array", "null"]


def test_values_are_frozen():
    recipe = parse_recipe(GOOD, check_files=False)
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.max_steps = 7
    assert all(cls.model_config["extra"] == "forbid" for cls in Section.__subclasses__())


# --- any recipe at all ---------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["a", "~nobody-here/x", "hf_" + "x" * 30, "/", "*", "[", "\x00", "\ud800", "é" * 300]),
    st.lists(st.integers() | st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
KEYS = st.sampled_from(sorted({key.rpartition(".")[2] for key in all_keys()} | set(THESAURUS))) | st.text(max_size=8)


def outcome(text, *overrides):
    """None for a recipe that is read, the message of a RecipeError; any other exception escapes."""
    try:
        parse_recipe(text, "r", overrides, check_files=False)
    except RecipeError as error:
        return str(error)
    return None


def places(tree, path=()):
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_recipes_give_a_recipe_or_a_recipe_error(data):
    tree = copy.deepcopy(GOOD_TREE)
    tree["training"]["learning_rate"] = 2e-5
    tree["data"]["stages"] = [{"start_step": 50, "weights": {"ja": 1, "en.web": 1}}]
    tree["training"]["freeze"] = [{"parameters": ["model.*"], "until_step": 3}]
    for _ in range(data.draw(st.integers(1, 4))):
        *above, last = data.draw(st.sampled_from([place for place in places(tree) if place]))
        node = tree
        for part in above:
            node = node[part]
        action = data.draw(st.sampled_from(["replace", "delete", "add"]))
        if action == "replace":
            node[last] = data.draw(VALUES)
        elif action == "delete" or isinstance(node, list):
            del node[last]
        else:
            node[data.draw(KEYS)] = data.draw(VALUES)
    text = yaml.safe_dump(tree)
    try:
        recipe = parse_recipe(text, "r", check_files=data.draw(st.booleans()))
    except RecipeError as error:
        for line in str(error).splitlines():
            assert line.startswith("r:"), line
    else:
        assert parse_recipe(show(recipe), check_files=False)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_text_mutations_give_a_recipe_or_a_recipe_error(data):
    text = GOOD
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 6)))
        text = text[:at] + data.draw(st.text("{}[]:,-&*!|>'\"%@` \n\t#?0e.a", max_size=4)) + text[end:]
    said = outcome(text)
    assert said is None or said.startswith("r:")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.text(max_size=20))
def test_any_override_gives_a_recipe_or_a_recipe_error(key, value):
    for override in (f"{key}={value}", f"training.{key}={value}", f"data.sources.{key}={value}", key):
        assert outcome(GOOD, override) != ""
