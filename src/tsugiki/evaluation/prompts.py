"""The text of an item before its answer, and the answer as a shot shows it, for each set.

The strings are facts of the published set-ups (llm-jp-eval 1.3.0, the Japanese harness, lm-eval 0.4.2). A task file
adds what stands once above the shots (`description`) and what stands between (`target_delimiter`,
`fewshot_delimiter`). No prompt ends with a space: the space belongs to the answer, whose first token would otherwise
be one that the model never saw after a space.
"""

from collections.abc import Callable
from typing import Any

Item = dict[str, Any]

# The four tasks of llm-jp-eval.


def _instructed(text: str) -> str:
    return f"### 入力:\n{text}\n\n### 応答:\n"


def jcommonsenseqa(item: Item) -> str:
    """Question and the five numbered options; the answer is a number."""
    options = ",".join(f"{number}.{option}" for number, option in enumerate(item["choices"]))
    return _instructed(f"質問：{item['question']}\n選択肢：{options}")


def jcommonsenseqa_less_newline(item: Item) -> str:
    """The same without its last newline, which then precedes each answer: lm-eval moves white space there anyway."""
    return jcommonsenseqa(item).removesuffix("\n")


def label_as_text(item: Item) -> str:
    """The number of the right option."""
    return str(item["label"])


def label(item: Item) -> int:
    """The index of the right option."""
    return item["label"]


def choices(item: Item) -> list[str]:
    """The options as they are."""
    return item["choices"]


def question(item: Item) -> str:
    """JEMHopQA and NIILC."""
    return _instructed(f"質問：{item['question']}")


def answer(item: Item) -> str:
    """The one right answer."""
    return item["answer"]


def joined_answers(item: Item) -> str:
    """NIILC: several answers are one string, as its instruction asks for."""
    return ",".join(item["answers"])


def jsquad(item: Item) -> str:
    """Title and paragraph, then the question."""
    return _instructed(f"文章：{item['context']}\n質問：{item['question']}")


def first_answer(item: Item) -> str:
    """The first of several annotations."""
    return item["answers"][0]


# The four tasks of the Japanese harness.

XLSUM_DESCRIPTION = "与えられたニュース記事を要約してください。\n\n"
_ARTICLE, _SUMMARY = "ニュース記事:", "要約:"


def xlsum_ja(item: Item) -> str:
    """The article; its summary follows without a space."""
    return f"{_ARTICLE}{item['text']}\n{_SUMMARY}"


def summary(item: Item) -> str:
    """The reference summary."""
    return item["summary"]


def mgsm_ja(item: Item) -> str:
    """The problem. Exemplars carry the label already and test items do not, so it is taken out first."""
    return f"問題：{item['question'].replace('問題：', '')}\nステップごとの答え："


def mgsm_ja_steps(item: Item) -> str:
    """The steps of an exemplar without the label, which stands in the prompt; the number of a test item."""
    return item["answer"].replace("ステップごとの答え：", "")


def wmt20_en_ja(item: Item) -> str:
    """English labels, as in the other direction."""
    return f"English phrase: {item['source']}\nJapanese phrase:"


def wmt20_ja_en(item: Item) -> str:
    """English labels, as in the other direction."""
    return f"Japanese phrase: {item['source']}\nEnglish phrase:"


def reference(item: Item) -> str:
    """The reference translation."""
    return item["reference"]


# The six tasks of lm-eval 0.4.2.


def openbookqa(item: Item) -> str:
    """The stem alone: the options are its continuations."""
    return item["question"]


def triviaqa(item: Item) -> str:
    """As published: one question mark more than the question has."""
    return f"Question: {item['question']}?\nAnswer:"


def question_and_answer(item: Item) -> str:
    """The question as it is: GSM8K, and TriviaQA in the default profile."""
    return f"Question: {item['question']}\nAnswer:"


def first_alias(item: Item) -> str:
    """As published: the alias that comes first, which may be an odd one ("Onion skins")."""
    return item["aliases"][0]


def hellaswag(item: Item) -> str:
    """Activity and beginning."""
    return item["context"]


