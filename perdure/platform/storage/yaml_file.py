"""YAML files that users write: plain values, of a size and a depth that are looked at first."""

from pathlib import Path
from typing import Any

from ...errors import reading

LARGEST, DEEPEST, MOST = 1_000_000, 20, 100_000  # bytes, lists in lists, and values with every alias written out


def read_yaml(path: Path, what: str) -> Any:
    """What a file holds, by the safe loader. what: the file as an error names it.

    Raises ValueError for what is no such file, and FileNotFoundError.
    """
    import yaml

    if not path.is_file():
        if path.exists():
            raise ValueError(f"{what} cannot be read: expected a file, got something else")
        raise FileNotFoundError(f"{what} cannot be read: No such file or directory")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{what} cannot be read: expected at most {LARGEST} bytes, got {path.stat().st_size}")
    with reading(f"{what} is not YAML that can be read", "expected lines as `seeds: 5`, in UTF-8"):
        text = path.read_bytes().decode()
        _expect_small(yaml.parse(text, yaml.SafeLoader), what)
        return yaml.safe_load(text)


def _expect_small(events: Any, what: str) -> None:
    """Raises ValueError where values are nested too deeply, or aliases would multiply them."""
    import yaml

    sizes: dict[str, int] = {}  # of every anchor
    open_: list[tuple[str | None, int]] = []  # collections that are not closed: their anchors, and values so far
    total = 0
    for event in events:
        size, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((anchor, 1))
            if len(open_) > DEEPEST:
                raise ValueError(f"{what} cannot be read: expected lists at most {DEEPEST} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        if anchor is not None and not isinstance(event, yaml.AliasEvent):
            sizes[anchor] = size
        if open_:
            open_[-1] = (open_[-1][0], open_[-1][1] + size)
        else:
            total += size
        if max([total, *(count for _, count in open_)]) > MOST:
            raise ValueError(f"{what} cannot be read: expected at most {MOST} values, aliases among them")
