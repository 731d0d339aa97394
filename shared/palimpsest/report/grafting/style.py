"""The style of maps: shades of two hues that colour-blind readers tell apart (Okabe and Ito), light and dark."""

MAP_STYLE = """\
:root { --none: #f3efe6; --high: #003f66; --low: #a84300; --token: #eae5d9; }
@media (prefers-color-scheme: dark) {
  :root { --none: #26241f; --high: #a5dcff; --low: #ffb03b; --token: #2e2b25; }
}
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.tokens { font: .95rem/2 ui-monospace, monospace; overflow-wrap: anywhere; }
.tokens bdi { background: var(--token); border-radius: .2rem; padding: .1rem .15rem; margin: 0 1px;
  -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.tokens .goal bdi { background: none; outline: 2px solid var(--after); outline-offset: -2px; padding: .1rem .3rem; }
.wide { position: relative; }
.map { table-layout: fixed; border-collapse: separate; border-spacing: 1px; font-size: .8rem; line-height: 1.2;
  width: min(100%, 8.5rem + var(--n) * 6rem); min-width: calc(6.5rem + var(--n) * 10px);
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
.map th, .map td { border: 0; padding: 0; white-space: nowrap; vertical-align: middle; }
.map tbody th { position: sticky; left: 0; background: var(--paper); font: .8rem ui-monospace, monospace;
  overflow: hidden; text-overflow: ellipsis; text-align: right; padding-right: .4rem; z-index: 1; }
.map tbody th.named { font-style: italic; }
.map .corner { width: 8.5rem; position: sticky; left: 0; background: var(--paper); text-align: right;
  vertical-align: bottom; padding-right: .4rem; z-index: 1; }
.map thead th:not(.corner) { vertical-align: bottom; font-size: .75rem; overflow-wrap: normal; }
.map td { height: 1.45rem; border-radius: 2px; scroll-margin: 1rem 1rem 8rem 9rem;
  background: color-mix(in oklab, var(--high) calc(var(--v) * 1%), var(--none)); }
.map.diverging td { background: color-mix(in oklab, var(--low) calc(max(0, 0 - var(--v)) * 1%),
  color-mix(in oklab, var(--high) calc(max(0, var(--v)) * 1%), var(--none))); }
.map td.unset, .key.unset::before { background: repeating-linear-gradient(135deg, var(--soft) 0 1.5px,
  var(--paper) 1.5px 5px); }
.map td.exact { position: relative; }
.map td.exact::after { content: ""; position: absolute; inset: 0; margin: auto; width: 6px; height: 6px;
  border-radius: 50%; background: var(--paper); box-shadow: 0 0 0 1.5px var(--ink); }
.key.exact::before { width: 7px; height: 7px; border-radius: 50%; background: var(--paper);
  box-shadow: 0 0 0 1.5px var(--ink); margin: 0 .5em 0 .2em; }
.map td.none { background: none; outline: 1px dotted var(--edge); outline-offset: -1px; }
.map td[data-c] { cursor: crosshair; }
.map td:focus { outline: 3px solid var(--ink); outline-offset: 0; box-shadow: inset 0 0 0 2px var(--paper); z-index: 2;
  position: relative; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; font-family: system-ui, sans-serif;
  font-size: .9rem; line-height: 1.4; margin: .5rem 0; } .legend[hidden] { display: none; }
.legend small { flex-basis: 100%; }
.scale { display: inline-flex; gap: .5rem; align-items: center; font-variant-numeric: tabular-nums; }
.ramp { width: min(12rem, 34vw); height: .9rem; border-radius: 2px;
  background: linear-gradient(to right in oklab, var(--none), var(--high)); }
.ramp.falling { background: linear-gradient(to right in oklab, var(--high), var(--none)); }
.ramp.diverging { background: linear-gradient(to right in oklab, var(--low), var(--none), var(--high)); }
.ramp, .key.unset::before { outline: 1px solid var(--edge);
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
.key.unset::before { height: .9em; }
.case { margin: 1.5rem 0; } .case > summary { font-family: inherit; font-weight: 600; overflow-wrap: anywhere; }
.case td, .case th { overflow-wrap: break-word; } .case pre { direction: ltr; unicode-bidi: isolate; }
.case h3 { font: 600 .95rem system-ui, sans-serif; margin: 1.5rem 0 .3rem; }
.beside dl { margin-top: 0; } .beside dl > div { grid-template-columns: 9rem 1fr; }
@media (max-width: 46rem) { .beside dl > div { grid-template-columns: 1fr; } }
.case h4 { font: 600 .9rem system-ui, sans-serif; margin: 1rem 0 .3rem; }
svg .dot { fill: var(--soft); } svg .equal { stroke: var(--ink); stroke-dasharray: 5 3; }
svg .bar.more { fill: var(--after); opacity: .45; } svg .bar.less { fill: var(--before); opacity: .45; }
.key.bar::before { height: .7em; background: var(--after); opacity: .45; }
.key.other::before { width: 4px; height: 4px; border-radius: 50%; background: var(--soft); }
figcaption .key { font-size: .85rem; display: inline-block; }
@media (max-width: 46rem) { .map .corner { width: 6.5rem; } .map td { scroll-margin-left: 7rem; } }"""

PAGE_STYLE = """\
.switch { border: 0; min-width: 0; padding: .5rem 0; margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .3rem .4rem;
  font: .9rem system-ui, sans-serif; position: sticky; top: 0; background: var(--paper); z-index: 3; }
.switch legend { padding: 0; float: left; margin-right: .6rem; line-height: 2rem; color: var(--soft); }
.switch label { border: 1px solid var(--edge); border-radius: .4rem; padding: 0 .6rem; line-height: 2rem;
  cursor: pointer; }
.switch input { position: absolute; opacity: 0; }
.switch label:has(:checked) { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.switch label:has(:focus-visible) { outline: 3px solid var(--after); outline-offset: 1px; }
.read { position: sticky; bottom: 0; background: var(--paper); border-top: 1px solid var(--edge); padding: .5rem 0;
  font: .9rem/1.4 system-ui, sans-serif; overflow-wrap: anywhere; z-index: 3; min-height: 3.6rem; }
.read output { display: block; font-weight: 600; } .read div { color: var(--soft); font-size: .85rem; }
@media (max-width: 46rem) { .switch { flex-wrap: nowrap; overflow-x: auto; white-space: nowrap; } }"""
