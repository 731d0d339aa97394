"""A page that shows a text with what it quotes, and the sources beside it."""

from html import escape
from string import Template

from palimpsest.client.quotes import CitedText, Quote, Source
from palimpsest.report.page import html_page, linked

_HUES = 8
"""A colour for each source; the ninth has the first one's again and differs by its number."""

_STYLE = """\
mark { color: inherit; background: hsl(var(--h) 70% var(--l)); border-radius: .2em; padding: .08em .1em; }
mark.revoked { text-decoration: line-through; opacity: .6; }
mark:target { outline: 2px solid; }
sup a { text-decoration: none; font-family: system-ui, sans-serif; font-size: .75em; color: inherit; }
ol { padding-left: 1.5rem; } li { margin: .75rem 0; } li::marker { font-family: system-ui, sans-serif; }
li b { background: hsl(var(--h) 70% var(--l)); border-radius: .2em; padding: .08em .25em; font-weight: 600; }"""

_BODY = Template("""\
<h1>$prompt</h1>
<div class="text">$body</div>
<h2>Sources</h2>
$sources
<footer>$footer</footer>""")


def quotes_page(cited: CitedText, prompt: str, model: str = "") -> str:
    """Write the page.

    Parameters
    ----------
    cited
        A finished sequence.
    prompt
        Shown as its heading.
    model
        Who wrote what is not quoted.

    Returns
    -------
    str
        HTML.
    """
    body, at = [], 0
    for number, quote in enumerate(cited.quotes):
        body += [escape(cited.text[at : quote.start]), _mark(number, quote)]
        at = quote.end
    body.append(escape(cited.text[at:]))
    quotes = list(enumerate(cited.quotes))
    listed = "".join(_source(source, quotes) for source in cited.sources)
    quoted = sum(quote.end - quote.start for _, quote in quotes)
    share = f"{quoted} of {len(cited.text)} characters are quoted"
    shown = _BODY.substitute(
        prompt=escape(prompt),
        body="".join(body),
        sources=f"<ol>{listed}</ol>" if listed else "<p>Nothing is quoted.</p>",
        footer=escape(f"{share}; the rest is {model or 'the model'}'s own."),
    )
    return html_page(prompt[:80], _STYLE, shown)


def _hue(source: Source) -> int:
    return (source.number - 1) % _HUES * 360 // _HUES + 45


def _mark(number: int, quote: Quote) -> str:
    source = quote.sources[0]
    note = f"{source.label}, bytes {_bytes(quote, source)}"
    if quote.revoked:
        note = f"{source.label} has been deleted since"
    revoked = ' class="revoked"' if quote.revoked else ""
    return (
        f'<mark id="q{number}" style="--h: {_hue(source)}" title="{escape(note)}"{revoked}>{escape(quote.text)}</mark>'
        f'<sup><a href="#s{source.number}">{source.number}</a></sup>'
    )


def _bytes(quote: Quote, source: Source) -> str:
    key = (source.corpus, source.document, source.version)
    places = [s.range for s in quote.span.sources if (s.corpus, s.document, s.version) == key]
    return ", ".join(f"{place.byte_start} to {place.byte_end}" for place in places)


def _source(source: Source, quotes: list[tuple[int, Quote]]) -> str:
    title = linked(source.label, source.uri)
    own = [(number, quote) for number, quote in quotes if source in quote.sources]
    places = ", ".join(f'<a href="#q{number}">{_bytes(quote, source)}</a>' for number, quote in own)
    name = escape(f"{source.corpus} / {source.document}, version {source.version}")
    return (
        f'<li id="s{source.number}" style="--h: {_hue(source)}"><b>{title}</b><br>'
        f"<small>{name}; bytes {places}</small></li>"
    )
