"""Whatever came out of a command."""

from typing import TYPE_CHECKING

from .comparison import comparison, comparison_json
from .search import searched, searched_json

if TYPE_CHECKING:
    from ...platform.reports.comparison import Comparison
    from ...platform.reports.meta_comparison import MetaComparison
    from ...platform.search.results import Searched


def made(known: "Comparison | MetaComparison | Searched", json: bool, console) -> None:
    """What came out of a command, for a reader or for programs."""
    from ...platform.search.results import Searched

    if isinstance(known, Searched):
        print(searched_json(known)) if json else searched(known, console)
    else:
        print(comparison_json(known)) if json else comparison(known, console)
