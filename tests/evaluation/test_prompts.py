"""Prompts of the swallow profile, character for character, and how prompts that are too long are cut."""

import bz2
import json
import random
import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip("lm_eval")
from evaluation_tasks import load_task, requests

from tsugiki.evaluation import prompts
from tsugiki.evaluation.data import LoadedSet
from tsugiki.evaluation.tasks import items as task_items

PREAMBLE = "以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。要求を適切に満たす応答を書きなさい。\n\n### 指示:\n"
INSTRUCTIONS = {
    "jcommonsenseqa": "質問と回答の選択肢を入力として受け取り、選択肢から回答を選択してください。なお、回答は選択肢の番号（例：0）でするものとします。 回答となる数値をint型で返し、他には何も含めないことを厳守してください。",
    "jemhopqa": "質問を入力とし、回答を出力してください。回答の他には何も含めないことを厳守してください。回答が'はい'と'いいえ'で答えることができる場合、'YES'と'NO'で答えてください。",
    "niilc": "質問に対する答えを出力してください。回答の他には何も含めないことを厳守してください。答えが複数の場合、コンマ（,）で繋げてください。",
    "jsquad": "質問に対する回答を文章から一言で抽出してください。回答は名詞で答えてください。 それ以外には何も含めないことを厳守してください。",
}

