"""What is shown while models are evaluated: a bar on a terminal, a line now and then elsewhere."""

import io

from rich.console import Console

from tsugiki.evaluation import progress
from tsugiki.evaluation.progress import EvaluationProgress


def test_without_a_terminal_a_line_now_and_then_says_how_long_still(monkeypatch):
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


def test_on_a_terminal_the_bar_goes_when_the_work_is_done_or_broken_off():
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
