"""The style of pages with figures: two palettes that are told apart by colour-blind readers too (Okabe and Ito)."""

STYLE = """\
:root { --before: #b84a00; --after: #0067a3; --band: #0067a322; --wash: #0067a32b; --card: #f4f1ea; }
@media (prefers-color-scheme: dark) {
  :root { --before: #e69f00; --after: #56b4e9; --band: #56b4e933; --wash: #56b4e940; --card: #22211d; }
}
body { max-width: 62rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; }
table, dl, figure, .summary, .keys, summary, pre, code { font-family: system-ui, sans-serif; }
code, pre { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }
pre { overflow-x: auto; white-space: pre-wrap; background: var(--card); padding: .75rem 1rem;
  border-radius: .4rem; line-height: 1.5; }
abbr { text-decoration: none; }
.summary { font-size: 1.1rem; }
.verdict { font-weight: 700; border: 2px solid currentColor; border-radius: .4rem; padding: .1em .5em;
  white-space: nowrap; }
td .verdict { border: 0; padding: 0; font-weight: 600; white-space: normal; }
dl { margin: 1rem 0; } dl > div { display: grid; grid-template-columns: 11rem 1fr; gap: 0 1rem; padding: .2rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .35rem 1rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--edge);
  font-weight: 400; overflow-wrap: anywhere; }
thead th { color: var(--soft); } th { overflow-wrap: break-word; } td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; } .wide td, .wide th { white-space: nowrap; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem 2rem;
  align-items: start; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.5rem 2rem; }
figure { margin: 0; line-height: 1.4; } figcaption { margin-bottom: .4rem; }
svg { width: 100%; height: auto; max-width: 26rem; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tick { font-size: 11px; fill: var(--soft); }
.grid, .axis { stroke: var(--edge); fill: none; } .ring { stroke: var(--ink); stroke-width: 1.5; fill: none; }
.area { fill: var(--wash); stroke: var(--after); stroke-width: 2; }
.target { fill: var(--band); } .kept { stroke: var(--ink); stroke-dasharray: 2 3; stroke-width: 1.5; }
.mark { stroke-width: 1.5; } .mark.after { fill: var(--after); stroke: var(--after); }
.mark.before { fill: var(--paper); stroke: var(--before); stroke-width: 2; }
.mark.reference { fill: var(--ink); stroke: var(--ink); }
.whisker { stroke-width: 2; } .whisker.before { stroke: var(--before); } .whisker.after { stroke: var(--after); }
.whisker.reference { stroke: var(--ink); }
.curve { fill: none; stroke-width: 2; } .curve.first { stroke: var(--after); }
.curve.second { stroke: var(--before); stroke-dasharray: 6 3; }
.curve.third { stroke: var(--ink); stroke-dasharray: 2 3; }
.key { white-space: nowrap; margin-right: .75rem; }
.key::before { content: ""; display: inline-block; width: 1.4em; height: .35em; margin-right: .4em;
  vertical-align: middle; }
.key.after::before { width: .7em; height: .7em; border-radius: 50%; background: var(--after); }
.key.before::before { width: .55em; height: .55em; border: 2px solid var(--before); }
.key.reference::before { width: .6em; height: .6em; background: var(--ink); transform: rotate(45deg); }
.key.target::before { height: .9em; background: var(--band); outline: 1px solid var(--edge); }
.key.first::before { border-top: 2px solid var(--after); height: 0; }
.key.second::before { border-top: 2px dashed var(--before); height: 0; }
.key.third::before { border-top: 2px dotted var(--ink); height: 0; }
summary { cursor: pointer; margin: 1rem 0; }
@media (max-width: 46rem) {
  body { padding: 1.5rem 1rem; }
  dl > div { grid-template-columns: 1fr; }
  table.cards, .cards tbody, .cards tr, .cards th, .cards td { display: block; text-align: left; }
  .cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .cards tr { border-bottom: 1px solid var(--edge); padding: .6rem 0; }
  .cards th, .cards td { border: 0; padding: .1rem 0; white-space: normal; } .cards tbody th { font-weight: 600; }
  .cards td { display: grid; grid-template-columns: 8rem 1fr; gap: .5rem; }
  .cards td::before { content: attr(data-label); color: var(--soft); }
}
@media print { details > * { display: block; } }"""