# One made-up item and one made-up shot for each set, the prompt that they must give, and what follows it.
MADE_UP = {
    "jcommonsenseqa": (
        {"id": "1", "question": "空を飛ぶのは？", "choices": ["犬", "猫", "鳥", "魚", "石"], "label": 2},
        {"id": "2", "question": "海にいるのは？", "choices": ["犬", "猫", "鳥", "魚", "石"], "label": 3},
        PREAMBLE + INSTRUCTIONS["jcommonsenseqa"] + "\n\n### 入力:\n質問：海にいるのは？\n選択肢：0.犬,1.猫,2.鳥,3.魚,4.石\n\n### 応答:\n3"
        "\n\n### 入力:\n質問：空を飛ぶのは？\n選択肢：0.犬,1.猫,2.鳥,3.魚,4.石\n\n### 応答:\n",
        {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 1},
    ),
    "jemhopqa": (
        {"id": "1", "question": "鳥は飛びますか？", "answer": "YES", "type": "comparison"},
        {"id": "2", "question": "犬と猫、どちらが吠えますか？", "answer": "犬", "type": "comparison"},
        PREAMBLE + INSTRUCTIONS["jemhopqa"] + "\n\n### 入力:\n質問：犬と猫、どちらが吠えますか？\n\n### 応答:\n犬"
        "\n\n### 入力:\n質問：鳥は飛びますか？\n\n### 応答:\n",
        {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 15},
    ),
    "niilc": (
        {"id": "1", "question": "鳴くのは？", "answers": ["犬"]},
        {"id": "2", "question": "飛ぶのは？", "answers": ["鳥", "虫"]},
        PREAMBLE + INSTRUCTIONS["niilc"] + "\n\n### 入力:\n質問：飛ぶのは？\n\n### 応答:\n鳥,虫"
        "\n\n### 入力:\n質問：鳴くのは？\n\n### 応答:\n",
        {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 180},
    ),
    "jsquad": (
        {"id": "1", "context": "犬 [SEP] 犬は走る。", "question": "走るのは？", "answers": ["犬", "いぬ"]},
        {"id": "2", "context": "鳥 [SEP] 鳥は飛ぶ。", "question": "飛ぶのは？", "answers": ["鳥", "とり"]},
        PREAMBLE + INSTRUCTIONS["jsquad"] + "\n\n### 入力:\n文章：鳥 [SEP] 鳥は飛ぶ。\n質問：飛ぶのは？\n\n### 応答:\n鳥"
        "\n\n### 入力:\n文章：犬 [SEP] 犬は走る。\n質問：走るのは？\n\n### 応答:\n",
        {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 25},
    ),
    "xlsum_ja": (
        {"id": "1", "text": "犬が走った。\n続報を待つ。", "summary": "犬、走る"},
        {"id": "2", "text": "鳥が飛んだ。", "summary": "鳥、飛ぶ"},
        "与えられたニュース記事を要約してください。\n\nニュース記事:鳥が飛んだ。\n要約:鳥、飛ぶ\n\nニュース記事:犬が走った。\n続報を待つ。\n要約:",
        {"until": ["\n"], "do_sample": False, "max_gen_toks": 256},
    ),
    "mgsm_ja": (
        {"id": "1", "question": "犬が2匹、猫が3匹。全部で？", "answer": "5"},
        {"id": "2", "question": "問題：鳥が1羽、2羽来た。今は？", "answer": "ステップごとの答え：1+2=3。答えは3です。"},
        "問題：鳥が1羽、2羽来た。今は？\nステップごとの答え：1+2=3。答えは3です。\n\n問題：犬が2匹、猫が3匹。全部で？\nステップごとの答え：",
        {"until": ["\n"], "do_sample": False, "max_gen_toks": 256},
    ),
    "wmt20_en_ja": (
        {"id": "1", "source": "A dog runs.", "reference": "犬が走る。"},
        {"id": "2", "source": "A bird flies.", "reference": "鳥が飛ぶ。"},
        "English phrase: A bird flies.\nJapanese phrase: 鳥が飛ぶ。\n\nEnglish phrase: A dog runs.\nJapanese phrase:",
        {"until": ["\n"], "do_sample": False, "max_gen_toks": 256},
    ),
    "wmt20_ja_en": (
        {"id": "1", "source": "犬が走る。", "reference": "A dog runs."},
        {"id": "2", "source": "鳥が飛ぶ。", "reference": "A bird flies."},
        "Japanese phrase: 鳥が飛ぶ。\nEnglish phrase: A bird flies.\n\nJapanese phrase: 犬が走る。\nEnglish phrase:",
        {"until": ["\n"], "do_sample": False, "max_gen_toks": 256},
    ),
    "openbookqa": (
        {"id": "1", "question": "A dog can", "choices": ["fly", "run", "rain", "read"], "label": 1},
        {"id": "2", "question": "A bird can", "choices": ["fly", "rust", "rain", "read"], "label": 0},
        "A bird can fly\n\nA dog can",
        [" fly", " run", " rain", " read"],
    ),
    "triviaqa": (
        {"id": "1", "question": "Who barks?", "answer": "Dog", "aliases": ["Canis", "Dog"], "normalized_aliases": ["canis", "dog"]},
        {"id": "2", "question": "Who sings?", "answer": "Bird", "aliases": ["Aves", "Bird"], "normalized_aliases": ["aves", "bird"]},
        "Question: Who sings??\nAnswer: Aves\n\nQuestion: Who barks??\nAnswer:",
        {"until": ["\n", ".", ","], "do_sample": False, "max_gen_toks": 256},
    ),
    "hellaswag": (
        {"id": "1", "context": "Pets: A dog sits. It", "endings": ["barks.", "flies.", "rains.", "reads."], "label": 0},
        {"id": "2", "context": "Pets: A bird sits. It", "endings": ["barks.", "sings.", "rains.", "reads."], "label": 1},
        "Pets: A bird sits. It sings.\n\nPets: A dog sits. It",
        [" barks.", " flies.", " rains.", " reads."],
    ),
    "squad2": (
        {"id": "1", "title": "Dogs", "context": "Dogs bark.", "question": "Who flies?", "answers": []},
        {"id": "2", "title": "Birds", "context": "Birds sing.", "question": "Who sings?", "answers": ["Birds", "The birds"]},
        "Title: Birds\n\nBackground: Birds sing.\n\nQuestion: Who sings?\n\nAnswer:  Birds\n\n"
        "Title: Dogs\n\nBackground: Dogs bark.\n\nQuestion: Who flies?\n\nAnswer:",
        {"until": ["\n"], "do_sample": False, "max_gen_toks": 256},
    ),
    "xwinograd_en": (
        {"id": "1", "sentence": "The dog chased the cat because _ was hungry.", "option1": "The dog", "option2": "the cat", "label": 0},
        {"id": "2", "sentence": "The bird left the tree since _ was tired.", "option1": "The bird", "option2": "the tree", "label": 0},
        ["The bird left the tree since The bird was tired.\n\nThe dog chased the cat because The dog",
         "The bird left the tree since The bird was tired.\n\nThe dog chased the cat because the cat"],
        [" was hungry.", " was hungry."],
    ),
    "gsm8k": (
        {"id": "1", "question": "2 dogs, 3 cats?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
        {"id": "2", "question": "1 bird, 2 more?", "answer": "1+2=<<1+2=3>>3\n#### 3"},
        "Question: 1 bird, 2 more?\nAnswer: 1+2=<<1+2=3>>3\n#### 3\n\nQuestion: 2 dogs, 3 cats?\nAnswer:",
        {"until": ["Question:", "</s>", "<|im_end|>"], "do_sample": False, "max_gen_toks": 256},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE_UP)
def test_a_published_prompt_with_one_shot_character_for_character(name, monkeypatch, tmp_path):
    item, shot, prompt, follows = MADE_UP[name]
    own = name in ("wmt20_en_ja", "wmt20_ja_en", "xwinograd_en")
    pool = [] if own else [shot, {**shot, "id": "3"}]  # some draw one more than asked for
    loaded = LoadedSet(name, [item, shot] if own else [item], pool, {}, not own, True, [], 1)
    monkeypatch.setattr(task_items, "load_set", lambda *_: loaded)
    task = load_task(f"swallow_{name}", tmp_path)
    place = [document["id"] for document in task.eval_docs].index("1")
    if name == "xwinograd_en":  # its draws may hit the item itself: take it where they do not
        monkeypatch.setattr(task.sampler, "sample", lambda *_, **__: [shot])
    made = requests(task, place, k=1)
    assert [request[0] for request in made] == (prompt if isinstance(prompt, list) else [prompt] * len(made))
    assert [request[1] for request in made] == (follows if isinstance(follows, list) else [follows])


def test_an_unanswerable_shot_says_so():
    assert prompts.squad2_answer({"answers": []}) == "unanswerable"


# Real items: an independent rendering of the raw files with an independent replay of the published draws.


def jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def instructed(name, pairs, text):
    shots = "".join(f"\n\n### 入力:\n{question}\n\n### 応答:\n{answer}" for question, answer in pairs)
    return f"{PREAMBLE}{INSTRUCTIONS[name]}{shots}\n\n### 入力:\n{text}\n\n### 応答:\n"


def llm_jp_eval(name, tests, training):
    """(input, output) of test and training items → prompts in file order, 4 shots of the published recipe."""
    random.seed(42)
    training = list(training)
    random.shuffle(training)
    kept = training[: int(len(training) * 0.9)]
    return [instructed(name, kept[:4], text) for text, _ in tests]


def expected_jcommonsenseqa(folder):
    def sample(row):
        options = ",".join(f"{i}.{row[f'choice{i}']}" for i in range(5))
        return f"質問：{row['question']}\n選択肢：{options}", str(row["label"])

    tests, training = (map(sample, jsonl(folder / f"jcommonsenseqa/{part}-v1.1.json")) for part in ("valid", "train"))
    return llm_jp_eval("jcommonsenseqa", tests, training)


def expected_jemhopqa(folder):
    tests, training = (
        [
            (f"質問：{row['question']}", row["answer"])
            for row in json.loads((folder / f"jemhopqa/{part}.json").read_text("utf-8"))
        ]
        for part in ("dev", "train")
    )
    return llm_jp_eval("jemhopqa", tests, training)


def expected_niilc(folder):
    def samples(part):
        for question in ElementTree.parse(folder / f"niilc/NIILC-ECQA2015_{part}.xml").getroot():
            answers = [answer.text for answer in question.find("answers") if answer.text]
            if answers != ["-"]:
                yield f"質問：{question.find('text').text}", ",".join(answers)

    return llm_jp_eval("niilc", samples("test"), samples("dev"))


def expected_jsquad(folder):
    """The published training split is not there: four given examples, in the order of the recipe."""
    given = json.loads((folder / "jsquad/fewshot4_train.json").read_text("utf-8"))
    random.Random(42).shuffle(given)
    pairs = [(f"文章：{row['context']}\n質問：{row['question']}", row["answer"]) for row in given]
    for article in json.loads((folder / "jsquad/valid-v1.1.json").read_text("utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield instructed("jsquad", pairs, f"文章：{paragraph['context']}\n質問：{question['question']}")


def expected_mgsm_ja(folder):
    tests = [line.split("\t") for line in (folder / "mgsm/mgsm_ja.tsv").read_text("utf-8").splitlines()]
    exemplars = list(json.loads((folder / "mgsm/exemplars_ja.json").read_text("utf-8")).values())
    generator = random.Random(42)
    generator.shuffle(tests)
    for question, _ in tests:
        shots = generator.sample(exemplars, 4)
        yield "".join(f"{shot['q']}\n{shot['a']}\n\n" for shot in shots) + f"問題：{question}\nステップごとの答え："


def expected_wmt20(folder, pair, source, target, labels):
    sides = [
        [line.rstrip() for line in (folder / f"wmt20/newstest2020.{pair}.{side}").read_text("utf-8").split("\n")[:-1]]
        for side in (source, target)
    ]
    documents = list(zip(*sides, strict=True))
    tests = list(documents)
    generator = random.Random(42)
    generator.shuffle(tests)
    for document in tests:
        shots = [shot for shot in generator.sample(documents, 5) if shot != document][:4]
        yield "".join(f"{labels[0]} phrase: {a}\n{labels[1]} phrase: {b}\n\n" for a, b in shots) + (
            f"{labels[0]} phrase: {document[0]}\n{labels[1]} phrase:"
        )


def expected_gsm8k(folder):
    generator, training = random.Random(1234), jsonl(folder / "gsm8k/train.jsonl")
    for row in jsonl(folder / "gsm8k/test.jsonl"):
        shots = generator.sample(training, 4)
        yield "".join(f"Question: {shot['question']}\nAnswer: {shot['answer']}\n\n" for shot in shots) + (
            f"Question: {row['question']}\nAnswer:"
        )


REAL = {
    "jcommonsenseqa": expected_jcommonsenseqa,
    "jemhopqa": expected_jemhopqa,
    "niilc": expected_niilc,
    "jsquad": expected_jsquad,
    "mgsm_ja": expected_mgsm_ja,
    "wmt20_en_ja": lambda folder: expected_wmt20(folder, "eng-jpn", "eng", "jpn", ("English", "Japanese")),
    "wmt20_ja_en": lambda folder: expected_wmt20(folder, "jpn-eng", "jpn", "eng", ("Japanese", "English")),
    "gsm8k": expected_gsm8k,
}


@pytest.mark.parametrize("name", REAL)
def test_published_prompts_on_real_items(name, evaldata):
    expected = list(REAL[name](evaldata))
    task = load_task(f"swallow_{name}", evaldata)
    assert len(task.eval_docs) == len(expected)
    for place in (0, 1, 57, len(expected) - 1):
        (request,) = requests(task, place)
        assert request[0] == expected[place]


def test_xwinograd_shots_on_real_items_include_the_published_loss_of_one(evaldata):
    task = load_task("swallow_xwinograd_en", evaldata)
    items = list(task.eval_docs)
    generator = random.Random(1234)
    short = []
    for place, item in enumerate(items):
        drawn = [shot for shot in generator.sample(items, 4) if shot["id"] != item["id"]]
        short += [place] if len(drawn) < 4 else []
        if place in (0, 1, 700) or short == [place]:
            fill = [shot["sentence"].replace("_", shot[f"option{shot['label'] + 1}"], 1) for shot in drawn]
            start = item["sentence"].split("_")[0]
            contexts = ["\n\n".join([*fill, start + option]) for option in (item["option1"], item["option2"])]
            made = requests(task, place)
            assert [request[0] for request in made] == contexts
            assert {request[1] for request in made} == {" " + item["sentence"].split("_", 1)[1].strip()}
    assert len(short) == 6


def test_queries_on_real_items_of_sets_without_a_training_split(evaldata):
    """Their shots are reserved items (see test_shots); what is asked is as published."""
    trivia = {
        row["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
        for row in jsonl(evaldata / "triviaqa/triviaqa_sm_sub.jsonl")
    }
    task = load_task("swallow_triviaqa", evaldata)
    for place in (0, 99):
        prompt = requests(task, place)[0][0]
        question = prompt.split("\n\n")[-1].removeprefix("Question: ").removesuffix("?\nAnswer:")
        assert question in trivia
        assert prompt.count("?\nAnswer:") == 5

    lines = bz2.decompress((evaldata / "hellaswag/hellaswag_val_full.txt.bz2").read_bytes()).decode("utf-8").split("\n")
    task = load_task("swallow_hellaswag", evaldata)
    for place in (0, 99):
        row = 6 * (int(task.eval_docs[place]["id"]) - 1)
        made = requests(task, place)
        assert {prompt.split("\n\n")[-1] for prompt, _ in made} == {lines[row]}
        assert [ending for _, ending in made] == [" " + line for line in lines[row + 2 : row + 6]]

    rows = {row["query"]: row["choices"] for row in jsonl(evaldata / "openbookqa/openbook_qa.jsonl")}
    task = load_task("swallow_openbookqa", evaldata)
    made = requests(task, 3)
    assert [option for _, option in made] == [" " + choice for choice in rows[made[0][0].split("\n\n")[-1]]]

    task = load_task("swallow_squad2", evaldata)
    item, (prompt, _) = task.eval_docs[5], requests(task, 5)[0]
    query = f"Title: {item['title']}\n\nBackground: {item['context']}\n\nQuestion: {item['question']}\n\nAnswer:"
    assert prompt.endswith("\n\n" + query)
    assert prompt.count("\n\nAnswer:  ") == 4


@pytest.mark.parametrize("profile", ["swallow", "tsugiki"])
def test_no_prompt_ends_with_a_space(profile, official_data):
    for name in MADE_UP:
        for prompt, _ in requests(load_task(f"{profile}_{name}", official_data), 0):
            assert not prompt.endswith((" ", "　"))


# Cutting. A token is a character here, so that lengths can be counted by eye.


def encode(text):
    return [ord(character) for character in text]


def decode(tokens):
    return "".join(map(chr, tokens))


ARTICLE = {"id": "1", "text": "一二三。四五六。七八九。", "summary": "要"}
SHOT = {"id": "2", "text": "あいう。えお。", "summary": "約"}
WHOLE = "与えられたニュース記事を要約してください。\n\nニュース記事:あいう。えお。\n要約:約\n\nニュース記事:一二三。四五六。七八九。\n要約:"


def test_a_prompt_that_fits_stays_as_it_is():
    description = {"id": "3", "text": "長" * 40, "summary": "長" * 40}
    whole = prompts.XLSUM_DESCRIPTION + prompts.xlsum_ja(description)
    assert prompts.shorten("articles", description, [], encode, decode, len(whole) + 10, 10) == whole
    assert prompts.shorten("articles", ARTICLE, [SHOT], encode, decode, len(WHOLE) + 10, 10) == WHOLE


@pytest.mark.parametrize(
    ("share", "shot", "article"),
    [
        # 7 characters of label, then "あいう。えお。\n" (8) and "一二三。四五六。七八九。\n" (13); a sentence counts without its "。"
        (19, "あいう。えお。\n", "一二三。四五六。七八九。\n"),
        (18, "あいう。えお。\n", "一二三。四五六。七八九。\n"),
        (17, "あいう。えお。\n", "一二三。四五六。\n"),
        (14, "あいう。えお。\n", "一二三。四五六。\n"),
        (13, "あいう。えお。\n", "一二三。\n"),
        (10, "あいう。\n", "一二三。\n"),
        (9, "あい\n", "一二\n"),
    ],
)
def test_articles_are_cut_sentence_by_sentence_to_an_equal_share(share, shot, article):
    expected = (
        f"与えられたニュース記事を要約してください。\n\nニュース記事:{shot}要約:約\n\nニュース記事:{article}要約:"
    )
    made = prompts.shorten("articles", ARTICLE, [SHOT], encode, decode, 2 * share + 256, 256)
    assert made == expected


def test_the_published_room_depends_on_the_reference_summary():
    budget = len(ARTICLE["summary"]) + 10
    for context in (len(WHOLE) + budget, len(WHOLE) + budget - 1, 50):
        published = prompts.shorten("articles_published", ARTICLE, [SHOT], encode, decode, context, 256)
        assert published == prompts.shorten("articles", ARTICLE, [SHOT], encode, decode, context, budget)


def test_shots_of_mgsm_go_one_by_one():
    item = {"question": "犬は？", "answer": "1"}
    shots = [{"question": f"問題：鳥{i}は？", "answer": f"ステップごとの答え：答えは{i}です。"} for i in range(3)]
    texts = [f"問題：鳥{i}は？\nステップごとの答え：答えは{i}です。\n\n" for i in range(3)]
    last = "問題：犬は？\nステップごとの答え："
    for kept in range(4):
        prompt = "".join(texts[:kept]) + last
        for spare in (0, 5):
            assert prompts.shorten("fewer_shots", item, shots, encode, decode, len(prompt) + spare + 7, 7) == prompt
    assert prompts.shorten("fewer_shots", item, shots, encode, decode, 8, 7) == last


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'nonsense'"):
        prompts.shorten("nonsense", ARTICLE, [], encode, decode, 100, 10)
