"""Progress of preparing and evaluating: a bar on a terminal, few plain lines elsewhere."""

import io
from types import SimpleNamespace

from rich.console import Console

from tsugiki import progress
from tsugiki.progress import EvaluationProgress, PrepareProgress, describe_manifest, size


def lines_of(steps, terminal=False):
    stream = io.StringIO()
    with PrepareProgress(Console(file=stream, force_terminal=terminal, width=100)) as shown:
        steps(shown)
    return stream.getvalue()


def prepare_two(shown):
    shown.start("web [old]", 4_000_000)
    for _ in range(4):
        shown.advance(1_000_000, 250)
    shown.finish("web [old]", False)
    shown.finish("books", True)


def test_one_line_a_source_without_a_terminal_and_brackets_are_text():
    lines = lines_of(prepare_two).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("prepare    web [old]: 1,000 documents, 4 MB in ")
    assert lines[1] == "prepare    books: up to date"


def test_a_long_source_speaks_now_and_then(monkeypatch):
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))

    def steps(shown):
        shown.start("web", 10_000_000)
        for _ in range(3):
            shown.advance(1_000_000, 10)

    text = lines_of(steps)
    assert "of 10 MB" in text
    assert "s left" in text
    assert 1 <= len(text.splitlines()) < 3


def test_bar_on_a_terminal_is_gone_at_the_end_and_after_an_error():
    assert "1,000 documents, 4 MB" in lines_of(prepare_two, terminal=True)
    shown = PrepareProgress(Console(file=io.StringIO(), force_terminal=True))
    try:
        with shown:
            shown.start("web", 0)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert shown._bar is None


def test_manifest_line_names_what_was_left_out():
    manifest = SimpleNamespace(
        train=SimpleNamespace(documents=1200, tokens=40_000, bytes=160_000),
        held_out=SimpleNamespace(documents=30, tokens=900, bytes=31_000),
        add_bos=True, add_eos=True, bad={"empty": 2}, bad_examples=["web.jsonl:17: empty: no text"],
        replaced_surrogates=0, split_documents=0, filtered=None, foreign=None, chat=None, text=None,
    )  # fmt: skip
    text = describe_manifest("web", manifest)
    assert "1,200 documents, 40,000 tokens, 160 kB" in text
    assert "4.00 bytes a token" in text
    assert "2 empty, first at web.jsonl:17" in text


def test_sizes_have_three_digits_and_decimal_units():
    assert [size(v) for v in (812, 1500, 58_300_000, 999_900, 123_456)] == [
        "812 B",
        "1.5 kB",
        "58.3 MB",
        "1 MB",
        "123 kB",
    ]


def test_evaluation_without_a_terminal_a_line_now_and_then_says_how_long_still(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with EvaluationProgress(Console(file=out, width=120)) as shown:
        shown.begin("base  [JCom]  1 of 14", 4, 1000)
        for tokens, seconds in ((100, 5), (100, 16), (300, 10), (500, 5)):
            now[0] += seconds
            shown.advance(tokens)
    # At 21 s: 200 of 1,000 tokens are done, so that 800 are left at 200 / 21 a second.
    assert out.getvalue() == "evaluate   base  [JCom]  1 of 14: 2 of 4 requests, 84 s left\n"


def test_the_bar_of_evaluation_goes_when_the_work_is_done_or_broken_off():
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    shown = EvaluationProgress(console)
    shown.begin("base  JCom  1 of 14", 2, 20)
    shown.advance(10)
    assert shown._bar is not None
    shown.advance(10)
    assert shown._bar is None
    try:
        with shown:
            shown.begin("base  NIILC  2 of 14", 2, 20)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert shown._bar is None
    assert "base  JCom  1 of 14" in out.getvalue()