def endings(item: Item) -> list[str]:
    """The four continuations."""
    return item["endings"]


def squad2(item: Item) -> str:
    """Title, paragraph and question in blocks."""
    return f"Title: {item['title']}\n\nBackground: {item['context']}\n\nQuestion: {item['question']}\n\nAnswer:"


UNANSWERABLE = "unanswerable"


def squad2_answer(item: Item) -> str:
    """The first annotation, or the word that says there is none."""
    return item["answers"][0] if item["answers"] else UNANSWERABLE


def squad2_answer_after_space(item: Item) -> str:
    """As published: a shot has two spaces before its answer, this one and that of the delimiter."""
    return " " + squad2_answer(item)


def xwinograd_en(item: Item) -> list[str]:
    """The sentence up to the blank, which either option fills: two contexts with one continuation."""
    start = item["sentence"][: item["sentence"].index("_")]
    return [start + item["option1"], start + item["option2"]]


def xwinograd_en_rest(item: Item) -> str:
    """What follows the blank."""
    return item["sentence"][item["sentence"].index("_") + 1 :].strip()


# Prompts longer than the model's context.

Encode = Callable[[str], list[int]]
"""Text to token ids, without special tokens."""
Decode = Callable[[list[int]], str]


def shorten(rule: str, item: Item, shots: list[Item], encode: Encode, decode: Decode, context: int, budget: int) -> str:
    """The prompt of `item` by the rule that a task file names (`metadata.shorten`); one that fits stays as it is.

    `context` is the most tokens that the model takes, `budget` those of the output. Rules:

    - "articles": XL-Sum's articles are cut to fit before the output;
    - "articles_published": the same, but the room left is the tokens of the reference summary and ten more, as in the
      published set-up, which told the model's prompt how long a summary is wanted. With 256 tokens of output the
      prompt may be too long still: there its first tokens were dropped;
    - "fewer_shots": as many of MGSM's shots, from the first on, as fit. (The published code draws anew with one fewer
      shot; with a context of 4,096 it never has to.)
    """
    match rule:
        case "articles":
            return _shorten_articles(item, shots, encode, decode, context - budget)
        case "articles_published":
            return _shorten_articles(item, shots, encode, decode, context - len(encode(item["summary"])) - 10)
        case "fewer_shots":
            return _fewer_shots(item, shots, encode, context - budget)
    raise ValueError(f"no rule to shorten prompts is called {rule!r}")


def _shorten_articles(item: Item, shots: list[Item], encode: Encode, decode: Decode, room: int) -> str:
    """The room is shared equally between the articles of shots and item.

    What is not an article (description, summaries) is not counted, so that the prompt may exceed the room by that.
    """
    articles = [f"{_ARTICLE}{document['text']}\n" for document in (*shots, item)]
    answers = [f"{shot['summary']}\n\n" for shot in shots] + [""]

    def prompt() -> str:
        parts = (f"{article}{_SUMMARY}{answer}" for article, answer in zip(articles, answers, strict=True))
        return XLSUM_DESCRIPTION + "".join(parts)

    if len(encode(prompt())) > room:
        articles = [_first_sentences(article, encode, decode, room // len(articles)) for article in articles]
    return prompt()


def _first_sentences(article: str, encode: Encode, decode: Decode, room: int) -> str:
    """The first sentences, up to "。", that fit into `room` tokens; of one too long alone, its first tokens."""
    sentences = article.split("。")
    for count in range(1, len(sentences) + 1):
        if len(encode("。".join(sentences[:count]))) > room:
            if count == 1:
                return decode(encode(sentences[0])[:room]) + "\n"
            return "。".join(sentences[: count - 1]) + "。\n"
    return article


def _fewer_shots(item: Item, shots: list[Item], encode: Encode, room: int) -> str:
    prompt = mgsm_ja(item)
    for count in range(len(shots), 0, -1):
        longer = "".join(f"{mgsm_ja(shot)}{mgsm_ja_steps(shot)}\n\n" for shot in shots[:count]) + prompt
        if len(encode(longer)) <= room:
            return longer
    return prompt
