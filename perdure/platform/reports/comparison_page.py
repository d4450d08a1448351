"""The report of a comparison: one HTML file that holds everything and asks nothing of any network."""

from math import isnan

from ..figures.canvas import COLOURS, svg
from ..runs.command_line import line
from .comparison import Comparison
from .page import embedded, page

WORDS = {
    "final accuracy %": "mean accuracy on the test samples of all experiences, once the last has been learned",
    "forgetting %": "how far accuracy on earlier experiences fell from its best, on average",
    "backward transfer %": "how much learning on changed the accuracy on earlier experiences, on average",
    "forward transfer %": "accuracy on experiences not yet learned, above that of the untrained model, on average",
}


def html(comparison: Comparison) -> str:
    from markupsafe import Markup

    figures = {name: svg(figure) for name, figure in comparison.figures().items()} if comparison.league else {}
    order = list(comparison.by_method())
    details = {name: svg(figure) for name, figure in comparison.details().items()}
    return page(
        "comparison.html",
        comparison=comparison,
        league=comparison.league,
        run=comparison.outcomes[0].run,
        figures={name: Markup(figure) for name, figure in figures.items()},
        details=[Markup(figure) for figure in details.values()],
        robust={name: Markup(svg(figure)) for name, figure in comparison.robust_figures().items()},
        surfaces=_pictures(comparison, "surface"),
        dreams=_pictures(comparison, "dreams"),
        colour={name: COLOURS[n % len(COLOURS)] for n, name in enumerate(order)},
        again=again(comparison),
        words=WORDS,
        aimed=comparison.aimed,
        titles=comparison.attack_titles,
        transfers=any(not isnan(s.forward_transfer.mean) for s in comparison.league),
    )


def again(comparison: Comparison) -> dict[str, str]:
    """For every strategy the line that makes its row of the league table again."""
    groups: dict[str, list] = {}
    for outcome in comparison.outcomes:
        groups.setdefault(outcome.run.strategy, []).append(outcome.run)
    return {s: line([s], runs[0], [run.seed for run in runs], comparison.how) for s, runs in groups.items()}


def _pictures(comparison: Comparison, kind: str) -> dict[str, list[str]]:
    """Of the first seed of every strategy that has drawn such pictures."""
    groups = {s: [p for p in g[0].pictures if p.name.startswith(kind)] for s, g in comparison.by_method().items() if g}
    return {s: [embedded(p) for p in pictures] for s, pictures in groups.items() if pictures}
