"""A report as one HTML file that needs no network, and numbers as it writes them."""

from base64 import b64encode
from datetime import UTC, datetime
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

from ...strategies.metrics import Interval
from ...version import __version__


def page(template: str, **values: Any) -> str:
    """An HTML page that holds everything and asks nothing of any network."""
    import jinja2
    from markupsafe import Markup

    here = Path(__file__).parent
    made = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(here),
    )
    made.filters |= {"percent": percent, "plain": plain, "bytes": carried, "digits": digits, "small": small}
    style = Markup((here / "page.css").read_text())
    return made.get_template(template).render(style=style, made=_made(), **values)


def percent(value: Interval) -> str:
    """As `81.4 ± 0.9`, in per cent."""
    return plain(Interval(100 * value.mean, 100 * value.half))


def plain(value: Interval) -> str:
    if isnan(value.mean):
        return "–"
    return f"{value.mean:.1f}".replace("-", "−") + ("" if isnan(value.half) else f" ± {value.half:.1f}")


def small(value: Interval) -> str:
    """As `0.114 ± 0.012`: a loss."""
    half = "" if isnan(value.half) else f" ± {digits(value.half, '.2g')}"
    return digits(value.mean, ".3g") + half


def digits(value: float, form: str) -> str:
    """One number in a format such as ".1f"."""
    return "–" if isnan(value) else format(value, form).replace("-", "−")


def carried(value: Interval | float) -> str:
    """Bytes in the unit that suits them."""
    size, units = value.mean if isinstance(value, Interval) else value, ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def embedded(picture: Path) -> str:
    """A PNG file as an address that needs no network."""
    return f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}"


def _made() -> dict[str, Any]:
    packages = {"perdure": __version__} | {p: version(p) for p in ("torch", "ray", "mlflow")}
    return {"when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "with": packages}
