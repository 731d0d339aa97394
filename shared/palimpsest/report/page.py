"""What pages have in common: one file each, nothing loaded from anywhere, light or dark as the reader likes it."""

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c1b19; --paper: #fdfcf9; --edge: #d8d4ca; --soft: #6b675e; --l: 88%; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ece9e2; --paper: #191815; --edge: #3d3a34; --soft: #a29d92; --l: 26%; }
}
body { margin: 0 auto; max-width: 46rem; padding: 2.5rem 1.25rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.65 Georgia, "Times New Roman", serif; }
h1 { font-size: 1.25rem; line-height: 1.35; } h2 { font-size: 1rem; margin-top: 2.5rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
small, footer { color: var(--soft); font-size: .85rem; } footer { margin-top: 2.5rem; border-top: 1px solid var(--edge);
  padding-top: .75rem; }
$style
</style>
$body
</html>
""")


def html_page(title: str, style: str, body: str) -> str:
    """Put a page together.

    Parameters
    ----------
    title
        Plain text.
    style, body
        CSS added to that of every page, and HTML in which untrusted text is already escaped.
    """
    return _PAGE.substitute(title=escape(title), style=style, body=body)


def linked(label: str, uri: str) -> str:
    """A source's label, linked if it is on the web or a file of this machine: other schemes could run code."""
    if uri.startswith(("http://", "https://", "file:///")):
        return f'<a href="{escape(uri)}">{escape(label)}</a>'
    return escape(label)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; its first column names the row. A column named with a leading ``>`` holds numbers.

    On a narrow screen each row becomes a card whose cells name their columns.

    Parameters
    ----------
    caption
        For those who do not see it.
    columns, rows
        HTML in which untrusted text is already escaped; columns are plain text.
    """
    names = [column.lstrip(">") for column in columns]
    kinds = [' class="number"' if column[0] == ">" else "" for column in columns]
    head = "".join(
        f'<th scope="col" role="columnheader"{kind}>{escape(name)}</th>'
        for name, kind in zip(names, kinds, strict=True)
    )
    body = "".join(_row(names, kinds, row) for row in rows)
    # The roles are what the elements have anyway; a browser drops those of rows that are no longer drawn as such.
    return (
        f'<table role="table" class="cards"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )


def _row(names: Sequence[str], kinds: Sequence[str], cells: Sequence[str]) -> str:
    first, *rest = cells
    others = "".join(
        f'<td role="cell" data-label="{escape(name)}"{kind}>{cell or "–"}</td>'
        for name, kind, cell in zip(names[1:], kinds[1:], rest, strict=True)
    )
    return f'<tr role="row"><th scope="row" role="rowheader">{first}</th>{others}</tr>'
