"""Results on a terminal, and the same for programs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from math import isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..platform.assault import Damage
    from ..platform.generate import Generated
    from ..platform.live.follow import Followed
    from ..platform.meta.adapt import Answers
    from ..platform.meta.results import MetaComparison
    from ..platform.results import Comparison, Outcome
    from ..platform.search.results import Searched

SHOWN = 10  # trials of a search; the report has all


def made(known: "Comparison | MetaComparison | Searched", json: bool, console) -> None:
    """What came out of a command, for a reader or for programs."""
    from ..platform.search.results import Searched

    if isinstance(known, Searched):
        print(searched_json(known)) if json else searched(known, console)
    else:
        print(comparison_json(known)) if json else comparison(known, console)


def comparison(made: "Comparison | MetaComparison", console) -> None:
    """The league table, what went wrong, and what to do next."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    _tables(made, console)
    for o in made.outcomes:
        if o.profile:
            _profile_table(o, console)
        elif o.status == "finished" and made.how.get("profile"):
            say(f"no profile of {o.run.id}: it had been made before, or has a loop of its own; --again makes it anew")
    _ended(made, say)


def _ended(made: Any, say: Callable[[str], None]) -> None:
    """What is said at the end of every command that makes runs."""
    if made.undelivered:
        say(made.undelivered)
    if made.stopped:
        say("stopped; go on with: perdure resume")
    say(f"report: {made.report}")
    say("next:   perdure ui")


def _tables(made: "Comparison | MetaComparison", console) -> None:
    from ..platform.meta.results import MetaComparison

    if made.league:
        _meta_table(made, console) if isinstance(made, MetaComparison) else _league_table(made, console)
    for o in made.failed:
        told = f"failed: {o.run.method} seed {o.run.seed}: {o.problem}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


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


def _profile_table(known: "Outcome", console) -> None:
    """Where the time of a run went, phase by phase."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    told = known.profile
    title = Text(f"where the time of {known.run.method}, seed {known.run.seed}, went: {told['steps']} steps")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("phase")
    for name in ("times", "seconds", "share %", "µs a step"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in told["phases"]:
        each = "–" if line["per_step"] is None else f"{line['per_step']:.0f}"
        table.add_row(line["phase"], str(line["calls"]), f"{line['seconds']:.3f}", f"{100 * line['share']:.1f}", each)
    console.print(table)
    if told["device"] != "cpu" and told["not captured"]:
        console.print(f"steps are not captured: {told['not captured']}", markup=False, highlight=False)
    console.print(f"chart:  {told['chart']}", markup=False, highlight=False, soft_wrap=True)


def searched(known: "Searched", console) -> None:
    """The best trials, the front of two objectives, and what the best are worth on test samples."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ..platform.search.results import shown, title

    search, front = known.search, known.front if len(known.search.aims) == 2 else []
    about = f"{len(known.trials)} trials of {search.run.method} on {search.run.on}"
    table = Table(box=box.SIMPLE_HEAD, title=Text(about), title_justify="left", title_style="bold")
    for name in ("trial", *search.space.parameters, *map(title, search.aims), "milestones", "status", "runs"):
        table.add_column(Text(name), justify="left" if name in ("status", "runs") else "right")
    for t in known.table[: max(SHOWN, len(front))]:
        values = [
            shown(aim, value) if t.status != "failed" else "–" for aim, value in zip(search.aims, t.values, strict=True)
        ]
        settings = [Text(t.settings[name]) for name in search.space.parameters]
        status = t.status + (", on the front" if t in front else "")
        table.add_row(str(t.number), *settings, *values, str(t.milestones), status, " ".join(t.runs))
    console.print(table)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if len(known.trials) > len(known.table[: max(SHOWN, len(front))]):
        say(f"and {len(known.trials) - max(SHOWN, len(front))} more, in the report\n")
    for t in (t for t in known.trials if t.status == "failed"):
        say(f"failed: trial {t.number}, {t.method}: {t.problem}")
    for final in known.finals:
        say("\nthe best again, tested, from seeds that no trial had:")
        _tables(final, console)
    _ended(known, say)


def searched_json(known: "Searched") -> str:
    from ..platform.run import Run

    trials = [asdict(t) for t in known.table]
    best = {"best": [t.number for t in known.best], "front": [t.number for t in known.front]}
    told = {"id": known.search.id, "command": known.line, "report": known.report, "stopped": known.stopped}
    told |= {
        "kind": "continual" if isinstance(known.search.run, Run) else "meta",
        "objectives": known.search.objectives,
    }
    finals = [json.loads(comparison_json(final)) for final in known.finals]
    return _json(told | {"trials": trials} | best | {"finals": finals})


