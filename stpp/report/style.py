"""How the page looks: light, dark and in print, from a phone's width on.

The colours of series begin with Okabe and Ito's; readers with any kind of colour blindness can tell all six apart.
"""

CSS = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f5f6f8; --ink: #1c2430; --soft: #566072; --grid: #d5dae1; --accent: #0072b2;
  --shade: #c3cad4; --depth: 75%; --warn: #fff4e0; --warn-ink: #8a4b00;
  --series-1: #0072b2; --series-2: #d55e00; --series-3: #009e73; --series-4: #7a2fbf; --series-5: #222222;
  --series-6: #702810;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --panel: #1b212a; --ink: #e4e8ee; --soft: #a3adba; --grid: #343d4a; --accent: #6bb8e8;
    --shade: #000000; --depth: 45%; --warn: #33270f; --warn-ink: #f2b84b;
    --series-1: #56b4e9; --series-2: #f08a3c; --series-3: #009e73; --series-4: #9a5cf0; --series-5: #ececec;
    --series-6: #a84f86;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: .5rem; border-top: 1px solid var(--grid); }
section:first-child h2 { margin-top: 0; border: 0; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0 .8rem; }
a { color: var(--accent); }
.lead { font-size: 1.1rem; }
.soft, figcaption { color: var(--soft); }
nav { position: sticky; top: 0; z-index: 1; background: var(--page); border-bottom: 1px solid var(--grid);
  margin: 1rem 0; padding: .45rem 0; display: flex; gap: .25rem 1rem; overflow-x: auto; white-space: nowrap; }
section { scroll-margin-top: 3rem; }
.warnings { background: var(--warn); color: var(--warn-ink); border-left: .3rem solid currentColor;
  border-radius: .3rem; padding: .7rem 1rem; margin: 1rem 0; }
.warnings h2 { border: 0; margin: 0; padding: 0; font-size: 1.05rem; }
.warnings ul { margin: .3rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
/* A shade at the side on which there is more to scroll to. */
.scroll, pre { overflow-x: auto; max-width: 100%; --base: var(--page); background-color: var(--base);
  background-image: linear-gradient(90deg, var(--base) 1.5rem, transparent),
    linear-gradient(-90deg, var(--base) 1.5rem, transparent), linear-gradient(90deg, var(--shade), transparent),
    linear-gradient(-90deg, var(--shade), transparent);
  background-position: 0 0, 100% 0, 0 0, 100% 0; background-repeat: no-repeat;
  background-size: 3rem 100%, 3rem 100%, .9rem 100%, .9rem 100%; background-attachment: local, local, scroll, scroll; }
.scroll { margin: .3rem 0 1.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem 1.2rem .28rem 0; border-bottom: 1px solid var(--grid); vertical-align: top; text-align: left; }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
td.text { min-width: 5rem; overflow-wrap: anywhere; }
td.text:nth-child(n + 3) { min-width: 16rem; }
th.number { text-align: right; }
td.number { text-align: right; white-space: nowrap; }
.confusion { font-size: .8rem; }
.confusion td { text-align: right; padding: .2rem .35rem; border: 1px solid var(--page); min-width: 2.1rem;
  background: color-mix(in srgb, var(--accent) calc(var(--share) * var(--depth)), var(--panel)); }
.confusion thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; vertical-align: bottom;
  padding: .3rem 0; }
