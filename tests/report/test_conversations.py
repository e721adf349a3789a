"""What the report says of chat sources, from their manifests."""

import json
import re
from dataclasses import asdict
from html import unescape

from report_runs import BATCH, LENGTH, make_run, write
from report_runs import manifest as manifest_of

from tsugiki.chat.counts import Counts
from tsugiki.corpus.conversation_figures import ChatManifest, length_figures
from tsugiki.report.card import make_card
from tsugiki.report.figures import order_of_data
from tsugiki.report.page import make_page
from tsugiki.report.run_directory import read_run


def chat_run(folder, length=LENGTH):
    """A run whose source `novels` holds 400 conversations, three of them over a window."""
    run = make_run(folder)
    manifest = manifest_of("novels", 400)
    counts = Counts(
        conversations=400, samples=402, turns=500, tokens=2_000, tokens_unrepeated=1_900, trained_tokens=800,
        rewritten_turns=7, conversations_divided=2, conversations_dropped=1, exchanges_dropped=3,
    )  # fmt: skip
    manifest.chat = ChatManifest(
        "qwen", "<|im_end|>", 5, length, length_figures({5: 300, 20: 97, 40: 3}, length), asdict(counts),
        {"train": 800, "held_out": 20}, packs=70,
    )  # fmt: skip
    manifest.train.tokens = 1_792
    write(run / "data/novels/manifest.json", manifest.as_json())
    (run / "checkpoints/step_00000020/state.json").unlink()
    (run / "checkpoints/step_00000040/state.json").unlink()
    return read_run(run)


def test_the_page_tells_lengths_padding_what_is_trained_and_what_was_left_out(tmp_path):
    page = make_page([chat_run(tmp_path / "run")])
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert f"novels 400 1.79k 44.6% 70 of {LENGTH} 20.00% 86.0% 3 3" in text
    assert "novels: chat template: qwen; answers end in <|im_end|>; tokens a conversation: median 5, longest 40" in text
    assert "longer than a window of 32: 3, of which 2 were divided before a user's turn and 1 left out" in text
    assert "7 of 500 turns needed a sample of their own (1,900 tokens became 2,000)" in text
    assert "Conversations by length in tokens" in text


def test_where_answers_end_before_and_after(tmp_path):
    run = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    for line, (at_end, within) in ((validations[0], (0.0213, 0.0004)), (validations[-1], (0.9345, 0.0121))):
        line["sources"]["novels"] |= {"end_probability": at_end, "false_end_probability": within}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", make_page([read_run(run)]))).split())
    assert "Where answers end" in text
    assert "novels 2.13% 93.45% 0.04% 1.21%" in text
    assert "Where answers end" not in make_page([read_run(make_run(tmp_path / "text"))])


def test_packs_are_the_windows_of_a_chat_source(tmp_path):
    run = chat_run(tmp_path / "run")
    order = order_of_data(run)
    assert order.windows["novels"] == 70
    assert sum(plan.samples for plan in order.plan(BATCH * 40)) == BATCH * 40
    assert order_of_data(chat_run(tmp_path / "other", length=2 * LENGTH)) is None  # nobody knows them here


def words_of(page):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_answers_of_base_and_model_stand_beside_the_conversations_own(tmp_path):
    folder = make_run(tmp_path / "run")
    path = folder / "samples.json"
    found = json.loads(path.read_text("utf-8"))
    one = found["answers"][0]
    talk = one | {"source": "<talk>", "before": None, "earlier": 3, "messages": [
        {"role": "system", "content": "Be *brief*\n# now"}, {"role": "user", "content": "<b>1</b>"},
    ], "after": {"text": "x" * 900, "stopped": False}}  # fmt: skip
    write(path, found | {"answers": [one, one | {"reference": "second"}, talk]})
    run = read_run(folder)
    assert run.problems == []
    page = make_page([run])
    assert "user 接ぎ木は？ before (did not end) 木が after 枝を reference answer 枝を継ぐこと" in words_of(page)
    assert "3 earlier messages system Be *brief* # now user <b>1</b> after (did not end) xxx" in words_of(page)
    assert "<b>1" not in page
    assert "the likeliest answer of the base and of the final model, of 200 tokens at most" in words_of(page)
    assert "no tokens for the chat template's marks" in words_of(page)

    card = make_card(run)
    assert (
        "### novels\n\n**user:** 接ぎ木は？\n\n**base (did not end):** 木が\n\n**this model:** 枝を\n\n"
        "**reference answer:** 枝を継ぐこと\n\n### \\<talk\\>\n\n**system:** Be \\*brief\\* # now\n\n"
        "**user:** \\<b\\>1\\</b\\>\n\n**this model (did not end):** " + "x" * 399 + "…\n"
    ) in card
    assert "second" not in card


def test_answers_of_a_run_without_texts_to_go_on_with(tmp_path):
    folder = make_run(tmp_path / "run")
    found = json.loads((folder / "samples.json").read_text("utf-8"))
    write(folder / "samples.json", found | {"samples": []})
    page = words_of(make_page([read_run(folder)]))
    assert "木が after 枝を" in page
    assert "Beginnings of held-out documents" not in page


def test_samples_of_earlier_runs_have_no_answers_and_are_read(tmp_path):
    folder = make_run(tmp_path / "run")
    found = json.loads((folder / "samples.json").read_text("utf-8"))
    write(folder / "samples.json", {key: found[key] for key in ("checkpoint", "settings", "samples")})
    run = read_run(folder)
    assert run.problems == []
    assert "、猫が" in make_page([run])
    assert "Beginnings of held-out conversations" not in make_page([run])
    assert "## Answers" not in make_card(run)
