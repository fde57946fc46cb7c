"""What all pages of the sandbox have in common: the shop's look, and no script but one known by its
hash. `Markup.format` escapes everything that it is given.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Literal

from markupsafe import Markup

PageName = Literal["books", "faults"]

# Writes the numbers beside the sliders while they move. Without it they stand there after sending.
SCRIPT = """
for (const slider of document.querySelectorAll("input[type=range]")) {
  slider.addEventListener("input", () => {
    const text = `${slider.value} ${slider.dataset.unit}`;
    slider.labels[0].querySelector("span").textContent = text;
    slider.ariaValueText = text;
  });
}
"""
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    f"base-uri 'none'; frame-ancestors 'none'; script-src 'sha256-{_SCRIPT_HASH}'",
    "X-Content-Type-Options": "nosniff",
}

# The colours are those of the shop's pages, which hold WCAG 2.2 AA, light and dark.
_FRAME = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{extra}<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --paper: #fbfaf8; --surface: #fff; --sunken: #f3f0ea; --ink: #1d1b18; --ink-2: #5a554d;
  --line: #e6e1d8; --line-strong: #8b857a; --brand: #0d5c4d; --brand-strong: #094539;
  --on-brand: #fff; --good: #14663a; --good-soft: #e3f3e8; --bad: #a3211a; --bad-soft: #fcebe9;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --paper: #131514; --surface: #1c1f1d; --sunken: #181a19; --ink: #f2efe9; --ink-2: #b8b3a9;
    --line: #303431; --line-strong: #848a85; --brand: #74d6bc; --brand-strong: #9be5d1;
    --on-brand: #06231c; --good: #84d8a4; --good-soft: #15301f; --bad: #ff9d94; --bad-soft: #3b1a18;
  }}
}}
*, *::before, *::after {{ box-sizing: border-box }}
html {{ scroll-padding-bottom: 96px }} /* the height of .actions */
body {{
  margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word;
  font: 400 1rem/1.55 -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue",
    "Noto Sans", "Liberation Sans", Arial, sans-serif;
}}
header {{ background: var(--surface); border-bottom: 1px solid var(--line) }}
header nav, main {{ max-width: 1200px; margin: 0 auto; padding: 14px 24px }}
header nav {{ display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 24px }}
header b {{ font-size: 1.35rem; letter-spacing: -.035em; margin-right: auto }}
header a {{ display: inline-block; padding: 6px 0; color: var(--ink); text-decoration: none }}
header a[aria-current] {{ font-weight: 660; box-shadow: 0 2px var(--brand) }}
main {{ padding-top: 28px; padding-bottom: 56px }}
a {{ color: var(--brand); text-underline-offset: .18em }}
h1, h2 {{ margin: 0; line-height: 1.15; letter-spacing: -.02em }}
h1 {{ font-size: clamp(1.8rem, 1.35rem + 1.9vw, 2.7rem) }}
h2 {{ font-size: 1.15rem }}
p {{ margin: 0 }}
dl, dd {{ margin: 0 }}
code {{
  font-family: ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; font-size: .88em;
}}
button, input {{ font: inherit; color: inherit }}
:focus-visible {{ outline: 3px solid var(--brand); outline-offset: 2px; border-radius: 6px }}
.lead, .hint {{ color: var(--ink-2) }}
.lead {{ margin: 8px 0 24px; max-width: 66ch }}
.hint {{ font-size: .89rem }}
.notice {{ margin-bottom: 20px; padding: 13px 18px; border-radius: 10px }}
.notice-good {{ background: var(--good-soft); color: var(--good) }}
.notice-bad {{ background: var(--bad-soft); color: var(--bad) }}
.notice a {{ color: inherit }}
.panel {{
  min-width: 0; margin: 0; padding: clamp(18px, 2.6vw, 28px);
  border: 1px solid var(--line); border-radius: 16px; background: var(--surface);
}}
fieldset > legend {{ float: left; width: 100%; padding: 0 }}
fieldset > legend + * {{ clear: both }}
.columns {{
  display: grid; gap: 20px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
}}
.field {{ padding-top: 18px }}
.field label {{ display: flex; justify-content: space-between; gap: 16px; font-weight: 600 }}
.field label span {{ white-space: nowrap; font-variant-numeric: tabular-nums }}
.field input {{ width: 100% }}
.field input[type=range] {{ height: 28px; margin: 0; accent-color: var(--brand) }}
.field input[type=number] {{
  display: block; max-width: 12rem; height: 44px; margin-top: 6px; padding: 0 14px;
  border: 1px solid var(--line-strong); border-radius: 10px; background: var(--surface);
}}
.is-on label span {{ color: var(--bad) }}
.is-on input[type=range] {{ accent-color: var(--bad) }}
.scale {{
  display: grid; grid-template-columns: 1fr auto 1fr; color: var(--ink-2); font-size: .8rem;
}}
.scale span:last-child {{ text-align: right }}
.actions {{
  position: sticky; bottom: 0; display: flex; flex-wrap: wrap; gap: 12px; padding: 16px 0;
  background: var(--paper);
}}
.button {{
  min-height: 46px; padding: 10px 22px; border: 1px solid transparent; border-radius: 99px;
  background: var(--brand); color: var(--on-brand); font-weight: 620; cursor: pointer;
}}
.button:hover {{ background: var(--brand-strong) }}
.button:focus-visible {{ border-radius: 99px }}
.button-quiet, .button-quiet:hover {{
  background: var(--surface); color: var(--brand); border-color: var(--line-strong);
}}
.sums {{ display: flex; flex-wrap: wrap; gap: 12px 48px; margin-bottom: 20px }}
.sums dt {{ color: var(--ink-2) }} .sums dd {{ font-size: 1.5rem; font-weight: 660 }}
.scroll {{ /* an edge behind which there is more is dark */
  --edge: color-mix(in srgb, var(--ink) 55%, transparent); overflow-x: auto; background:
    linear-gradient(to right, var(--surface) 40%, transparent) 0 0 / 40px 100% no-repeat local,
    linear-gradient(to left, var(--surface) 40%, transparent) 100% 0 / 40px 100% no-repeat local,
    linear-gradient(to right, var(--edge), transparent) 0 0 / 14px 100% no-repeat scroll,
    linear-gradient(to left, var(--edge), transparent) 100% 0 / 14px 100% no-repeat scroll,
    var(--surface);
}}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .4rem .8rem; border-bottom: 1px solid var(--line); text-align: left }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
th, td {{ white-space: nowrap }}
</style>
</head>
<body>
<header><nav aria-label="Sandbox"><b>Stripe sandbox</b>{links}</nav></header>
<main>
{main}
</main>
{script}</body>
</html>
""")
_LINK = Markup('<a href="{}"{}>{}</a>')
_LINKS: tuple[tuple[PageName, str, str], ...] = (
    ("books", "/", "Books"),
    ("faults", "/faults", "Faults"),
)
_HERE = Markup(' aria-current="page"')


def frame(
    here: PageName, title: str, main: Markup, *, renewed_seconds: int = 0, has_sliders: bool = False
) -> str:
    """The whole page.

    :param renewed_seconds: how often a browser asks for it again; 0 leaves that to people.
    """
    refresh = Markup('<meta http-equiv="refresh" content="{}">\n').format(renewed_seconds)
    return _FRAME.format(
        title=title,
        extra=refresh if renewed_seconds else "",
        links=Markup().join(
            _LINK.format(path, _HERE if name == here else "", text) for name, path, text in _LINKS
        ),
        main=main,
        script=Markup("<script>{}</script>\n").format(Markup(SCRIPT)) if has_sliders else "",  # noqa: S704  ours
    )