.confusion thead th:first-child { writing-mode: initial; transform: none; vertical-align: bottom; }
.grid { display: grid; gap: 1.2rem 1.5rem; margin: .8rem 0; }
.columns-3 { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.columns-2 { grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
figure { margin: 0; min-width: 0; break-inside: avoid; }
.grid > figure { display: flex; flex-direction: column; justify-content: space-between; }
.columns-2 > figure { justify-content: flex-start; }
figcaption { font-size: .92rem; margin-bottom: .3rem; overflow-wrap: anywhere; }
.chart { display: block; width: 100%; max-width: 31rem; height: auto; stroke-linejoin: round; overflow: visible;
  font-family: inherit; }
.legend { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1rem; margin: .8rem 0; font-size: .92rem; }
.legend dt { color: var(--soft); }
.legend dd { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 0; }
.swatch { display: inline-block; width: 1.1em; height: 1.1em; margin-right: .4em; vertical-align: -.15em;
  border: 1px solid var(--soft); border-radius: .15em; }
.ramp { width: 5em; margin-left: .4em; }
.picture-row { border-top: 1px solid var(--grid); padding: .6rem 0 1rem; break-inside: avoid; }
.picture-row h4 { margin: 0 0 .4rem; font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
.picture-row h4 span { font-weight: 400; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.2rem, 1fr)); gap: .5rem; max-width: 70rem; }
.tiles figure { max-width: 12rem; }
.tiles.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
.tiles.large figure { max-width: 25rem; }
.tiles img { display: block; width: 100%; height: auto; border-radius: .2rem; background: var(--panel); }
.tiles img.mask { image-rendering: pixelated; }
.tiles figcaption { font-size: .8rem; line-height: 1.25; margin: .2rem 0 0; }
.viewer { margin: 1rem 0; }
[hidden] { display: none !important; }
.bar { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; margin: .5rem 0; }
.bar label { display: flex; flex-direction: column; font-size: .85rem; color: var(--soft); min-width: 0; }
.viewer select, .viewer input, .viewer button { font: inherit; font-size: .92rem; color: var(--ink);
  background: var(--panel); border: 1px solid var(--soft); border-radius: .25rem; padding: .2rem .4rem; height: 2rem; }
.viewer select { max-width: 13rem; }
.viewer input[type=number] { width: 7.5rem; }
.viewer input[type=range] { width: 9rem; padding: 0; accent-color: var(--accent); }
.viewer button { min-width: 2.6rem; cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.desk { scroll-margin: 3.5rem 0 1rem; display: grid; gap: 1.5rem;
  grid-template-columns: minmax(0, 1fr) minmax(12rem, max-content); }
.desk .name { font-weight: 600; margin: .2rem 0 .4rem; overflow-wrap: anywhere; }
.stage { overflow: auto; max-height: 75vh; background: var(--panel); border-radius: .3rem; }
.sheet { position: relative; margin: 0 auto; width: calc(var(--zoom) * min(100%, 70vh * var(--aspect))); }
.sheet img { display: block; width: 100%; height: auto; }
.sheet .layer, .stack .layer { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated; }
.sheet .layer { opacity: var(--opacity); }
.sheet .left { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.sheet .right { clip-path: inset(0 0 0 var(--at)); }
.handle { position: absolute; inset: 0 auto 0 var(--at); width: 1.5rem; margin-left: -.75rem; cursor: ew-resize;
  touch-action: none; background: linear-gradient(#000 0 0) center / 4px 100% no-repeat; }
.handle::after { content: ""; position: absolute; inset: 0 calc(50% - 1px); background: #fff; }
.facts { font-size: .88rem; max-height: 75vh; overflow: auto; }
.facts th, .facts td { padding: .15rem .8rem .15rem 0; }
.shots { position: relative; display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .5rem;
  max-height: 26rem; overflow-y: auto; padding: .4rem; border: 1px solid var(--grid); border-radius: .3rem; }
.shot { display: block; font-size: .75rem; line-height: 1.25; color: var(--ink); text-decoration: none;
  padding: .2rem; border-radius: .3rem; min-width: 0; }
.shot[aria-current=true] { background: var(--panel); outline: 2px solid var(--accent); outline-offset: -2px; }
.shot .name, .shot .soft { display: block; overflow-wrap: anywhere; }
.stack { position: relative; display: block; margin-bottom: .2rem; }
.stack img { display: block; width: 100%; height: auto; border-radius: .2rem; }
.stack .layer { display: none; opacity: .5; }
.stack .layer[data-layer=prediction] { display: block; }
.shots + figure { margin-top: 1.5rem; }
.example { display: inline-block; margin-right: 1.2rem; }
.download { font-size: .8rem; white-space: nowrap; }
td .bars { display: inline-block; width: 8rem; text-align: left; }
.filled { display: inline-block; height: .7em; background: var(--series-1); border-radius: .1em; min-width: 1px; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { --base: var(--panel); padding: .8rem 1rem; border-radius: .3rem; font-size: .85rem;
  line-height: 1.4; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .92em; }
@media (max-width: 30rem) {
  h1 { font-size: 1.5rem; }
  table { font-size: .9rem; }
  th, td { padding-right: .8rem; }
  .confusion { font-size: .72rem; }
  .confusion td { min-width: 1.9rem; }
  .tiles:not(.large) { grid-template-columns: repeat(3, 1fr); }
  .desk { grid-template-columns: minmax(0, 1fr); }
  .bar label { flex: 1 1 8rem; }
  .viewer .bar select, .viewer .bar input { width: 100%; max-width: none; }
}
@page { margin: 15mm; }
@media print {
  :root { color-scheme: light; --depth: 75%; --page: #fff; --panel: #f5f6f8; --ink: #000; --soft: #444; --grid: #ccc;
    --accent: #0072b2; --warn: #fff; --warn-ink: #8a4b00; --series-1: #0072b2; --series-2: #d55e00;
    --series-3: #009e73; --series-4: #7a2fbf; --series-5: #222222; --series-6: #702810; }
  body { max-width: none; padding: 0; font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav, .download, #images { display: none; }
  h2, h3, h2 + p, h3 + p, .legend { break-after: avoid; }
  h2 { margin-top: 1.5rem; }
  tr { break-inside: avoid; }
  table { font-size: 8.5pt; }
  th, td { padding-right: .5rem; }
  tbody th, td.text { overflow-wrap: anywhere; }
  .grid { grid-template-columns: 1fr 1fr; }
  .grid > figure:has(.confusion) { grid-column: 1 / -1; }
  .tiles { grid-template-columns: repeat(9, 1fr); gap: .25rem; }
  .tiles figcaption { font-size: .6rem; }
  .confusion { font-size: .6rem; }
  .confusion td { min-width: 1.5rem; padding: .15rem .2rem; }
  .scroll, pre { overflow: visible; background-image: none; }
  pre { white-space: pre-wrap; }
}
"""
