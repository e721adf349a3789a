"""What the report says of chat sources, from their manifests."""

import json
import re
from dataclasses import asdict
from html import unescape

from report_runs import BATCH, LENGTH, make_run, write
from report_runs import manifest as manifest_of

from tsugiki.chat.counts import Counts
from tsugiki.corpus.conversation_figures import ChatManifest, length_figures
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