def _meta_table(comparison: "MetaComparison", console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ..platform.report import percent, plain, small

    run, league = comparison.outcomes[0].run, comparison.league
    what, unit, shown = ("accuracy", " %", percent) if league[0].accuracy else ("loss", "", small)
    length = f"{run.plan.iterations} iterations of {run.plan.batch} tasks"
    settings = ", ".join(filter(None, (run.episodes, run.model, run.optimizer, run.loss, length)))
    title = Text(f"{settings}; {what}{unit} on {run.tested} test tasks after")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("meta-learner")
    counts = sorted({count for s in league for count in s.steps})
    words = [f"{count} step{'' if count == 1 else 's'}" for count in counts]
    for name in (*words, "left out", "seconds", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in league:
        known = dict(zip(s.steps, s.accuracy or s.loss, strict=True))
        cells = [shown(known[count]) if count in known else "–" for count in counts]
        table.add_row(Text(s.learner), *cells, str(s.diverged), plain(s.seconds), str(len(s.seeds)))
    console.print(table)


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


def answers(made: "Answers", console) -> None:
    """What the queries of a task are taken for, a line each."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    before, after = made.loss
    name = f"{made.run.learner} on {made.run.episodes}, run {made.run.id}"
    say(f"{name}: {made.steps} steps, loss on what has an answer {before:.3g} -> {after:.3g}")
    width = max(map(len, made.names))
    for query, said, row in zip(made.names, made.said, made.values, strict=True):
        shown = f"{said} ({100 * max(row):.0f} %)" if made.classes else "  ".join(f"{v:.6g}" for v in row)
        say(f"  {query:{width}}  {shown}")


def answers_json(made: "Answers") -> str:
    told = {"run": made.run.id, "steps": made.steps, "loss": made.loss, "classes": made.classes}
    queries = [
        {"query": name, "answer": said, "values": row}
        for name, said, row in zip(made.names, made.said, made.values, strict=True)
    ]
    return _json(told | {"answers": queries})


def followed(made: "Followed", line: str, console) -> None:
    """How every class is answered now, what was set aside, and how to go on."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if made.rows:
        say(f"{len(made.rows)} arrivals learned; accuracy by class, on what was held out:")
        for label, accuracy in made.accuracy.items():
            say(f"  {label:20s} {100 * accuracy:5.1f} %  of {made.rows[-1]['classes'][label][0]}")
    if made.asides:
        say(f"{len(made.asides)} set aside: {made.folder}/aside.jsonl says why")
    if made.undelivered:
        say(f"MLflow lacks something ({made.undelivered}); it gets it when this is gone on with")
    if made.stopped:
        say(f"stopped; go on with: {line}")
    say(f"kept in {made.folder}, with pictures")


def followed_json(made: "Followed") -> str:
    about = {"folder": made.folder, **made.following.row(), "stopped": made.stopped, "accuracy": made.accuracy}
    return _json(about | {"undelivered": made.undelivered, "arrivals": made.rows, "aside": made.asides})


def outcome(known: "Outcome", console, plugins: Sequence[str] = ()) -> None:
    """One run: what it is, how far it came, its accuracy matrix, and the line to make it again."""
    from rich.table import Table
    from rich.text import Text

    from ..platform.kinds import kind
    from ..platform.meta.results import told
    from ..platform.meta.run import MetaRun

    run, meta = known.run, isinstance(known.run, MetaRun)
    facts = Table.grid(padding=(0, 3))
    values = {"run": run.id, "status": known.status} | run.row()
    if meta:
        values |= {k.replace("_", " "): f"{v:.4g}" for k, v in told(known.rows).items() if not isnan(v)}
    else:
        values |= {k.replace("_", " "): f"{100 * v:.1f} %" for k, v in known.metrics().items() if not isnan(v)}
    for name, value in (values | {"seconds": f"{known.seconds:.1f}"}).items():
        facts.add_row(name, Text(str(value)))
    console.print(facts)
    if known.problem:
        console.print(f"\n{known.problem}", markup=False, highlight=False)
    if not meta:
        _matrices(known, console)
    if known.profile:
        _profile_table(known, console)
    again = kind(run).line([run.method], run, [run.seed], {"plugins": plugins})
    console.print(f"\nmake it again:\n  {again}", markup=False, highlight=False, soft_wrap=True)


def _matrices(known: "Outcome", console) -> None:
    """Accuracy after each experience, clean and under every attack, and what the strategy tells of itself."""
    if known.rows:
        console.print("\naccuracy (%) after each experience, on each:")
        for row in known.rows:
            console.print(f"  {row['experience'] + 1:3d}  {_cells(row['accuracy'])}", highlight=False)
    for attack, robust in known.under().items():
        console.print(f"\naccuracy (%) under {attack} after each experience, on each:", markup=False, highlight=False)
        for i, cells in enumerate(robust):
            console.print(f"  {i + 1:3d}  {_cells(cells)}", highlight=False)
    _extras(known, console)


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


def comparison_json(comparison: "Comparison | MetaComparison") -> str:
    from ..platform.meta.results import MetaComparison

    league = [asdict(s) for s in comparison.league]
    known = {"command": comparison.line, "report": comparison.report, "stopped": comparison.stopped}
    if not isinstance(comparison, MetaComparison):
        known["cautions"] = comparison.cautions
    return _json(known | {"league": league, "runs": [_outcome(o) for o in comparison.outcomes]})


def outcome_json(known: "Outcome") -> str:
    return _json(_outcome(known))


def _outcome(known: "Outcome") -> dict[str, Any]:
    from ..platform.meta.results import told
    from ..platform.meta.run import MetaRun

    about = {"id": known.run.id, **known.run.row(), "status": known.status, "problem": known.problem}
    if isinstance(known.run, MetaRun):
        return about | told(known.rows) | {"seconds": known.seconds, "journal": known.rows}
    made = about | known.metrics() | {"seconds": known.seconds, "matrix": [r["accuracy"] for r in known.rows]}
    made |= {"robust": known.under()} if known.under() else {}
    return made | ({"profile": known.profile} if known.profile else {})


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
