"""What a probe found, what all of them found, and how it is shown."""

from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["ok", "warn", "FAIL", "skip"]


@dataclass(frozen=True)
class Finding:
    """One probe's verdict: what was measured, and what it is held against."""

    verdict: Verdict
    measured: str
    threshold: str = ""
    explains_itself: bool = False
    """The remedy is for failures; this warning needs none."""


def ok(measured: str, threshold: str = "") -> Finding:
    return Finding("ok", measured, threshold)


def warn(measured: str, threshold: str = "", *, explains_itself: bool = False) -> Finding:
    return Finding("warn", measured, threshold, explains_itself)


def fail(measured: str, threshold: str = "") -> Finding:
    return Finding("FAIL", measured, threshold)


def judge(good: bool, measured: str, threshold: str = "") -> Finding:
    """`ok` or `FAIL`."""
    return Finding("ok" if good else "FAIL", measured, threshold)


@dataclass(frozen=True)
class Entry:
    """A line of the report."""

    name: str
    finding: Finding
    remedy: str
    """What to do when the probe does not pass."""
    seconds: float

    @property
    def advice(self) -> str:
        """The remedy where there is something that the user may want to change; failures say it in the error."""
        return self.remedy if self.finding.verdict == "warn" and not self.finding.explains_itself else ""

    def line(self) -> str:
        """For the terminal: name, verdict, what was measured and, in brackets, what was expected."""
        finding = self.finding
        expected = f"  [{finding.threshold}]" if finding.threshold else ""
        return f"  {self.name:<20} {finding.verdict:<4}  {finding.measured}{expected}"


@dataclass
class Report:
    """All probes of one start."""

    step: int
    world: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def failed(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.finding.verdict == "FAIL"]

    @property
    def warned(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.finding.verdict == "warn"]

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)

    def __getitem__(self, name: str) -> Finding:
        return next(entry.finding for entry in self.entries if entry.name == name)

    def summary(self) -> str:
        verdicts = [entry.finding.verdict for entry in self.entries]
        counts = [
            f"{verdicts.count(verdict)} {verdict}" for verdict in ("ok", "warn", "FAIL", "skip") if verdict in verdicts
        ]
        return f"preflight  {', '.join(counts)} in {self.seconds:.1f} s"

    def as_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "processes": self.world,
            "seconds": round(self.seconds, 3),
            "probes": [
                {
                    "name": entry.name,
                    "verdict": entry.finding.verdict,
                    "measured": entry.finding.measured,
                    "threshold": entry.finding.threshold,
                    "remedy": entry.remedy if entry.finding.verdict == "FAIL" else entry.advice,
                    "seconds": round(entry.seconds, 3),
                }
                for entry in self.entries
            ],
        }

    def failure_text(self) -> str:
        """All that failed and what to do about it, for the error that ends the run."""
        lines = [
            f"  {entry.name}: {entry.finding.measured}"
            + (f" (expected: {entry.finding.threshold})" if entry.finding.threshold else "")
            + f". {entry.remedy}"
            for entry in self.failed
        ]
        count = "a check" if len(lines) == 1 else f"{len(lines)} checks"
        return (
            f"preflight: {count} failed, so this run would train wrongly\n"
            + "\n".join(lines)
            + "\nA check that does not apply can be left out by name: training.preflight.skip=["
            + ", ".join(entry.name for entry in self.failed)
            + "]"
        )
