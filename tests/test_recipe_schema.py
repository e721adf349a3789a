"""The JSON Schema, by which editors check, takes and refuses single values as the recipe does; `jsonschema` judges."""

import copy

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tsugiki.recipe import Recipe
from tsugiki.recipe_file import json_schema
from tsugiki.recipe_names import all_keys

GOOD = {
    "run_dir": "runs/first",
    "model": {"name_or_path": "owner/model"},
    "data": {
        "sequence_length": 512,
        "sources": {"ja": {"path": "ja.jsonl", "weight": 80}, "en.web": {"hub": "owner/data", "weight": 20.5}},
        "stages": [{"start_step": 50, "weights": {"ja": 1, "en.web": 0}}],
    },
    "training": {
        "max_steps": 100, "global_batch_size": 8, "micro_batch_size": 2, "learning_rate": 2e-5, "save_steps": 50,
        "freeze": [{"parameters": ["model.*"], "until_step": 3}],
    },
}  # fmt: skip
SCHEMA = Draft202012Validator(json_schema())
VALUES = (
    None, True, -1, -0.5, 0, 0.0, 1e-9, 0.5, 1, 1.0, 1.5, 2, 1023, 1024, 1440, 1441, 1e12, 2e12, 1e15, 2e15, 2**63 - 1, 2**63,
    "", "x", "cosine", "fp32", "full", [], [""], ["x"], ["none"], [1], {}, {"x": 1},
)  # fmt: skip


def changed(path, value):
    tree = copy.deepcopy(GOOD)
    node = tree
    for part in path[:-1]:
        node = node[part] if isinstance(node, list) else node.setdefault(part, {})
    node[path[-1]] = value
    return tree


def taken(tree):
    try:
        Recipe.model_validate(tree)
    except ValidationError:
        return False
    return True


def test_it_is_a_schema_without_words_that_mean_nothing():
    Draft202012Validator.check_schema(SCHEMA.schema)
    known = {"$schema", "$defs", "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum",
             "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
             "minLength", "minProperties", "minimum", "properties", "propertyNames", "required", "title", "type"}  # fmt: skip

    def words(schema):
        yield from schema
        for below in ("items", "additionalProperties"):
            yield from words(schema[below]) if isinstance(schema.get(below), dict) else ()
        for part in [
            *schema.get("anyOf", []),
            *schema.get("properties", {}).values(),
            *schema.get("$defs", {}).values(),
        ]:
            yield from words(part)

    assert set(words(SCHEMA.schema)) <= known | {"resume"}


def test_a_good_recipe_is_taken():
    assert SCHEMA.is_valid(GOOD)
    assert taken(GOOD)


@pytest.mark.parametrize("key", sorted(all_keys()))
def test_each_key_takes_the_values_that_the_recipe_takes(key):
    path = [int(part) if part.isdecimal() else part for part in key.replace("[]", ".0").replace("*", "ja").split(".")]
    for value in VALUES:
        tree = changed(path, value)
        assert SCHEMA.is_valid(tree) == taken(tree), (key, value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("training", "max_steps"), 0),
        (("training", "learning_rate"), 0),
        (("data", "sequence_length"), 1),
        (("data", "max_document_bytes"), 1023),
        (("data", "held_out"), 1),
        (("data", "sources", "ja", "path"), []),
        (("run_dir",), ""),
        (("lr",), 1),
    ],
)
def test_values_that_mean_nothing_are_refused(path, value):
    assert not SCHEMA.is_valid(changed(path, value))


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("ja", True), ("en.web", True), ("-", True), ("a" * 64, True), ("console", True), ("com", True),
        ("", False), ("a" * 65, False), (".hidden", False), ("a b", False), ("../ja", False), ("日本", False),
        ("con", False), ("Aux.web", False), ("LPT1", False),
    ],
)  # fmt: skip
def test_names_of_sources_are_judged_alike(name, good):
    tree = changed(("data", "sources", name), {"path": "x", "weight": 1})
    assert SCHEMA.is_valid(tree) == taken(tree) == good
