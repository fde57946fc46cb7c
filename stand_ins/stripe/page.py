"""The ledger as a page for people. `Markup.format` escapes everything that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from stand_ins.stripe.frame import frame

_MAIN = Markup("""<h1>Books</h1>
<p class="lead">No real money moves here. The newest {shown} of {count} payments, renewed every
five seconds.</p>
{notice}<dl class="sums">{totals}</dl>
<div class="scroll panel" tabindex="0" role="region" aria-label="Payments"><table>
<thead><tr><th>Time (UTC)<th>Order<th>Payment<th>Status<th>Refusal
<th class="number">Amount<th class="number">Captured</tr></thead>
<tbody>{rows}</tbody>
</table></div>""")
_FAULTS = Markup("""<p class="notice notice-bad">Payments go wrong on purpose: {}.
<a href="/faults">Change that</a></p>
""")
_TOTAL = Markup("<div><dt>{}</dt><dd>{}</dd></div>")
_ROW = Markup(
    '<tr><td>{}<td>{}<td><code>{}</code><td>{}<td>{}<td class="number">{}<td class="number">{}</tr>'
)


def render(ledger: Mapping[str, Any], faults: str) -> str:
    """The page of a ledger as `Books.ledger` gives it.

    :param faults: what goes wrong on purpose; empty when nothing does.
    """
    totals, intents = ledger["totals"], ledger["payment_intents"]
    sums = (
        ("Authorized, not captured", totals["authorized_open_cents"]),
        ("Captured", totals["captured_cents"]),
        ("Refunded", totals["refunded_cents"]),
    )
    main = _MAIN.format(
        notice=_FAULTS.format(faults) if faults else "",
        shown=len(intents),
        count=totals["payment_intents"],
        totals=Markup().join(_TOTAL.format(name, _money(cents)) for name, cents in sums),
        rows=Markup().join(_row(intent) for intent in intents),
    )
    return frame("books", "Stripe sandbox", main, renewed_seconds=5)


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
