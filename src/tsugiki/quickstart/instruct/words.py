"""The words and things that the generated exercises are about, in both languages side by side."""

WORDS = (
    ("cat", "猫"), ("dog", "犬"), ("bird", "鳥"), ("fish", "魚"), ("horse", "馬"), ("cow", "牛"), ("fox", "きつね"),
    ("mouse", "ねずみ"), ("frog", "かえる"), ("tree", "木"), ("flower", "花"), ("leaf", "葉"), ("river", "川"),
    ("sea", "海"), ("mountain", "山"), ("moon", "月"), ("star", "星"), ("sun", "太陽"), ("rain", "雨"), ("snow", "雪"),
    ("wind", "風"), ("house", "家"), ("door", "戸"), ("window", "窓"), ("table", "机"), ("chair", "いす"),
    ("lamp", "ランプ"), ("clock", "時計"), ("key", "鍵"), ("book", "本"), ("letter", "手紙"), ("pen", "ペン"),
    ("boat", "舟"), ("train", "電車"), ("bridge", "橋"), ("bread", "パン"), ("egg", "卵"), ("tea", "お茶"),
    ("apple", "りんご"), ("hat", "帽子"), ("shoe", "靴"), ("bell", "鐘"),
)  # fmt: skip
"""English, Japanese"""

THINGS = (
    ("apples", "りんご", "個"), ("eggs", "卵", "個"), ("balls", "ボール", "個"), ("pencils", "鉛筆", "本"),
    ("flowers", "花", "本"), ("books", "本", "冊"), ("notebooks", "ノート", "冊"), ("stamps", "切手", "枚"),
    ("plates", "皿", "枚"), ("cards", "カード", "枚"),
)  # fmt: skip
"""English plural, Japanese, Japanese counter"""

LETTERS = {
    "en": "abcdefghijklmnopqrstuvwxyz",
    "ja": "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわ",
}
"""In the order of the language's dictionaries, each letter once."""
