"""What nobody is to read: passwords and keys inside addresses."""

import re

HIDDEN = "***"
# Of `scheme://user:password@host` and `scheme://token@host` all that is before the last @ of the authority.
_LOGIN = re.compile(r"(?<=://)[^\s/?#'\"]*@")
_WORD = (
    r"[\w.-]*(?:password|passwd|pwd|secret|token|signature|credential|api[_-]?key|access[_-]?key|auth)[\w.-]*|sig|key"
)
_QUERY = re.compile(rf"([?&;](?:{_WORD})=)[^&;#\s'\"]+", flags=re.IGNORECASE)


def masked(text: str) -> str:
    """The text with every login inside an address, and every key in its query, hidden.

    >>> masked("postgresql://me:secret@host/db")
    'postgresql://***@host/db'
    >>> masked("https://host/path?token=abc&page=2")
    'https://host/path?token=***&page=2'
    >>> masked("sqlite:////tmp/m.db")
    'sqlite:////tmp/m.db'
    """
    return _QUERY.sub(rf"\g<1>{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", text))


def secret(text: str) -> bool:
    """Whether there is something in it to hide."""
    return masked(text) != text
