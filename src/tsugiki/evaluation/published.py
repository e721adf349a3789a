"""Scores that Swallow's makers published for fourteen models, as rows below one's own.

They have no intervals, since no item's score was published with them.
"""

from dataclasses import dataclass

from tsugiki.errors import RecipeError
from tsugiki.evaluation.suites import SUITES

SUITE = "swallow"
"""The suite that measures as these rows were measured."""
COLUMNS = {
    language: tuple(f"{SUITES[SUITE].prefix}{task}" for task in tasks.split())
    for language, tasks in {
        "ja": "jcommonsenseqa jemhopqa niilc jsquad xlsum_ja mgsm_ja wmt20_en_ja wmt20_ja_en",
        "en": "openbookqa triviaqa hellaswag squad2 xwinograd_en gsm8k",
    }.items()
}
"""Names of tasks by language, in the order of the figures below."""
SOURCES = {
    "ja": "Zenn, 'Swallow-MS: Mistral日本語継続事前学習モデル' (2024-03-11)",
    "en": "model card of Swallow-MS-7b-v0.1 (from memory: verify before quoting; measured with 8 shots)",
}


@dataclass(frozen=True)
class PublishedRow:
    """One model's published scores; a task or language without one is absent."""

    name: str
    scores: dict[str, float]
    averages: dict[str, float]
    """By language, as printed: over all the language's `COLUMNS`."""


# The average as printed, then a figure a task.
_JAPANESE = {
    "Mistral-7B-v0.1": (0.3717, 0.7301, 0.4245, 0.2722, 0.8563, 0.2006, 0.1760, 0.1405, 0.1733),
    "Swallow-MS-7b": (0.4524, 0.8570, 0.4915, 0.5519, 0.8802, 0.1988, 0.2240, 0.2494, 0.1667),
    "Llama-2-7b": (0.3201, 0.3852, 0.4240, 0.3410, 0.7917, 0.1905, 0.0760, 0.1783, 0.1738),
    "Swallow-7b": (0.3940, 0.4808, 0.5078, 0.5968, 0.8573, 0.1830, 0.1240, 0.2510, 0.1511),
    "Swallow-7b-plus": (0.4090, 0.5478, 0.5493, 0.6030, 0.8544, 0.1806, 0.1360, 0.2568, 0.1441),
    "Qwen-7B": (0.3742, 0.7712, 0.4234, 0.2376, 0.8594, 0.1371, 0.2160, 0.1689, 0.1801),
    "nekomata-7b": (0.4185, 0.7417, 0.4928, 0.5022, 0.8707, 0.1676, 0.1240, 0.2673, 0.1815),
    "japanese-stablelm-base-gamma-7b": (0.4301, 0.7364, 0.4643, 0.5568, 0.8910, 0.2293, 0.1680, 0.2390, 0.1561),
    "japanese-stablelm-base-beta-7b": (0.3366, 0.3610, 0.4478, 0.4432, 0.8318, 0.2195, 0.0720, 0.1946, 0.1226),
    "japanese-stablelm-base-ja_vocab-beta-7b": (
        0.2937, 0.2172, 0.4482, 0.4309, 0.8202, 0.0757, 0.0520, 0.1601, 0.1453,
    ),
    "ELYZA-japanese-Llama-2-7b": (0.3467, 0.5791, 0.4703, 0.4019, 0.8226, 0.1312, 0.0600, 0.1795, 0.1289),
    "ELYZA-japanese-Llama-2-7b-fast": (0.3312, 0.5308, 0.4330, 0.3898, 0.8131, 0.1289, 0.0720, 0.1678, 0.1143),
    "youri-7b": (0.3768, 0.4620, 0.4776, 0.4999, 0.8506, 0.1957, 0.0640, 0.2671, 0.1971),
    "calm2-7b": (0.3098, 0.2198, 0.5047, 0.5066, 0.7799, 0.0233, 0.0600, 0.2345, 0.1499),
}  # fmt: skip
_ENGLISH = {
    "Mistral-7B-v0.1": (0.5577, 0.3660, 0.7050, 0.6264, 0.3799, 0.9157, 0.3533),
    "Swallow-MS-7b": (0.5042, 0.3440, 0.5976, 0.5810, 0.3364, 0.9037, 0.2623),
}


def published_rows(suite: str) -> list[PublishedRow]:
    """The fourteen rows, for a suite that measures as they were measured.

    Raises RecipeError for another suite.
    """
    if suite != SUITE:
        raise RecipeError(
            f"no published rows for suite {suite}: what is published was measured as suite {SUITE} does, with other "
            f"prompts, budgets and metrics. Evaluate with --suite {SUITE} to compare."
        )
    rows = []
    for name in _JAPANESE:
        scores: dict[str, float] = {}
        averages: dict[str, float] = {}
        for language, figures in (("ja", _JAPANESE.get(name)), ("en", _ENGLISH.get(name))):
            if figures is not None:
                averages[language], *columns = figures
                scores.update(zip(COLUMNS[language], columns, strict=True))
        rows.append(PublishedRow(name, scores, averages))
    return rows
