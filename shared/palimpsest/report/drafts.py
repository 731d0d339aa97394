"""A page that shows drafts side by side, with the prefix they share with the best one dimmed."""

from collections.abc import Sequence
from html import escape
from string import Template

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.drafts import Draft, Plan, shared_length
from palimpsest.report.page import html_page, linked

_TAIL = 400
"""Characters of the prompt's end that are shown."""

_STYLE = """\
body { max-width: 72rem; }
.drafts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); gap: 1rem;
  padding: 0; list-style: none; }
.drafts li { border: 1px solid var(--edge); border-radius: .5rem; padding: .75rem 1rem; }
.drafts .text { margin: .35rem 0; }
.rank { font: 600 .8rem system-ui, sans-serif; color: var(--soft); }
.prompt, .shared { color: var(--soft); } .shared { opacity: .75; }
.sources { padding-left: 1rem; margin: .35rem 0 0; } .sources li { border: 0; padding: 0; }"""

_BODY = Template("""\
<h1>Drafts</h1>
<div class="text prompt">$prompt</div>
$drafts
<footer>$footer</footer>""")


def drafts_page(drafts: Sequence[Draft], prompt: str, plan: Plan | None = None, model: str = "") -> str:
    """Write the page.

    Parameters
    ----------
    drafts
        Best first.
    prompt
        The prompt; its end is shown above the drafts.
    plan
        How the drafts were made.
    model
        The model's name.

    Returns
    -------
    str
        HTML.
    """
    best = drafts[0].text if drafts else ""
    cards = "".join(_card(rank, draft, best) for rank, draft in enumerate(drafts))
    made = f"{len(drafts)} drafts of {model or 'the model'}"
    how = f", {plan.strategy}" if plan is not None else ""
    tail = prompt if len(prompt) <= _TAIL else "…" + prompt[-_TAIL:]
    shown = _BODY.substitute(
        prompt=escape(tail),
        drafts=f'<ol class="drafts">{cards}</ol>' if cards else "<p>There are no drafts.</p>",
        footer=escape(f"{made}{how}. Dimmed: the prefix that a draft shares with the best one."),
    )
    return html_page(prompt[-80:] or "Drafts", _STYLE, shown)


def _card(rank: int, draft: Draft, best: str) -> str:
    alike = shared_length(draft.text, best) if rank else 0
    head = f'<span class="shared">{escape(draft.text[:alike])}</span>' if alike else ""
    known = "" if draft.logprob is None else f"log-probability {draft.logprob:.2f}, "
    ended = f"{draft.reason} {draft.stop!r}" if draft.stop else draft.reason
    facts = escape(f"{known}{len(draft.token_ids)} tokens, {ended}")
    sources = "".join(map(_source, draft.sources))
    return (
        f'<li><span class="rank">{rank + 1}</span><div class="text">{head}{escape(draft.text[alike:])}</div>'
        f"<small>{facts}</small>" + (f'<ul class="sources">{sources}</ul>' if sources else "") + "</li>"
    )


def _source(source: pb.QuoteSource) -> str:
    where = f"{source.corpus} / {source.document}, version {source.version}"
    places = f"bytes {source.range.byte_start} to {source.range.byte_end}"
    label = linked(source.title or source.document, source.uri)
    return f"<li>{label}<br><small>{escape(where)}; {places}</small></li>"
