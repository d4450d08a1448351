"""Any text as the name of a metric in MLflow, or of a file: distinct texts have distinct names."""

import re
from hashlib import sha256

LONGEST_METRIC = 250  # MLflow's MAX_ENTITY_KEY_LENGTH
LONGEST_NAME = 250  # of a run, the width of its column
LONGEST_PARAM, LONGEST_TAG, LONGEST_DATA_SET = 6000, 8000, 500  # values, and names of data sets
LONGEST_FILE = 120  # of the 255 bytes that a file system grants: room for a suffix, and for a temporary name
DIGITS = 10  # of a digest: two texts of a thousand share one with probability 5e-7
MARKED = re.compile(rf"(^|.*[ _-])[0-9a-f]{{{DIGITS}}}", re.DOTALL)  # a name that looks as if it had a digest


def metric_name(key: str) -> str:
    """The name of a metric: parts of letters, digits and `_-. `, separated by slashes, at most 250 characters.

    A part that is no such name already keeps what it can, and gets the first digits of its SHA-256:
    `pgd(eps=0.1)/success` becomes `pgd eps 0.1 97c5afc8c1/success`, and the classes `<=50K` and `>50K` stay two.
    """
    made = "/".join(map(_metric_part, key.split("/")))
    if len(made) <= LONGEST_METRIC:
        return made
    return f"{made[: LONGEST_METRIC - DIGITS - 1].rstrip(' /.')}-{_digest(key)}"


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters, the end of a longer one given up for the first digits of its SHA-256."""
    return text if len(text) <= longest else f"{text[: longest - DIGITS - 1]}-{_digest(text)}"


def file_name(text: str) -> str:
    """The name of a file, without its suffix: lower-case letters, digits and `_-.` of ASCII, at most 120 characters.

    As in `metric_name`, a text that is no such name already gets a digest. Upper case counts as none, for some file
    systems do not tell cases apart.
    """
    kept = re.sub(r"[^a-z0-9.-]+", "_", text.lower()).strip("_.")
    return _distinct(text, kept, "_", LONGEST_FILE)


def _metric_part(text: str) -> str:
    kept = " ".join("".join(c if c.isalnum() or c in "_-." else " " for c in text).split())
    path = kept == "." or kept.startswith("..")  # what MLflow takes for one
    return _distinct(text, kept.lstrip(". ") if path else kept, " ", LONGEST_METRIC)


def _distinct(text: str, kept: str, before: str, longest: int) -> str:
    """`text` where it is a name, and does not look like a name with a digest; else what is kept of it, and one."""
    if text and kept == text and len(text) <= longest and not MARKED.fullmatch(text):
        return text
    return (kept[: longest - DIGITS - 1].rstrip() + before + _digest(text)).strip(before)


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGITS]
