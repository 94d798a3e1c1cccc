"""What the pages of reports share: the look, the template engine, numbers and texts for people."""

from pathlib import Path
from typing import Any

MAX_SHOWN = 2000  # characters of a sample or a setting


def render_page(template: Path, **values: Any) -> str:
    """The HTML that the Jinja file `template` makes of `values`; it puts `style` between its style tags, and may
    include the files beside it."""
    import jinja2  # noqa: PLC0415 - an extra

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = figure
    environment.filters["cut"] = cut
    environment.filters["brief"] = brief
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return environment.from_string(template.read_text(encoding="utf-8")).render(style=style, **values)


def figure(value: float | None, digits: int = 2) -> str:
    """A number for people; a dash for what could not be measured."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def cut(text: str, limit: int = MAX_SHOWN) -> str:
    """At most `limit` characters, with an ellipsis in place of the rest."""
    return text if len(text) <= limit else text[:limit] + "\N{HORIZONTAL ELLIPSIS}"


def brief(text: str, lines: int = 9, chars: int = 300) -> str:
    """What fits into a card of the page."""
    shown = "\n".join(text.splitlines()[:lines])[:chars].rstrip()
    return (
        shown if shown == text.rstrip() else shown.removesuffix("\N{HORIZONTAL ELLIPSIS}") + "\N{HORIZONTAL ELLIPSIS}"
    )


def table_cell(text: str) -> str:
    """Text that stays on its line and in its cell, and begins no HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
