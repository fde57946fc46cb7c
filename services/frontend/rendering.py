"""Pages: templates with what every page shows around its own part."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.common import context, limits
from services.common.delivery import COUNTRIES, MAX_PARCEL_GRAMS
from services.common.observing.telemetry import kept_trace_id, trace_id
from services.frontend.assets import Assets
from services.frontend.cookies import Cookie
from services.frontend.mesh_page.traces import TraceLinks
from services.frontend.mesh_page.waterfall import Waterfall, waterfall
from services.frontend.model import MAX_QUANTITY, CatalogueProduct
from services.frontend.templating import environment
from services.frontend.visit import Visit

STABLE, MOBILE, BETA = "stable", "mobile-optimized", "beta-features"


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
        self._environment = environment(
            asset=assets.url,
            picture=picture_url,
            linked_data=linked_data,
            variant=variant,
            is_mobile=variant == MOBILE,
            is_beta=variant == BETA,
            version=version,
            instance=instance,
            trace_links=trace_links,
            countries=COUNTRIES,
            max_parcel_grams=MAX_PARCEL_GRAMS,
            max_quantity=MAX_QUANTITY,
            limits=limits,
        )

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


def linked_data(product: CatalogueProduct, origin: str) -> dict[str, Any]:
    """A product for search engines: https://schema.org/Product, as JSON-LD."""
    offer: dict[str, Any] = {
        "@type": "Offer",
        "url": f"{origin}/products/{product.id}",
        "price": product.price.decimal,
        "priceCurrency": product.price.currency,
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
