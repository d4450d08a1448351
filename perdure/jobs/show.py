"""Results on a terminal, and the same for programs."""

import json
from dataclasses import asdict
from functools import partial
from math import isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..platform.assault import Damage
    from ..platform.generate import Generated
    from ..platform.results import Comparison, Outcome


def comparison(made: "Comparison", console) -> None:
    """The league table, what went wrong, and what to do next."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if made.league:
        _league_table(made, console)
    for o in made.failed:
        say(f"failed: {o.run.strategy} seed {o.run.seed}: {o.problem}")
    if made.undelivered:
        say(made.undelivered)
    if made.stopped:
        say("stopped; go on with: perdure resume")
    say(f"report: {made.report}")
    say("next:   perdure ui")


def _league_table(comparison: "Comparison", console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ..platform.report import carried, percent, plain

    run = comparison.outcomes[0].run
    length = f"{run.plan.steps} steps" if run.plan.steps else f"{run.plan.epochs} epochs"
    title = Text(f"{run.stream}, {run.model}, {run.optimizer}, {length} of batch size {run.plan.batch_size}")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("strategy")
    shown = [(text, k, name) for text in run.attacks for k, name in _columns(text, comparison.aimed)]
    for name in ("accuracy %", "forgetting %", *(name for *_, name in shown), "seconds", "carried on", "seeds"):
        table.add_column(Text(name), justify="right", no_wrap=len(name) < 14)
    for s in comparison.league:
        cells = [percent(s.accuracy), percent(s.forgetting), *(percent(s.under[text][k]) for text, k, _ in shown)]
        table.add_row(Text(s.strategy), *cells, plain(s.seconds), carried(s.state_bytes), str(len(s.seeds)))
    console.print(table)
    for name, doubt in comparison.masked.items():
        console.print(f"caution: {name}: {doubt}", markup=False, highlight=False, soft_wrap=True)


def _columns(attack: str, aimed: list[str]) -> list[tuple[str, str]]:
    """What of an attack has a column, and its title; of one that aims at a class also how often it gets there."""
    return [("robust_accuracy", f"{attack} %")] + ([("success", f"{attack} success %")] if attack in aimed else [])


def generated(made: "Generated", console) -> None:
    """What a fitted generator is worth, and where its pictures are."""
    from rich.table import Table
    from rich.text import Text

    from ..platform.generate import WORDS
    from ..platform.report import carried

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, value in made.measures.items():
        shown = carried(value) if name == "bytes" else str(value) if name == "classes" else f"{value:.3f}"
        table.add_row(Text(name.replace("_", " ")), shown, Text(WORDS[name]))
    console.print(Text(f"{made.generation.generator} on {made.generation.on}", style="bold"))
    console.print(table)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if made.undelivered:
        say(made.undelivered)
    say(f"report: {made.report}")
    say("next:   perdure ui")


def generated_json(made: "Generated") -> str:
    told = {"id": made.generation.id} | asdict(made.generation) | {"measures": made.measures}
    return json.dumps(told | {"report": str(made.report)}, indent=1)


def damage(made: "Damage", console) -> None:
    """What attacks have left of a run's accuracy: a line for each, then each experience, then pictures."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ..platform.report import digits

    run = made.assault.run
    title = Text(f"{run.strategy} on {run.stream}, {run.model}, seed {run.seed}; threat: {made.assault.threat}")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("attack")
    for name in ("clean %", "robust %", "fooled %", "mean L0", "mean L2", "mean L∞", "queries", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in made.blows:
        m = one.measures
        shares = (digits(100 * m[k], ".1f") for k in ("accuracy", "robust_accuracy", "success"))
        sizes = (digits(m[k], ".3g") for k in ("mean_l0", "mean_l2", "mean_linf"))
        table.add_row(Text(one.attack), *shares, *sizes, digits(m["queries"], ".0f"), digits(m["seconds"], ".1f"))
    console.print(table)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    for one in made.blows:
        say(f"{one.attack}, robust % on each experience: {_cells(one.robust)}")
    for one in made.blows:
        if one.picture:
            say(f"picture: {one.picture}")
    if made.undelivered:
        say(made.undelivered)
    say(f"report: {made.report}")


def damage_json(made: "Damage") -> str:
    about = {"id": made.assault.id, "run": made.assault.run.id, "threat": made.assault.threat}
    told = [
        {"attack": b.attack, "measures": b.measures, "clean": b.clean, "robust": b.robust}
        | {"picture": b.picture and str(b.picture)}
        for b in made.blows
    ]
    return _json(about | {"attacks": told, "cautions": made.cautions, "report": str(made.report)})


def outcome(known: "Outcome", console) -> None:
    """One run: what it is, how far it came, its accuracy matrix, and the line to make it again."""
    from rich.table import Table
    from rich.text import Text

    from ..platform.command import line

    run = known.run
    facts = Table.grid(padding=(0, 3))
    values = {"run": run.id, "status": known.status} | run.row()
    values |= {k.replace("_", " "): f"{100 * v:.1f} %" for k, v in known.metrics().items() if not isnan(v)}
    for name, value in (values | {"seconds": f"{known.seconds:.1f}"}).items():
        facts.add_row(name, Text(str(value)))
    console.print(facts)
    if known.problem:
        console.print(f"\n{known.problem}", markup=False, highlight=False)
    if known.rows:
        console.print("\naccuracy (%) after each experience, on each:")
        for row in known.rows:
            console.print(f"  {row['experience'] + 1:3d}  {_cells(row['accuracy'])}", highlight=False)
    for attack, robust in known.under().items():
        console.print(f"\naccuracy (%) under {attack} after each experience, on each:", markup=False, highlight=False)
        for i, cells in enumerate(robust):
            console.print(f"  {i + 1:3d}  {_cells(cells)}", highlight=False)
    _extras(known, console)
    again = line([run.strategy], run, [run.seed])
    console.print(f"\nmake it again:\n  {again}", markup=False, highlight=False, soft_wrap=True)


def _extras(known: "Outcome", console) -> None:
    """What the strategy tells of itself: a line over the stream for each number, and the cosines between tasks."""
    from ..platform.figures import cosines

    rows = known.extras()
    for key in dict.fromkeys(k for row in rows for k in row if not k.startswith("cosine/")):
        console.print(f"\n{key} after each experience:", highlight=False)
        cells = "".join(f"{row[key]:8.4g}" if key in row else f"{'–':>8}" for row in rows)
        console.print(f"       {cells}", highlight=False)
    between = cosines(rows[-1]) if rows else []
    if between:
        console.print("\ncosine between the gradients of experiences, after the last:")
        for i, line_ in enumerate(between):
            console.print(f"  {i + 1:3d}  " + "".join(f"{v:7.2f}" for v in line_), highlight=False)


def _cells(shares) -> str:
    """Shares in per cent, side by side."""
    return "".join(f"{100 * v:7.1f}" for v in shares)


def comparison_json(comparison: "Comparison") -> str:
    league = [asdict(s) for s in comparison.league]
    known = {"command": comparison.line, "report": comparison.report, "stopped": comparison.stopped}
    known["cautions"] = comparison.cautions
    return _json(known | {"league": league, "runs": [_outcome(o) for o in comparison.outcomes]})


def outcome_json(known: "Outcome") -> str:
    return _json(_outcome(known))


def _outcome(known: "Outcome") -> dict[str, Any]:
    about = {"id": known.run.id, **known.run.row(), "status": known.status, "problem": known.problem}
    told = about | known.metrics() | {"seconds": known.seconds, "matrix": [r["accuracy"] for r in known.rows]}
    return told | ({"robust": known.under()} if known.under() else {})


def _json(value: Any) -> str:
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """NaN, which JSON does not know, as null."""
    match value:
        case float():
            return None if isnan(value) else value
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
    return value
