"""A resumed run may change what is free, may extend its future, and refuses to change its past."""

import json

import pytest

from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_names import all_keys, field_at
from tsugiki.recipe_resume import compare_for_resume, config_changes
from tsugiki.recipe_values import Section

BASE = """\
run_dir: runs/first
model: {name_or_path: owner/model}
data:
  sequence_length: 512
  sources:
    ja: {path: ja.jsonl, weight: 80}
    en: {path: en.jsonl, weight: 20}
    watched: {path: w.jsonl, weight: 0}
  stages:
    - {start_step: 40, weights: {ja: 1, en: 1}}
training:
  max_steps: 100
  global_batch_size: 8
  micro_batch_size: 2
  learning_rate: 2e-5
  save_steps: 50
"""


def compare(*overrides, step=60, before=()):
    old = parse_recipe(BASE, overrides=before, check_files=False)
    new = parse_recipe(BASE, overrides=[*before, *overrides], check_files=False)
    kept = json.loads(json.dumps(old.model_dump(mode="json")))  # as a checkpoint keeps it
    return compare_for_resume(kept, new, step)


def test_an_unchanged_recipe_has_no_differences():
    assert compare() == []


@pytest.mark.parametrize(
    "override",
    [
        "run_dir=elsewhere",
        "model.tokenizer=moved/tokenizer",
        "model.attn_implementation=eager",
        "training.deterministic=true",
        "data.prepared_dir=/shared",
        "data.workers=3",
        "data.sources.ja.path=moved/ja.jsonl",
        "data.sources.ja.language=ja",
        "data.sources.ja.max_epochs=9",
        "training.micro_batch_size=1",
        "training.activation_checkpointing=blocks",
        "training.compile=true",
        "training.loss_chunk_tokens=8",
        "training.save_steps=5",
        "training.save_total_limit=9",
        "training.keep_every=50",
        "training.eval_steps=5",
        "training.eval_documents=5",
        "training.logging_steps=5",
        "training.stop_after_steps=70",
        "training.preflight.skip=[labels]",
        "tracking.report_to=[none]",
        "parallel.shard=none",
        "parallel.timeout_minutes=5",
    ],
)
def test_free_keys_change_freely(override):
    (difference,) = compare(override)
    assert difference.kind == "free"
    assert difference.key == override.split("=")[0]


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "model.name_or_path=other/model",
        "model.revision=v2",
        "data.sequence_length=256",
        "data.isolate_documents=true",
        "data.held_out=0.5",
        "data.add_eos=false",
        "data.sources.ja.weight=81",
        "data.sources.ja.text_key=body",
        "training.global_batch_size=16",
        "training.learning_rate=3e-5",
        "training.min_lr=1e-6",
        "training.lr_scheduler=linear",
        "training.warmup_steps=5",
        "training.embedding_warmup_steps=5",
        "training.embedding_lr_factor=2",
        "training.weight_decay=0",
        "training.adam_beta2=0.99",
        "training.precision=fp32",
        "training.freeze=[{parameters: ['*']}]",
    ],
)
def test_fixed_keys_refuse_and_show_both_values(override):
    (difference,) = compare(override)
    assert difference.kind == "fixed"
    key = override.partition("=")[0]
    assert str(difference).startswith(f"{key}: ")
    assert "in the checkpoint" in str(difference)
    if key == "training.learning_rate":
        assert str(difference) == "training.learning_rate: 2e-05 in the checkpoint, 3e-05 in the recipe"


@pytest.mark.parametrize("override", ["spikes=skip", "spike_threshold=9", "rewind_before=50", "rewind_after=0"])
def test_what_is_done_about_spikes_may_change(override):
    (difference,) = compare(f"training.{override}")
    assert difference.kind == "extending"


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ([], [[480, 500]], "extending"),  # 60 steps of 8 are read
        ([], [[479, 500]], "fixed"),
        ([[100, 116]], [[100, 116], [496, 500]], "extending"),  # these steps reach to sample 496
        ([[100, 116]], [[100, 116], [495, 500]], "fixed"),
        ([[100, 116]], [[100, 108], [108, 116], [600, 700]], "extending"),
        ([[100, 116]], [], "fixed"),
        ([[480, 500]], [], "extending"),
    ],
)
def test_samples_that_were_read_cannot_be_stepped_over_any_more(before, after, kind):
    (difference,) = compare(f"data.skip={after}", before=[f"data.skip={before}"])
    assert (difference.key, difference.kind) == ("data.skip", kind)
    assert ("read already" if kind == "fixed" else "no sample below") in difference.note


