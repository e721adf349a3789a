"""The generated conversations: each answer worked out again from the text of its question alone, and the split."""

import re
from collections import Counter

import pytest

from tsugiki.quickstart.instruct.exercises import KINDS
from tsugiki.quickstart.instruct.generated import BARE_SYSTEM, generated, is_held_out
from tsugiki.quickstart.instruct.sample import GENERATED, GENERATED_HELD_OUT, SEED
from tsugiki.quickstart.instruct.words import LETTERS, THINGS, WORDS
from tsugiki.quickstart.instruct.written import written

KANA = "あいうえお かきくけこ さしすせそ たちつてと なにぬねの はひふへほ まみむめも やゆよ らりるれろ わ"


@pytest.fixture(scope="module")
def trained():
    return generated(SEED, GENERATED)


@pytest.fixture(scope="module")
def held_out():
    return generated(SEED, GENERATED_HELD_OUT, held_out=True)


def exchanges(example):
    turns = [content for role, content in example.messages if role != "system"]
    return list(zip(turns[::2], turns[1::2], strict=True))


def items(text):
    return re.split(", |、", text)


def worked_out(question):
    """The answer's contents, as a list of items or a number, found from the question's words alone."""
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    body = re.split(r"[:?。] ?(?=\S)", question)[-1].rstrip("。?.？")
    plain = re.sub(r"\d+", "N", question)
    if re.match(r"(?:Repeat|Write the same|Copy)|次の(?:言葉|数)をそのまま|同じ|まねして", question):
        return items(body)
    if re.search(r"reverse order|from last to first|逆の順|後ろから順", question):
        return items(body)[::-1]
    if re.search(r"^Which word is the|の言葉は何ですか", question):
        return [items(body)[0 if "first" in question or "最初" in question else -1]]
    if re.search(r"from (?:large|small)|(?:大きい|小さい)順", question):
        ordered = sorted(numbers, reverse="from large" in question or "大きい順" in question)
        return [str(number) for number in ordered]
    if re.search(r"largest|いちばん大きい", question):
        return max(numbers)
    if re.search(r"smallest|いちばん小さい", question):
        return min(numbers)
    if re.search(r"letters|五十音順", question):
        order = "abcdefghijklmnopqrstuvwxyz" + KANA.replace(" ", "")
        return sorted(items(body), key=order.index)
    if re.match(r"How many words|Count the words|言葉", question):
        return len(items(body))
    if match := re.match(r'(?:How many times does "(.*)" occur)|「(.*)」は何回', question):
        return items(body).count(match[1] or match[2])
    if re.match(r"Count|N.*から.*まで", question) or re.match(r"\d+から\d+まで", question):
        first, last = numbers
        step = 1 if first < last else -1
        assert ("down" in question or "逆に" in question) == (step < 0)
        return [str(number) for number in range(first, last + step, step)]
    if re.search(r"comes after|の次の数", question):
        return numbers[0] + 1
    if re.search(r"comes before|の一つ前の数", question):
        return numbers[0] - 1
    if re.search(r"N \+ N|^Add|plus|足す|get N more|もらいました", plain):
        return numbers[0] + numbers[1]
    if re.match(r"Take", plain):
        return numbers[1] - numbers[0]
    if re.search(r"N - N|minus|引く|away|あげました", plain):
        return numbers[0] - numbers[1]
    if re.search(r"N × N|^Multiply|times|かける", plain):
        return numbers[0] * numbers[1]
    assert re.search(r"N ÷ N|^Divide|divided|割る", plain), question
    quotient, rest = divmod(*numbers)
    assert rest == 0
    return quotient


def right(question, answer):
    expected = worked_out(question)
    if isinstance(expected, int):
        return re.findall(r"\d+", answer) == [str(expected)]
    return items(re.sub(r'^It is "(.*)"\.$|^「(.*)」です。$', r"\1\2", answer)) == expected


def test_every_answer_is_right(trained, held_out):
    others = generated(7, 1_000)
    for example in trained + held_out + others:
        for question, answer in exchanges(example):
            assert right(question, answer), (question, answer)


def test_the_check_finds_a_wrong_answer():
    assert not right("What is 7 + 5?", "It is 13.")
    assert not right("12から5を引くといくつになりますか。", "17です。")
    assert not right("Repeat these words: cat, dog", "dog, cat")
    assert not right("「猫」は何回出てきますか。猫、犬、猫", "3回です。")
    assert not right("Count down from 5 to 3.", "3, 4, 5")
    assert right("Count down from 5 to 3.", "5, 4, 3")


