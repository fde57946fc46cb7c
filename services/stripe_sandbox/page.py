"""The ledger as a page for people. `Markup.format` escapes everything that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

_PAGE = Markup("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>Stripe sandbox</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
dl {{ display: flex; flex-wrap: wrap; gap: 1rem 3rem }}
dt {{ opacity: .75 }} dd {{ margin: 0; font-size: 1.5rem }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .4rem .8rem; border-bottom: 1px solid #8886; text-align: left }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }} td {{ white-space: nowrap }}
</style>
<h1>Stripe sandbox</h1>
<p>No real money moves here. The newest {shown} of {count} payments, renewed every five seconds.</p>
<dl>{totals}</dl>
<div class="scroll" tabindex="0" role="region" aria-label="Payments"><table>
<thead><tr><th>Time (UTC)<th>Order<th>Payment<th>Status<th>Refusal
<th class="number">Amount<th class="number">Captured</tr></thead>
<tbody>{rows}</tbody>
</table></div>
</html>
""")
_TOTAL = Markup("<div><dt>{}</dt><dd>{}</dd></div>")
_ROW = Markup(
    '<tr><td>{}<td>{}<td><code>{}</code><td>{}<td>{}<td class="number">{}<td class="number">{}</tr>'
)


def render(ledger: Mapping[str, Any]) -> str:
    """The page of a ledger as `Books.ledger` gives it."""
    totals, intents = ledger["totals"], ledger["payment_intents"]
    sums = (
        ("Authorized, not captured", totals["authorized_open_cents"]),
        ("Captured", totals["captured_cents"]),
        ("Refunded", totals["refunded_cents"]),
    )
    return _PAGE.format(
        shown=len(intents),
        count=totals["payment_intents"],
        totals=Markup().join(_TOTAL.format(name, _money(cents)) for name, cents in sums),
        rows=Markup().join(_row(intent) for intent in intents),
    )


def _row(intent: Mapping[str, Any]) -> Markup:
    refusal: Mapping[str, str] = intent["last_payment_error"] or {}
    return _ROW.format(
        f"{datetime.fromtimestamp(intent['created'], UTC):%Y-%m-%d %H:%M:%S}",
        intent["metadata"].get("order_id", ""),
        intent["id"],
        intent["status"].replace("_", " "),
        refusal.get("decline_code", ""),
        f"{_money(intent['amount'])} {intent['currency'].upper()}",
        _money(intent["amount_received"]),
    )


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"
