"""The page that slows and breaks payments for a demonstration: a form with sliders, which needs no
script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from markupsafe import Markup
from pydantic import ValidationError

from services.common.validation import first_wrong
from stand_ins.stripe.errors import invalid
from stand_ins.stripe.faults import SandboxFaults
from stand_ins.stripe.frame import frame

TAKE_BACK = "take_back"
_MAX_FIELDS = 30
_PER_CENT = 100


@dataclass(frozen=True, slots=True)
class Slider:
    """One fault on the page.

    :ivar said: what the line of what is set now says of it, around the value.
    """

    name: str
    label: str
    hint: str
    said: str
    unit: Literal["ms", "%"] = "%"
    most: int = _PER_CENT

    def shown(self, faults: SandboxFaults) -> float:
        """The fault's value in the unit of the page."""
        value: float = getattr(faults, self.name)
        # A share of 0.07 is 7 %, and not 7.000000000000001.
        return value if self.unit == "ms" else round(value * _PER_CENT, 6)


GROUPS: Mapping[str, Sequence[Slider]] = {
    "Slow": (
        Slider(
            "delay_ms", "Latency", "Each request takes that much longer.", "{} slower", "ms", 5000
        ),
        Slider(
            "delay_jitter_ms",
            "Variation",
            "The latency varies by that, either way.",
            "up to {} more or less",
            "ms",
            2000,
        ),
        Slider(
            "timeout_rate",
            "Time-outs",
            "No answer at all, until the shop gives up. Nothing happens.",
            "{} time-outs",
        ),
    ),
    "Refused": (
        Slider(
            "decline_rate",
            "Declined cards",
            "The bank says no, whichever card it is. Nothing is sold.",
            "{} declined",
        ),
        Slider(
            "rate_limit_rate",
            "Too many requests",
            "429 before anything happens.",
            "{} too many requests",
        ),
        Slider(
            "failure_rate",
            "Errors",
            "500 or 503 before anything happens: a retry helps.",
            "{} errors",
        ),
    ),
    "In doubt": (
        Slider(
            "lost_reply_rate",
            "Lost answers",
            "It happens, then the connection breaks. The shop has to ask again.",
            "{} lost answers",
        ),
        Slider(
            "stored_failure_rate",
            "Errors that stay",
            "It happens, the answer is 500, and each retry gets that again.",
            "{} errors that stay",
        ),
    ),
}
SLIDERS = {slider.name: slider for group in GROUPS.values() for slider in group}

_MAIN = Markup("""<h1>Faults for a demonstration</h1>
<p class="lead">What the sandbox does wrong, in Stripe's place, with the shop's requests.
Each share is a chance per request, and a payment makes about two.</p>
{notice}
<form method="post" action="/faults">
<div class="columns">
{groups}
<fieldset class="panel"><legend><h2>By chance, or again</h2></legend>
<div class="field"><label for="seed">Seed</label>
<p class="hint" id="seed-hint">With the same whole number, the same requests meet the same faults.
Without one, chance decides.</p>
<input id="seed" name="seed" type="number" step="1" value="{seed}"
  aria-describedby="seed-hint"></div>
</fieldset>
</div>
<div class="actions">
<button class="button" type="submit">Set these faults</button>
<button class="button button-quiet" name="{take_back}" value="all">Take all back</button>
</div>
</form>""")
_GROUP = Markup('<fieldset class="panel"><legend><h2>{}</h2></legend>\n{}</fieldset>\n')
_FIELD = Markup("""<div class="field{is_on}">
<label for="{name}">{label}<span aria-hidden="true">{value:g} {unit}</span></label>
<p class="hint" id="{name}-hint">{hint}</p>
<input id="{name}" name="{name}" type="range" min="0" max="{most:g}" step="{step}"
  value="{value:g}" aria-valuetext="{value:g} {unit}" data-unit="{unit}"
  aria-describedby="{name}-hint">
<div class="scale" aria-hidden="true">
<span>0</span><span>{middle:g} {unit}</span><span>{most:g} {unit}</span></div></div>
""")
_NOTICE = Markup('<p class="notice notice-{}" role="status">{}</p>')


def render(faults: SandboxFaults, *, wrong: str | None = None) -> str:
    """The page of the faults that are set.

    :param wrong: why those that were asked for are not.
    """
    told = said(faults)
    if wrong is not None:
        notice = _NOTICE.format("bad", f"Nothing was changed. {wrong}")
    elif told:
        notice = _NOTICE.format("bad", f"Now: {told}.")
    else:
        notice = _NOTICE.format("good", "Now: no faults. Payments work.")
    main = _MAIN.format(
        notice=notice,
        groups=Markup().join(
            _GROUP.format(title, Markup().join(_field(slider, faults) for slider in group))
            for title, group in GROUPS.items()
        ),
        seed="" if faults.seed is None else faults.seed,
        take_back=TAKE_BACK,
    )
    return frame("faults", "Faults · Stripe sandbox", main, has_sliders=True)


def said(faults: SandboxFaults) -> str:
    """What is set, in one line; empty when nothing is."""
    return ", ".join(
        slider.said.format(f"{slider.shown(faults):g} {slider.unit}")
        for slider in SLIDERS.values()
        if slider.shown(faults)
    )


def read(form: bytes) -> SandboxFaults:
    """The faults that a sent form asks for.

    :raises StripeError: the form holds something else; the message is a sentence for a person.
    """
    try:
        fields = dict(parse_qsl(form.decode(), max_num_fields=_MAX_FIELDS))
        if TAKE_BACK in fields:
            return SandboxFaults()
        shares = {
            name: float(value) / _PER_CENT
            for name, value in fields.items()
            if name in SLIDERS and SLIDERS[name].unit == "%"
        }
        return SandboxFaults.model_validate({**fields, **shares})
    except ValidationError as error:
        wrong = first_wrong(error)
        field = wrong.path[0]
        label = SLIDERS[field].label if field in SLIDERS else field.capitalize()
        raise invalid(f"{label}: {wrong.reason}.") from None
    except ValueError:  # no UTF-8, too many fields, or no number
        raise invalid("The form cannot be read.") from None


def _field(slider: Slider, faults: SandboxFaults) -> Markup:
    value = slider.shown(faults)
    # The API takes what the page does not offer: longer delays, and values between its steps, to
    # which a browser would move the slider.
    most = max(slider.most, value)
    usual, fine = (1, "any") if slider.unit == "%" else (50, 1)
    return _FIELD.format(
        name=slider.name,
        label=slider.label,
        hint=slider.hint,
        is_on=" is-on" if value else "",
        value=value,
        unit=slider.unit,
        most=most,
        middle=most / 2,
        step=fine if value % usual else usual,
    )