def test_what_the_run_steps_over_by_itself_may_be_put_into_the_recipe_and_taken_out_again():
    recipes = [parse_recipe(BASE, overrides=[f"data.skip={skip}"], check_files=False) for skip in ([], [[100, 116]])]
    for old, new in (recipes, recipes[::-1]):
        (difference,) = compare_for_resume(old.model_dump(mode="json"), new, 60, [(100, 116)])
        assert difference.kind == "extending"


def test_stages_come_nearer_by_what_is_stepped_over():
    """Stage 40 begins with sample 320; from sample 160 on, 80 are stepped over, so that is what step 30 has read."""
    skip = ["data.skip=[[160, 240]]"]
    moved = "data.stages=[{start_step: 40, weights: {ja: 5, en: 1}}]"
    assert [difference.kind for difference in compare(moved, step=30, before=skip)] == ["extending"]
    assert [difference.kind for difference in compare(moved, step=31, before=skip)] == ["fixed"]


@pytest.mark.parametrize("old", ["owner/model", "bases/mine", "/gone/mine"])
def test_a_base_that_lies_in_another_folder_now_is_taken(old, tmp_path):
    (difference,) = compare(f"model.name_or_path={tmp_path}", before=[f"model.name_or_path={old}"])
    assert (difference.key, difference.kind) == ("model.name_or_path", "free")
    assert str(difference).endswith(f"{tmp_path} in the recipe (weights are the checkpoint's)")


def test_a_base_that_is_no_folder_here_is_another_one(tmp_path):
    (difference,) = compare("model.name_or_path=owner/model", before=[f"model.name_or_path={tmp_path}"])
    assert difference.kind == "fixed"
    assert "taken by its folder's name" in str(difference)


def test_a_base_of_the_same_shapes_that_computes_otherwise_is_told():
    old = {"model_type": "mistral", "rope_theta": 10000.0, "sliding_window": 4096, "transformers_version": "4.34"}
    assert config_changes(old, {**old, "transformers_version": "5.1", "dtype": "bfloat16"}) == []
    new = {"model_type": "mistral", "rope_theta": 1e6, "vocab_size": 32000}
    assert config_changes(old, new) == [
        "rope_theta: 10000.0 -> 1000000.0", "sliding_window: 4096 -> null", "vocab_size: null -> 32000",
    ]  # fmt: skip


def test_every_key_has_one_of_the_three_classes():
    for key in all_keys():
        field = field_at(tuple(part for part in key.replace("[]", ".0").split(".")))
        assert field is not None, key
        assert (field.json_schema_extra or {}).get("resume", "fixed") in ("free", "extending", "fixed"), key


def test_a_longer_cosine_is_taken_and_announced():
    (difference,) = compare("training.max_steps=200")
    assert difference.kind == "extending"
    assert difference.note.startswith("the cosine now ends at step 200: after step 60 the learning rate jumps from ")


def test_a_longer_constant_run_changes_nothing_before():
    (difference,) = compare("training.max_steps=200", before=["training.lr_scheduler=constant"])
    assert (difference.kind, difference.note) == ("extending", "")


@pytest.mark.parametrize(("step", "announced"), [(60, False), (80, False), (81, True)])
def test_a_longer_wsd_run_is_announced_only_once_the_decay_has_begun(step, announced):
    before = ["training.lr_scheduler=wsd", "training.decay_steps=20"]
    (difference,) = compare("training.max_steps=200", before=before, step=step)
    assert difference.kind == "extending"
    assert bool(difference.note) is announced


def test_a_run_cannot_become_shorter_than_it_is():
    (difference,) = compare("training.max_steps=59", "data.stages=[{start_step: 40, weights: {ja: 1, en: 1}}]")
    assert difference.kind == "fixed"
    assert "the run is at step 60 already" in difference.note


def test_the_same_length_in_tokens_is_no_change_of_the_schedule():
    tokens = 100 * 8 * 512
    differences = compare("training.max_steps=", f"training.max_tokens={tokens}")
    assert [(d.key, d.kind, d.note) for d in differences] == [
        ("training.max_steps", "extending", ""),
        ("training.max_tokens", "extending", ""),
    ]


STAGE = "{start_step: 40, weights: {ja: 1, en: 1}}"


