"""Wires the frontend."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.common.observing.recent_traffic import RecentTraffic
from services.common.serving.host import Host
from services.frontend.assets import STATIC_PATH, Assets, AssetsFirst
from services.frontend.clients import (
    AuthClient,
    InventoryClient,
    NotificationClient,
    OrderClient,
    ProductClient,
    ShippingClient,
    UserClient,
)
from services.frontend.compression import CompressedPages
from services.frontend.mesh_page.figures import (
    MESH_OPERATION,
    MESH_PATH,
    Entrance,
    EntranceMiddleware,
)
from services.frontend.mesh_page.mesh_map import MeshMap
from services.frontend.mesh_page.prometheus import PrometheusSource
from services.frontend.mesh_page.sources import AllProcesses, SeenHere, TrafficSource, TrafficWatch
from services.frontend.mesh_page.traces import TraceLinks, Traces
from services.frontend.origin import Origin
from services.frontend.pages import account, cart, catalogue, checkout, guest, mesh, orders, profile
from services.frontend.pages import traces as trace_pages
from services.frontend.pages.errors import ErrorPages, UnexpectedErrors
from services.frontend.pages.site import Site
from services.frontend.rendering import STABLE, Renderer
from services.frontend.sealing import Seal
from services.frontend.security import SecurityMiddleware, security_headers
from services.frontend.service import Customers, DepartmentCache, Storefront
from services.frontend.session import CustomerSessions
from services.frontend.settings import FrontendSettings
from services.frontend.visit import Visits

InFront = Callable[[ASGIApp, Entrance], ASGIApp]


async def wire(host: Host, in_front: InFront | None = None) -> None:
    """Builds the frontend out of what the host gives.

    :param in_front: puts an app before the pages; what that answers itself is counted at the
        entrance, too.
    """
    settings = host.settings(FrontendSettings)
    process = host.process
    auth = AuthClient(host.http("auth"))
    users = UserClient(host.http("user"))
    products = ProductClient(host.http("product"), host.grpc("product"))
    order_client = OrderClient(host.http("order"))
    shipping = ShippingClient(host.grpc("shipping"))
    inventory = InventoryClient(host.grpc("inventory"))
    notifications = NotificationClient(host.http("notification"))

    assets = Assets()
    entrance, watch = _watching(host, settings)
    traces = Traces(settings.shop_processes, host.http_session(), host.topology)
    trace_links = TraceLinks(jaeger_url=settings.jaeger_url, is_kept_here=traces.are_kept)
    sessions = CustomerSessions(host.token_verifier, auth)
    origin = Origin(settings.shop_url or "", secure=settings.secure_cookies)
    departments = DepartmentCache(products)
    visits = Visits(
        origin=origin,
        seal=Seal(settings.frontend_secret.get_secret_value()),
        sessions=sessions,
        departments=departments,
        secure_cookies=settings.secure_cookies,
    )
    site = Site(
        renderer=Renderer(
            assets,
            variant=process.variant or STABLE,
            version=process.version,
            instance=process.instance,
            trace_links=trace_links,
        ),
        storefront=Storefront(
            products=products,
            inventory=inventory,
            shipping=shipping,
            users=users,
            orders=order_client,
        ),
        customers=Customers(
            users=users, orders=order_client, shipping=shipping, notifications=notifications
        ),
    )
    error_pages = ErrorPages(site, visits)

    def set_up(app: FastAPI) -> None:
        app.mount(STATIC_PATH, assets)
        error_pages.install(app)
        # The last one added is the first one to see a request.
        app.add_middleware(UnexpectedErrors, pages=error_pages)
        app.add_middleware(
            EntranceMiddleware,
            entrance=entrance,
            version=process.version,
            instance=process.instance,
        )
        app.add_middleware(SecurityMiddleware, secure=settings.secure_cookies)

    host.app_setup(set_up)
    host.serve_http(catalogue.routes, site, visits, products)
    host.serve_http(cart.routes)
    host.serve_http(checkout.routes)
    host.serve_http(orders.routes)
    host.serve_http(account.routes, auth, sessions)
    host.serve_http(guest.routes)
    host.serve_http(profile.routes)
    host.serve_http(mesh.routes, watch, MeshMap(host.topology), origin, departments)
    host.serve_http(trace_pages.routes, traces, trace_links)
    if in_front is not None:
        host.wrap_app(lambda pages: in_front(pages, entrance))
    host.wrap_app(CompressedPages)
    host.wrap_app(
        lambda pages: AssetsFirst(
            pages,
            assets,
            headers=security_headers(secure=settings.secure_cookies),
            metrics=host.metrics,
            entrance=entrance,
            version=process.version,
            instance=process.instance,
        )
    )


def _watching(host: Host, settings: FrontendSettings) -> tuple[Entrance, TrafficWatch]:
    """Who counts what visitors ask for, and who has the mesh page's figures."""
    host.metrics.recent.ignored.add(MESH_OPERATION)
    host.unkept_pages |= {MESH_PATH, STATIC_PATH}
    if settings.shop_processes:
        host.unkept_pages.add("/pictures")  # a dozen to a page would push the pages out
        entrance = Entrance(host.metrics.recent, with_calls_below=False)
        return entrance, TrafficWatch(AllProcesses(settings.shop_processes, host.http_session()))
    recent = RecentTraffic()
    entrance = Entrance(recent, with_calls_below=True)
    source: TrafficSource = SeenHere(recent, lambda: host.call_tools.open_circuits)
    if settings.prometheus_url is not None:
        source = PrometheusSource(
            settings.prometheus_url, settings.prometheus_selector, host.http_session(), source
        )
    return entrance, TrafficWatch(source)
