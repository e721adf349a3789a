"""The fuzzy ratio is fuzzywuzzy's, percent by percent."""

import pytest

from tsugiki.evaluation.metrics.fuzzy import fuzzy_ratio

pytest.importorskip("rapidfuzz", reason="the extra eval")

# Percent that fuzzywuzzy 0.18.0 with python-Levenshtein 0.27.5 gave (`fuzz.token_sort_ratio`).
GOLDEN = [
    ("ジョン・レノン", "レノン・ジョン", 100),
    ("yes", "YES", 100),
    ("YES", "YES", 100),
    ("Yes.", "YES", 100),
    ("NO", "YES", 0),
    ("", "", 100),
    ("", "東京", 0),
    ("東京", "", 0),
    ("。、！", "東京", 0),
    ("。、！", "。、！", 100),
    ("\u3000", "東京", 0),
    ("東京都", "東京", 80),
    ("東京", "大阪", 0),
    ("東京タワー", "タワー東京", 60),
    ("1868年", "１８６８年", 20),
    ("１８６８年", "１８６８年", 100),
    ("ﾀﾜｰ", "タワー", 0),
    ("㍿ABC", "株式会社ABC", 60),
    ("3×4", "3x4", 80),
    ("3×4", "34", 100),
    ("×", "×", 100),
    ("café", "cafe", 86),
    ("café", "caf", 100),
    ("naïve Bayes", "nave bayes", 100),
    ("Ångström", "ngstrm", 100),
    ("©2020", "2020", 100),
    ("½", "1/2", 0),
    ("ß", "ss", 0),
    ("±5", "5", 100),
    ("snake_case", "snake case", 50),
    ("_", "_", 100),
    ("__init__", "init", 67),
    ("_ _", "_", 50),
    ("a b c", "c b a", 100),
    ("b a", "a b", 100),
    ("the quick brown fox", "brown quick fox the", 100),
    ("New York Mets", "new york meats", 96),
    ("hello, world!", "world hello", 100),
    ("織田信長、豊臣秀吉", "豊臣秀吉,織田信長", 100),
    ("織田信長,豊臣秀吉,徳川家康", "徳川家康", 44),
    ("山田 太郎", "山田太郎", 44),
    ("山田\u3000太郎", "太郎 山田", 100),
    ("1,000円", "1000円", 73),
    ("3.14", "3,14", 100),
    ("第2次世界大戦", "第二次世界大戦", 86),
    ("『羅生門』", "羅生門", 100),
    ("(東京)", "東京", 100),
    ("東京。", "東京", 100),
    ("答えは東京です。", "東京", 44),
    ("夏目漱石", "夏目 漱石", 89),
    ("Ｙｅｓ", "YES", 0),
    ("ｙｅｓ", "yes", 0),
    ("ΑΒΓ", "αβγ", 100),
    ("İstanbul", "istanbul", 94),
    ("ǅ", "ǆ", 100),
    ("👍", "👍", 100),
    ("👍東京", "東京", 100),
    ("が", "か\u3099", 0),
    ("か\u3099", "が", 0),
    ("a\u0301", "á", 0),
    ("々", "々", 100),
    ("ー", "ー", 100),
    ("〜", "~", 100),
    ("ab", "abc", 80),
    ("abcde", "abcdx", 80),
    ("abcdefgh", "abcdefgx", 88),
    ("aab", "ab", 80),
    ("あいうえお", "あいうえ", 89),
    ("x\ny", "y x", 100),
    ("tab\tsep", "sep tab", 100),
    ("aaaaaaa", "aaa", 60),
    ("12", "21", 50),
    ("abc def", "def abd", 86),
    ("レオナルド・ダ・ヴィンチ", "レオナルドダヴィンチ", 82),
    ("ロンドン・ヒースロー空港", "ヒースロー空港", 74),
    ("\u3000\u3000", "", 100),
    ("NaN", "nan", 100),
    ("あ" * 200, "あ" * 199, 100),
    ("①", "1", 0),
    ("ⅳ", "IV", 0),
    ("a\u00a0b", "ab", 100),
    ("a\u0085b", "a b", 80),
    ("a\u200bb", "a b", 100),
    ("١٢", "12", 0),
    ("aÿb", "ab", 100),
    ("a\u0080b", "ab", 100),
    ("aĀb", "ab", 80),
]


@pytest.mark.parametrize(("prediction", "reference", "percent"), GOLDEN)
def test_the_ratio_is_the_published_one(prediction, reference, percent):
    assert fuzzy_ratio(prediction, reference) == percent / 100


def test_a_half_percent_goes_to_the_even_neighbour():
    assert fuzzy_ratio("abcde", "abcxyzuvwdz") == 0.50
    assert fuzzy_ratio("abcdefgh", "abcdexyz") == 0.62  # 10 of 16 characters


def test_the_name_under_which_it_is_published_promises_something_else():
    """Rearranged characters are all in common; the edit ratio sees half of them."""
    assert fuzzy_ratio("21", "12") == 0.5
