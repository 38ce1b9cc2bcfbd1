"""The looks of the page: one accent colour, spacing, pictures; light and dark by inheritance."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
<style>
:root { --ul-line: color-mix(in srgb, currentColor 14%, transparent);
        --ul-soft: color-mix(in srgb, currentColor 62%, transparent);
        --ul-fill: color-mix(in srgb, currentColor 4%, transparent);
        --ul-accent: light-dark(#2463b8, #6ea8fe); }
[data-testid="stMainBlockContainer"] { max-width: 1120px; padding: 2.25rem 1.5rem 5rem; }
[data-testid="stHeader"] { background: transparent; }
[data-testid="stAppDeployButton"], [data-testid="stDecoration"] { display: none; }
h1, h2, h3 { letter-spacing: -0.015em; text-wrap: balance; }
.ul-head p, .ul-note { text-wrap: pretty; }
.ul-top { display: flex; align-items: baseline; gap: .75rem; flex-wrap: wrap; margin: 0; }
.ul-top h1 { font-size: 1.75rem; line-height: 1.2; font-weight: 650; margin: 0; padding: 0; }
.ul-top p { margin: 0; color: var(--ul-soft); }
.ul-note { border-left: 3px solid var(--ul-line); color: var(--ul-soft); font-size: .875rem;
           padding: .1rem 0 .1rem .75rem; margin: .25rem 0 0; }
.ul-head { margin: .75rem 0 0; }
.ul-head h2 { font-size: 1.125rem; font-weight: 600; margin: 0; padding: 0; }
.ul-head p { color: var(--ul-soft); font-size: .875rem; margin: .15rem 0 0; max-width: 88ch; }
.ul-row { display: flex; flex-wrap: wrap; gap: .75rem; }
.ul-row figure { margin: 0; width: var(--ul-size); }
.ul-row img, .ul-made img { display: block; width: 100%; aspect-ratio: var(--ul-aspect, 1);
    object-fit: contain; background: #fff; border-radius: 10px; border: 1px solid var(--ul-line); }
.ul-row figcaption { font-size: .75rem; line-height: 1.25; color: var(--ul-soft); margin-top: .3rem;
    overflow: hidden; display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; }
.ul-small { --ul-size: 44px; gap: .4rem; } .ul-medium { --ul-size: 76px; }
.ul-large { --ul-size: 112px; }
.ul-hero figure { margin: 0; }
.ul-small figcaption { font-size: .6875rem; margin-top: .15rem; text-align: center; }
.ul-strip { flex-wrap: nowrap; gap: 2px; overflow-x: auto; padding-bottom: .35rem; }
.ul-strip figure { flex: 1 0 72px; width: auto; }
.ul-strip img { border-radius: 0; border-width: 1px 0; }
.ul-made { border: 1px solid var(--ul-line); border-radius: 14px; padding: .75rem;
    background: var(--ul-fill); }
.ul-made h3 { font-size: .75rem; font-weight: 600; margin: .75rem 0 .35rem; padding: 0;
    color: var(--ul-soft); letter-spacing: 0; }
.ul-wait { aspect-ratio: 1; border-radius: 10px; border: 1px dashed var(--ul-line);
    display: grid; place-items: center; color: var(--ul-soft); font-size: .8125rem; }
.st-key-made { display: grid; gap: .9rem;
    grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); }
.st-key-made > div { width: auto; }
.st-key-taps, .st-key-items { display: grid; gap: .75rem;
    grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); }
.st-key-taps > div, .st-key-items > div { width: auto; }
[class*="st-key-tap-"] button { width: 100%; padding: 4px; min-height: 0; border-radius: 12px;
    position: relative; }
[class*="st-key-tap-"] button img { width: 76px; height: 76px; max-height: none;
    object-fit: contain; border-radius: 8px; background: #fff; vertical-align: top; }
[class*="st-key-tap-"] button p { line-height: 0; }
[class*="st-key-tap-"] button span:has(> [data-testid="stIconMaterial"]) { position: absolute;
    z-index: 1; right: -7px; top: -7px; border-radius: 50%; padding: 3px;
    background: var(--ul-accent); color: light-dark(#fff, #0e1117); }
[class*="st-key-tap-"] button [data-testid="stIconMaterial"] { font-size: .9rem; display: block; }
[class*="st-key-tap-"] button[kind="primary"] { border-color: var(--ul-accent);
    box-shadow: 0 0 0 2px var(--ul-accent); background: transparent; }
[class*="st-key-tap-"] button:not([kind="primary"]):has([data-testid="stIconMaterial"]) img {
    opacity: .35; }
[class*="st-key-tap-"] button:focus-visible { outline: 3px solid currentColor;
    outline-offset: 2px; }
.ul-figures { display: grid; gap: .9rem; margin: 0 !important; padding: 0 !important;
    grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); }
.ul-figures div { border: 1px solid var(--ul-line); border-radius: 14px; padding: .8rem .9rem; }
.ul-figures dt { font-size: .8125rem; color: var(--ul-soft); }
.ul-figures dd { margin: 0; font-size: .75rem; color: var(--ul-soft); }
.ul-figures dd.value { font-size: 1.625rem; font-weight: 600; line-height: 1.3; color: inherit;
    font-variant-numeric: tabular-nums; }
[data-testid="stSliderThumbValue"] { white-space: nowrap; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 1.25rem 1rem 4rem; }
  .st-key-made { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .6rem; }
  .ul-made { padding: .5rem; }
  .ul-figures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .6rem; }
  .st-key-map { height: calc((100vw - 2rem) * .82) !important; overflow: hidden; }
  .st-key-settings { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem 1.25rem; }
  .st-key-settings > div { width: auto; }
  .ul-small { --ul-size: 38px; } .ul-medium { --ul-size: 66px; }
  .st-key-taps, .st-key-items { gap: .5rem;
    grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)); }
  [class*="st-key-tap-"] button img { width: 66px; height: 66px; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; } }
</style>
"""
