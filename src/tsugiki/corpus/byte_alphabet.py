"""How byte-level vocabularies spell bytes: one printable character each, by GPT-2's rule (openai/gpt-2, `encoder.py`).

Printable Latin-1 stands for itself, the other bytes in order are U+0100 and on.
"""

_THEMSELVES = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _THEMSELVES]

BYTE_OF = {chr(byte): byte for byte in _THEMSELVES} | {chr(0x100 + place): byte for place, byte in enumerate(_OTHERS)}
"""The byte that each character stands for."""
CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}


def spell(text: bytes) -> str:
    """Bytes as a byte-level vocabulary spells them."""
    return "".join(CHARACTER_OF[byte] for byte in text)


def bytes_of(spelling: str) -> bytes | None:
    """The bytes of a spelling; None for one that is not in the alphabet (a control token)."""
    try:
        return bytes(BYTE_OF[character] for character in spelling)
    except KeyError:
        return None
