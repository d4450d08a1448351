"""Every name of the notation, with its arguments, defaults and paper."""

import difflib
import inspect
import json
from collections.abc import Sequence

from ..notation import signature
from ..strategies.attacks.names import ATTACKS, THREATS
from ..strategies.generators.names import GENERATORS
from ..strategies.meta.names import LOSSES, META_LEARNERS
from ..strategies.names import MODELS, OPTIMIZERS, STRATEGIES
from ..streams.names import DATASETS, EPISODES, STREAMS

GROUPS = {
    "streams": STREAMS,
    "data sets": DATASETS,
    "strategies": STRATEGIES,
    "generators": GENERATORS,
    "attacks": ATTACKS,
    "threat models": THREATS,
    "episodes": EPISODES,
    "meta-learners": META_LEARNERS,
    "losses": LOSSES,
    "models": MODELS,
    "optimizers": OPTIMIZERS,
}


def show(names: Sequence[str] | None, console) -> None:
    from rich.table import Table
    from rich.text import Text

    for group, entries in _chosen(names).items():
        table = Table(box=None, padding=(0, 2, 0, 0), title=group, title_justify="left", title_style="bold")
        for column, style in (("as text", "cyan"), ("what it is", "")):
            table.add_column(column, style=style, overflow="fold", ratio=1 if style else 2)
        table.show_header = False
        for entry in entries:
            table.add_row(Text(entry["text"]), Text(entry["about"]))
        console.print(table)
        console.print()


def as_json(names: Sequence[str] | None) -> str:
    return json.dumps(_chosen(names), indent=1)


def _chosen(names: Sequence[str] | None) -> dict[str, list[dict[str, str]]]:
    every = {name for group in GROUPS.values() for name in group}
    for name in names or ():
        if name not in every:
            near = difflib.get_close_matches(name, every, 1)
            raise ValueError(f"unknown name {name!r}{f', did you mean {near[0]!r}?' if near else ''}; see perdure list")
    chosen = {
        title: [_entry(name, cls) for name, cls in group.items() if not names or name in names]
        for title, group in GROUPS.items()
    }
    return {title: entries for title, entries in chosen.items() if entries}


def _entry(name: str, cls: type) -> dict[str, str]:
    """The first paragraph of the class's own words; its paper is there or in the first line of its module."""
    arguments = signature(cls, {name: kind for group in GROUPS.values() for name, kind in group.items()})
    about = " ".join((cls.__doc__ or "").partition("\n\n")[0].split())
    first = (inspect.getdoc(inspect.getmodule(cls)) or "").partition("\n")[0]
    paper = first[first.find("(") + 1 : first.rfind(")")] if "(" in first and "(" not in about else ""
    apart = getattr(cls, "apart", "")
    if apart:
        about = f"{about} Seeds one after another: {apart}."
    return {"name": name, "text": f"{name}({arguments})" if arguments else name, "about": about, "paper": paper} | (
        {"about": f"{about.removesuffix('.')} ({paper})."} if paper else {}
    )
