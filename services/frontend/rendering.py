"""Pages: templates with what every page shows around its own part."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from services.common import context
from services.common.fields import isolated
from services.common.money import money
from services.common.places import COUNTRIES, MAX_PARCEL_GRAMS
from services.common.telemetry import kept_trace_id, trace_id
from services.frontend.cookies import Cookie
from services.frontend.meshmap import percentage, rate, sparkline
from services.frontend.model import MAX_QUANTITY, Product
from services.frontend.traces import TraceLinks
from services.frontend.visit import Visit
from services.frontend.waterfall import Waterfall, waterfall

_HERE = Path(__file__).parent
STATIC = _HERE / "static"

STABLE, MOBILE, BETA = "stable", "mobile-optimized", "beta-features"


class Assets(StaticFiles):
    """The files in ``static/``. Pages name them with a digest of their content, so browsers may
    keep them for good.
    """

    def __init__(self) -> None:
        super().__init__(directory=STATIC)
        self._digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:10]
            for path in STATIC.iterdir()
            if path.is_file()
        }

    def url(self, name: str) -> str:
        """The address of a file as it is now."""
        return f"/static/{name}?v={self._digests[name]}"

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serves a file."""
        response = await super().get_response(path, scope)
        exact = scope["query_string"] == f"v={self._digests.get(path)}".encode()
        response.headers["cache-control"] = (
            "public, max-age=31536000, immutable" if exact else "public, max-age=300"
        )
        return response


class Renderer:
    """Makes the pages.

    :param variant: which of the frontend's variants this process is.
    """

    def __init__(
        self,
        assets: Assets,
        *,
        variant: str,
        version: str,
        instance: str,
        trace_links: TraceLinks,
    ) -> None:
        self.variant = variant
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        filters: dict[str, Any] = {
            "ago": _ago,
            "money": money,
            "day": _day,
            "isolated": isolated,
            "moment": _moment,
            "kilograms": _kilograms,
            "milliseconds": _milliseconds,
            "percentage": percentage,
            "query": _query,
            "rate": rate,
            "stamp": _stamp,
            "sparkline": sparkline,
            "words": _words,
        }
        tests: dict[str, Any] = {"preview": _is_preview}
        known: dict[str, Any] = {
            "asset": assets.url,
            "picture": picture_url,
            "linked_data": linked_data,
            "variant": variant,
            "is_mobile": variant == MOBILE,
            "is_beta": variant == BETA,
            "version": version,
            "instance": instance,
            "trace_links": trace_links,
            "countries": COUNTRIES,
            "max_parcel_grams": MAX_PARCEL_GRAMS,
            "max_quantity": MAX_QUANTITY,
        }
        self._environment.filters.update(filters)
        self._environment.tests.update(tests)
        self._environment.globals.update(known)
        for name in self._environment.list_templates(extensions=["html"]):
            self._environment.get_template(name)  # from now on in memory: no page reads files

    def page(
        self,
        visit: Visit,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Response:
        """A whole page, with the panel that shows how it was made."""
        text = self._environment.get_template(template).render(
            visit=visit, panel=_made(visit), **values
        )
        response = HTMLResponse(text, status_code=status, headers=dict(headers or {}))
        visit.jar.apply(response)
        return response

    def fragment(self, visit: Visit, template: str, **values: Any) -> Response:
        """A part of a page, for a script to put into it."""
        text = self._environment.get_template(template).render(visit=visit, **values)
        response = HTMLResponse(text)
        visit.jar.apply(response)
        return response

    def redirect(self, visit: Visit, path: str) -> Response:
        """Sends the visitor on, by GET (RFC 9110 §15.4.4), with what was done for them so far."""
        made = _made(visit)
        kept = made.to_cookie(visit.seal) if made.rows else None
        if kept is not None:
            visit.jar.put(Cookie.MADE, kept)
        response = RedirectResponse(path, status_code=303)
        visit.jar.apply(response)
        return response


def picture_url(product_id: str, version: str = "v1") -> str:
    """Where a product's picture is; the version lets browsers keep it."""
    return f"/pictures/{product_id}.svg?v={version}"


def linked_data(product: Product, origin: str) -> dict[str, Any]:
    """A product for search engines: https://schema.org/Product, as JSON-LD."""
    offer: dict[str, Any] = {
        "@type": "Offer",
        "url": f"{origin}/products/{product.id}",
        "price": f"{product.price_cents // 100}.{product.price_cents % 100:02}",
        "priceCurrency": product.currency,
    }
    if product.available is not None:
        state = "InStock" if product.available else "OutOfStock"
        offer["availability"] = f"https://schema.org/{state}"
    return {
        "@context": "https://schema.org",
        "@type": "Product",
        "sku": product.id,
        "name": product.name,
        "description": product.blurb,
        "image": origin + picture_url(product.id, product.version),
        "brand": {"@type": "Brand", "name": product.brand},
        "offers": offer,
    }


def _made(visit: Visit) -> Waterfall:
    """All calls that were made for this visit until now."""
    request = context.current()
    return waterfall(
        request.log,
        trace_id=trace_id(),
        request_id=request.request_id,
        page_milliseconds=1000 * (time.perf_counter() - visit.started),
        is_trace_kept=bool(kept_trace_id()),
    )


def _is_preview(version: str) -> bool:
    """Whether a version of the catalogue is the one that the preview leads to."""
    return version.startswith("v2")


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _moment(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _ago(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0.0, seconds):.0f} s ago"
    minutes = int(seconds // 60)
    return f"{minutes} min ago" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min ago"


def _stamp(unix_seconds: float) -> str:
    at = datetime.fromtimestamp(unix_seconds, UTC)
    return f"{at.day} {at:%B %Y, %H:%M:%S} UTC"


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _kilograms(grams: int) -> str:
    """A weight in tenths of a kilogram, rounded up: what is over a limit never looks as if it met
    it.
    """
    tenths = -(-grams // 100)
    return f"{tenths // 10}.{tenths % 10} kg" if tenths % 10 else f"{tenths // 10} kg"


def _query(values: Mapping[str, str]) -> str:
    """The query of a link, without empty values."""
    return urlencode({name: value for name, value in values.items() if value})


def _words(slug: str) -> str:
    """A slug for people: ``in-transit`` becomes ``In transit``."""
    text = slug.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]
