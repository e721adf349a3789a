"""Amounts as people read them: durations in two units, quantities in three digits."""


def duration(seconds: float) -> str:
    """`3d 4h`, `4h 05m`, `12m 30s`: two units, for people."""
    seconds = int(seconds)
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    if minutes:
        return f"{minutes}m {seconds % 60:02d}s"
    return f"{seconds}s"


def quantity(value: float) -> str:
    """`412k`, `1.35M`, `87`: three digits, for people."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:  # which three digits round up to it
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"
