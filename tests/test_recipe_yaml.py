"""YAML is read by the 1.2 core schema, with limits, and every refusal names its line."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.errors import RecipeError
from tsugiki.recipe_yaml import MAX_ALIASES, MAX_DEPTH, plain_value, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("2.0E+5", 2e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("012", 12),
        ("0o14", 12),
        ("0x1F", 31),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars_are_what_yaml_1_2_says(text, value):
    read_value = read(f"key: {text}", "r").tree["key"]
    assert read_value == value
    assert type(read_value) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", "1e999", "9" * 50])
def test_numbers_that_no_key_takes_are_refused_with_their_line(text):
    with pytest.raises(RecipeError, match=r"^r:2: key: "):
        read(f"first: 1\nkey: {text}", "r")


def test_keys_are_text_as_written():
    assert list(read("{on: 1, 012: 2, null: 3, 1.50: 4}", "r").tree) == ["on", "012", "null", "1.50"]


def test_lines_of_keys_and_list_items():
    document = read("a: 1\nb:\n  c:\n    - x\n    - {d: 2}\n", "r")
    assert document.lines[("a",)] == 1
    assert document.lines[("b", "c")] == 3
    assert document.lines[("b", "c", 1)] == 5
    assert document.lines[("b", "c", 1, "d")] == 5


def test_every_duplicate_key_is_named_with_both_lines():
    with pytest.raises(RecipeError) as caught:
        read("a: 1\nb: {c: 1, c: 2}\na: 3\na: 4\n", "r.yaml")
    assert str(caught.value).splitlines() == [
        "r.yaml:2: b.c: given twice, first on the same line; keep one",
        "r.yaml:3: a: given twice, first on line 1; keep one",
        "r.yaml:4: a: given twice, first on line 1; keep one",
    ]


def test_aliases_work_and_are_counted():
    assert read("a: &x {b: 1}\nc: *x", "r").tree == {"a": {"b": 1}, "c": {"b": 1}}
    many = "a: &x 1\nb: [" + ", ".join(["*x"] * (MAX_ALIASES + 1)) + "]"
    with pytest.raises(RecipeError, match="more than 100 aliases"):
        read(many, "r")


def test_alias_bomb_is_refused_before_it_unfolds():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    with pytest.raises(RecipeError, match=r"once aliases unfold"):
        read("\n".join(lines), "r")


def test_an_alias_inside_its_own_anchor_is_refused():
    with pytest.raises(RecipeError):
        read("a: &a [*a]", "r")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_depth_is_limited(opening):
    with pytest.raises(RecipeError):
        read(opening * 5000, "r")
    nested = "[" * (MAX_DEPTH + 5) + "]" * (MAX_DEPTH + 5)
    with pytest.raises(RecipeError, match="deeper than 50"):
        read(nested, "r")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system [ls]", "r:1: tags such as"),
        ("a: !!str 5", "r:1: tags such as"),
        ("a: 1\nb: c: d", "r:2: not valid YAML: mapping values"),
        ("a:\n\t- 1", "spaces, not tabs"),
        ("a: *.jsonl", "needs quotes"),
        ("a: 1\n---\nb: 2", "r:2: not valid YAML: a second document"),
        ("a: [1", "not valid YAML"),
        ("a: @b", "needs quotes"),
        ('a: "x\\0y"', "r:1: a: a control character"),
        ('a: "\\ud800"', "r:1: a: a control character"),
        ("a: \x07", "r:1: a character that YAML does not allow"),
        ("? [1]\n: 2", "a key must be plain text"),
        ('"": 2', "an empty key"),
        ("# " + "x" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_refusals_say_where_and_why(text, said):
    with pytest.raises(RecipeError) as caught:
        read(text, "r")
    assert said in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    said = "r:"
    try:
        read(text, "r")
    except RecipeError as error:
        said = str(error)
    assert said.startswith("r:")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), inner)
        ),
        max_leaves=10,
    )
)
def test_json_values_are_read_as_json_reads_them(tree):
    # JSON is a part of YAML 1.2, so the JSON writer is an independent oracle of numbers and words.
    import json

    assert read(json.dumps({"tree": tree}), "r").tree == {"tree": tree}


@given(st.from_regex(r"[-+]?[0-9.]{1,12}([eE][-+]?[0-9]{1,2})?", fullmatch=True))
def test_a_plain_scalar_is_a_number_exactly_where_python_can_read_one(text):
    value = plain_value(text)
    try:
        expected = float(text)
    except ValueError:
        assert value == text
    else:
        assert value == expected


def test_pyyaml_alone_would_have_read_otherwise():
    """The reason for this module; if PyYAML ever changes, it can go."""
    assert yaml.safe_load("[2e-5, no, 012, 12:30]") == ["2e-5", False, 10, 750]
