"""The judge's rule and its choice as sentences: what stands beside the table, so that nobody has to trust it."""

from collections.abc import Mapping, Sequence

from tsugiki.experiment_results import JudgedTrial, Judgement, Metric, Verdict


def rule_in_words(gain: Sequence[Metric], keep: Mapping[Metric, float]) -> str:
    """One sentence."""
    conditions = [f"improve {gain[0].name}"]
    if gain[1:]:
        conditions.append(f"leave {listed([metric.name for metric in gain[1:]])} no worse than the base's")
    if keep:
        falls = [
            f"{metric.name} {'fall' if metric.higher_is_better else 'rise'} by at most {number(tolerance)}"
            for metric, tolerance in keep.items()
        ]
        conditions.append(f"let {listed(falls)}")
    least = "the smallest worst fall, in units of what is allowed," if keep else "the largest gain"
    rule = (
        f"Among the trials that {listed(conditions)}, those whose {gain[0].name} cannot be told from the best one's "
        "(the 95 % interval of the paired difference contains 0) are tied, and of these the one with "
        f"{least} is recommended"
    )
    return f"{rule}; where there is none, the one among those that gain with the smallest worst excess is nearest."


def choice_in_words(judgement: Judgement) -> str:
    """What the rule chose, with the figures that it chose by."""
    by_name = {trial.name: trial for trial in judgement.trials}
    chosen = by_name.get(judgement.recommended or judgement.nearest or "")
    excluded = [f"{trial.name} ({trial.excluded})" for trial in judgement.trials if trial.excluded]
    out = [f"Not considered: {', '.join(excluded)}."] if excluded else []
    if chosen is None:
        first = judgement.gain[0].name
        others = " and leaves the other gain metrics no worse than the base's" if judgement.gain[1:] else ""
        return " ".join([f"No trial gains: none improves {first}{others}.", *out])
    changes = [
        f"{verdict.metric} {number(judgement.base[verdict.metric])} -> {number(verdict.value)}"
        for verdict in chosen.gain
    ]
    changes += [_kept(verdict, metric) for verdict, metric in zip(chosen.keep, judgement.keep, strict=True)]
    if judgement.recommended:
        lines = [f"{chosen.name} is recommended: {'; '.join(changes)}.", *_on_ties(judgement, chosen)]
    else:
        lines = ["No trial both gains and keeps.", f"{chosen.name} comes nearest: {'; '.join(changes)}."]
    if judgement.beats:
        metrics = len(chosen.gain) + len(chosen.keep)
        in_all = f"all {metrics} metrics" if metrics > 1 else chosen.gain[0].metric
        lines.append(f"It beats {listed(judgement.beats)} in {in_all}.")
    return " ".join([*lines, _on_certainty(chosen), *out])


def _on_ties(judgement: Judgement, chosen: JudgedTrial) -> list[str]:
    others = [trial.name for trial in judgement.trials if trial.tied and trial is not chosen]
    if not others:
        return []
    why = "it loses least" if chosen.keep else "its gain is the largest"
    return [f"In {chosen.gain[0].metric} it cannot be told from {listed(others)}, and {why}."]


def _on_certainty(chosen: JudgedTrial) -> str:
    verdicts = [*chosen.gain, *chosen.keep]
    unknown = [verdict.metric for verdict in verdicts if verdict.certain is None]
    unsure = [verdict.metric for verdict in verdicts if verdict.certain is False]
    if len(unknown) == len(verdicts):
        return f"No interval is known: {_lacking(chosen)}."
    lines = []
    if unsure:
        lines.append(f"Not certain: the verdict on {listed(unsure)}, which noise could turn.")
    if unknown:
        lines.append(f"No interval is known for {listed(unknown)}.")
    return " ".join(lines) or "Every verdict on it is certain."


def _lacking(chosen: JudgedTrial) -> str:
    bases = {verdict.difference.basis for verdict in (*chosen.gain, *chosen.keep)}
    if bases == {"items"}:
        return "each trial has one seed only"
    if bases == {"seeds"}:
        return "there are no scores of single items"
    return "there are no scores of single items or no second seeds"


def _kept(verdict: Verdict, metric: Metric) -> str:
    if verdict.fall <= 0:
        return f"{metric.name} is no worse"
    change = f"{metric.name} {'falls' if metric.higher_is_better else 'rises'} by {number(verdict.fall)}"
    if verdict.holds:
        return f"{change} of {number(verdict.tolerance)} allowed"
    return f"{change}, {number(verdict.excess)} too far"


def number(value: float) -> str:
    """With four decimals, or as many as its first two digits need; no zeros at the end of what is exact."""
    text = f"{value:.4f}"
    if value and abs(value) < 0.001:
        text = f"{value:.2g}" if abs(value) < 1e-6 else f"{value:.{_places(value)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _places(value: float) -> int:
    return 1 + int(f"{abs(value):e}".split("e-")[1])


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""
