"""The spelling of bytes, against the library's."""

from tokenizers import pre_tokenizers

from tsugiki.corpus.byte_alphabet import BYTE_OF, bytes_of, spell


def test_bytes_are_spelled_as_the_library_spells_them():
    assert set(BYTE_OF) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_OF.values()) == list(range(256))
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, [*range(0x800), 0x3042, 0xFFFD, 0x1F600, 0x20000]))
    assert spell(text.encode()) == splitter.pre_tokenize_str(text)[0][0]
    assert bytes_of(spell(text.encode())) == text.encode()
    assert bytes_of("<end> of") is None
    assert bytes_of("") == b""
