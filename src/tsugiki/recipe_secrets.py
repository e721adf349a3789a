"""What a credential looks like, so that a recipe, which is copied far and wide, never holds one."""

import re

_TOKENS = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|(sk|pk)-[A-Za-z0-9_-]{40,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|wandb_v1_\w{20,})|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s@]+@"
)
_KEY_40 = re.compile(r"[0-9a-f]{40}")


def looks_secret(text: str, key: str = "") -> bool:
    """Whether text has the shape of an access token, a private key or the part of an address that says who asks
    (`//user:password@host`, `//token@host`).

    Forty hexadecimal digits are a tracker's key anywhere but under `revision`, where they are a commit.
    """
    return bool(_TOKENS.search(text) or (key != "revision" and _KEY_40.fullmatch(text)))


def hide_secrets(text: str) -> str:
    """Text that others may read (a page, a log), without what has the shape of a credential. Forty hexadecimal digits
    alone stay: most of them are commits."""
    return _TOKENS.sub("(hidden: looks like a credential)", text)