def test_held_out_arguments_are_disjoint_from_those_of_any_seed(trained, held_out):
    apart = {argument for example in held_out for argument in example.arguments}
    for examples in (trained, generated(99, 1_000)):
        assert apart.isdisjoint(argument for example in examples for argument in example.arguments)


def test_held_out_arguments_are_in_no_trained_question(trained, held_out):
    """The same read from the text of the questions alone, whatever their order, form and language."""
    apart = {_read(example.kind, question) for example in held_out for question, _ in exchanges(example)}
    assert len(apart) > 150
    assert apart.isdisjoint(_read(example.kind, question) for example in trained for question, _ in exchanges(example))


def _read(kind, question):
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    if kind in ("addition", "subtraction", "gift", "multiplication", "division"):
        family = "product" if kind in ("multiplication", "division") else "sum"
        return (family, *sorted([*numbers, worked_out(question)]))  # 7 + 5 and 12 - 5 are both 5, 7, 12
    if kind == "neighbour":
        return ("neighbours", *sorted([*numbers, worked_out(question)]))
    if kind in ("counting", "copied_digits"):
        return (kind, *sorted(numbers))
    if kind in ("sorted_numbers", "extreme_number"):
        return ("numbers", *sorted(numbers))
    body = items(re.split(r"[:?。] ?", question)[-1])
    english = {japanese: english for english, japanese in WORDS}
    return (kind == "counted_repeats", *sorted(english.get(word, word) for word in body))


def test_no_written_conversation_states_a_held_out_sum():
    for example in written():
        text = "\n".join(content for _, content in example.messages)
        for one, sign, other in re.findall(r"(\d+) ([-+×÷]) (\d+)", text):
            numbers = int(one), int(other)
            family = {"+": ("sum", *sorted(numbers)), "×": ("product", *sorted(numbers))}
            assert not is_held_out(family.get(sign, ("none",))), text


def test_half_is_japanese_and_each_language_keeps_to_itself(trained, held_out):
    for examples in (trained, held_out):
        assert Counter(example.language for example in examples) == dict.fromkeys(("en", "ja"), len(examples) // 2)
        for example in examples:
            text = "".join(content for _, content in example.messages)
            if example.language == "en":
                assert text.isascii() or set(text) - set(map(chr, range(128))) <= set("×÷")
            else:
                assert not re.search("[A-Za-z]", text)


def test_no_two_are_alike_and_roles_alternate(trained, held_out):
    both = [example.messages for example in trained + held_out]
    assert len(set(both)) == len(both) == GENERATED + GENERATED_HELD_OUT
    assert GENERATED >= 2_000
    for messages in both:
        roles = [role for role, _ in messages]
        turns = roles[roles[0] == "system" :]
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert all(content.strip() == content != "" for _, content in messages)


def test_every_kind_comes_in_both_languages_and_both_parts(trained, held_out):
    names = {kind.__name__ for kind in KINDS}
    for examples, least in ((trained, 60), (held_out, 4)):
        counts = Counter((example.kind, example.language) for example in examples)
        assert set(counts) == {(name, language) for name in names for language in ("en", "ja")}
        assert min(counts.values()) >= least, counts


def test_some_have_more_turns_and_some_a_system_message(trained):
    assert 300 < sum(len(exchanges(example)) > 1 for example in trained) < 800
    bare = [example for example in trained if example.messages[0][0] == "system"]
    assert 100 < len(bare) < 500
    for example in bare:
        assert example.messages[0][1] == BARE_SYSTEM[example.language]
        assert all(answer.isdecimal() for _, answer in exchanges(example))


def test_longer_list_begins_with_the_shorter_and_seeds_differ():
    assert generated(3, 40) == generated(3, 100)[:40]
    assert generated(3, 40) != generated(4, 40)


def test_words_are_distinct_and_letters_in_order():
    assert len({english for english, _ in WORDS}) == len({japanese for _, japanese in WORDS}) == len(WORDS)
    assert all(english.endswith("s") for english, _, _ in THINGS)
    assert LETTERS["ja"] == KANA.replace(" ", "")
    assert list(LETTERS["en"]) == sorted(set(LETTERS["en"]))
