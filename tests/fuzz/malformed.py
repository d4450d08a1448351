"""Malformed texts and bytes: what is right, with a few things wrong; and anything at all."""

from hypothesis import strategies as st

NUMBERS = [
    "0",
    "-1",
    "1",
    "0.5",
    "1e-5",
    "1e308",
    "1e999",
    "-1e308",
    "9" * 400,
    "9" * 5000,
    "0x10",
    "1_000",
    "nan",
    "inf",
]
WORDS = [
    *NUMBERS, "naive", "ewc", "rehearsal", "mlp", "digits", "split", "choice", "uniform", "randint", "'a'", '"', "'",
    "(", ")", "[", "]", ",", "+", "-", "*", "=", ":", "#", ".", " ", "\n", "\t", "\\", "\0", "None", "True",
    "lambda: 0", "__import__('os')", "é", "名", "\u202e", "\ud800", "{}", "&a", "*a", "<<", "!!python/object:os.system",
    "%41", "../", "~",
]  # fmt: skip
DEEP = ["(", "[", "naive + ", "-", "not ", "ewc("]


def texts(right: list[str]) -> st.SearchStrategy[str]:
    """Right texts with words put in, taken out, repeated or nested; sequences of words; and any text."""
    return st.one_of(
        st.builds(_edited, st.sampled_from(right), st.lists(_EDITS, min_size=1, max_size=4)),
        st.lists(st.sampled_from(WORDS + right), max_size=12).map("".join),
        st.builds(_deep, st.sampled_from(right), st.sampled_from(DEEP), st.integers(1, 20_000)),
        st.text(max_size=40),
    )


def numbers() -> st.SearchStrategy[str]:
    return st.one_of(
        st.sampled_from(NUMBERS),
        st.integers().map(str),
        st.floats().map(repr),
        st.integers(-(10**30), 10**30).map(str),
    )


def data(right: bytes) -> st.SearchStrategy[bytes]:
    """A right file with bytes changed, put in, cut or repeated; and any bytes."""
    return st.one_of(
        st.builds(_changed, st.just(right), st.lists(_CHANGES, min_size=1, max_size=5)),
        st.integers(0, len(right)).map(lambda n: right[:n]),
        st.binary(max_size=200),
    )


_EDITS = st.tuples(
    st.sampled_from(["put", "take", "repeat"]), st.floats(0, 1), st.one_of(st.sampled_from(WORDS), numbers())
)
_CHANGES = st.tuples(
    st.sampled_from(["flip", "put", "take", "repeat", "large"]), st.floats(0, 1), st.binary(min_size=1, max_size=8)
)


def _edited(text: str, edits: list[tuple[str, float, str]]) -> str:
    for what, where, word in edits:
        at = int(where * len(text))
        end = min(len(text), at + max(1, len(word)))
        text = {"put": text[:at] + word + text[at:], "take": text[:at] + text[end:], "repeat": text[:end] + text[at:]}[
            what
        ]
    return text


def _deep(text: str, word: str, count: int) -> str:
    return word * count + text + {"(": ")", "[": "]", "ewc(": ")"}.get(word, "") * count


def _changed(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for what, where, some in changes:
        at = int(where * len(content))
        end = min(len(content), at + len(some))
        match what:
            case "flip":
                content = (
                    content[:at] + bytes(a ^ b for a, b in zip(content[at:end], some, strict=False)) + content[end:]
                )
            case "put":
                content = content[:at] + some + content[at:]
            case "take":
                content = content[:at] + content[end:]
            case "repeat":
                content = content[:end] + content[at:]
            case _:  # a size somewhere, as large as it can be
                content = content[:at] + b"\xff" * len(some) + content[end:]
    return content