@pytest.mark.parametrize(
    ("stages", "step", "kind"),
    [
        (f"[{STAGE}, {{start_step: 60, weights: {{ja: 1, en: 2}}}}]", 60, "extending"),
        (f"[{STAGE}, {{start_step: 59, weights: {{ja: 1, en: 2}}}}]", 60, "fixed"),
        ("[{start_step: 40, weights: {ja: 1, en: 2}}]", 60, "fixed"),
        ("[{start_step: 40, weights: {ja: 1, en: 2}}]", 40, "extending"),
        ("[]", 60, "fixed"),
        ("[]", 40, "extending"),
    ],
)
def test_stages_may_change_from_the_resumed_step_on(stages, step, kind):
    (difference,) = compare(f"data.stages={stages}", step=step)
    assert (difference.key, difference.kind) == ("data.stages", kind)


def test_a_source_may_join_in_a_later_stage_but_not_in_the_past():
    joined = compare(
        "data.sources.math={path: m, weight: 0}",
        f"data.stages=[{STAGE}, {{start_step: 70, weights: {{ja: 1, en: 1, math: 1}}}}]",
    )
    assert {(d.key, d.kind) for d in joined} == {("data.sources.math", "extending"), ("data.stages", "extending")}
    (difference,) = compare("data.sources.math={path: m, weight: 5}", "data.stages.0.weights.math=0")[:1]
    assert (difference.key, difference.kind) == ("data.sources.math", "fixed")
    assert "give it weight 0 here and add a stage" in str(difference)


def test_keys_of_conversations_come_and_go_with_the_only_source_that_has_any():
    chat = "data.sources.talk={path: t, weight: 0, format: chat}"
    template, last = "data.chat.template=chatml", "data.chat.rewritten_history=last"
    joined = compare(chat, template, last)
    assert {(d.key, d.kind) for d in joined} == {
        ("data.sources.talk", "extending"), ("data.chat.template", "extending"), ("data.chat.rewritten_history", "extending"),
    }  # fmt: skip
    assert {d.kind for d in compare(last, before=[chat, template])} == {"fixed"}  # what was watched is another thing
    adds_rows = compare(chat, template, "data.chat.add_template_tokens=true")
    assert {d.key for d in adds_rows if d.kind == "fixed"} == {"data.chat.add_template_tokens"}
    old = parse_recipe(BASE, overrides=[chat, template], check_files=False).model_dump(mode="json")
    left = compare_for_resume(old, parse_recipe(BASE, check_files=False), 60)
    assert {(d.key, d.kind) for d in left} == {("data.sources.talk", "extending"), ("data.chat.template", "extending")}


def test_a_source_that_was_drawn_cannot_leave():
    old = parse_recipe(BASE, check_files=False).model_dump(mode="json")
    text = BASE.replace("    watched: {path: w.jsonl, weight: 0}\n", "")
    (difference,) = compare_for_resume(old, parse_recipe(text, check_files=False), 60)
    assert (difference.key, difference.kind) == ("data.sources.watched", "extending")
    text = BASE.replace("    en: {path: en.jsonl, weight: 20}\n", "").replace(", en: 1", "")
    found = {d.key: d.kind for d in compare_for_resume(old, parse_recipe(text, check_files=False), 60)}
    assert found == {"data.sources.en": "fixed", "data.stages": "fixed"}


def test_keys_that_an_older_checkpoint_lacks_count_as_their_defaults():
    old = parse_recipe(BASE, check_files=False).model_dump(mode="json")
    del old["training"]["adam_beta2"], old["training"]["preflight"], old["parallel"], old["data"]["add_bos"]
    assert compare_for_resume(old, parse_recipe(BASE, check_files=False), 60) == []
    changed = parse_recipe(BASE, overrides=["training.adam_beta2=0.9"], check_files=False)
    (difference,) = compare_for_resume(old, changed, 60)
    assert (difference.old, difference.new, difference.kind) == (0.95, 0.9, "fixed")


def test_every_section_is_compared_leaf_by_leaf():
    """A change anywhere is seen: each leaf of a full dump, altered, gives exactly its own difference."""
    new = parse_recipe(BASE, check_files=False)
    dump = new.model_dump(mode="json")

    def leaves(tree, path=()):
        for key, value in tree.items():
            below = (*path, key)
            yield from leaves(value, below) if isinstance(value, dict) else [below]

    for path in leaves(dump):
        old = json.loads(json.dumps(dump))
        node = old
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = [{"start_step": 1, "weights": {"ja": 1}}] if path[-1] == "stages" else 12345
        (difference,) = compare_for_resume(old, new, 60)
        assert difference.key == ".".join(path)
    assert issubclass(Recipe, Section)
