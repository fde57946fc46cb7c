"""Behind the shop: the mesh page, what this shop is, the preview, and files that browsers and
crawlers ask for.
"""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from services.common.dependency_injection import provided
from services.common.errors import Kind, ShopError
from services.common.observing.recent_traffic import WINDOWS_SECONDS
from services.frontend.assets import STATIC
from services.frontend.forms import FormDependency
from services.frontend.mesh_page.figures import MESH_PATH
from services.frontend.mesh_page.mesh_map import MeshMap
from services.frontend.mesh_page.sources import TrafficWatch
from services.frontend.origin import Origin
from services.frontend.pages.site import SiteDependency
from services.frontend.security import local_path
from services.frontend.service import DepartmentCache
from services.frontend.visit import VisitDependency

# What is one visitor's own.
_NOT_FOR_ROBOTS = ("/cart", "/checkout", "/inbox", "/orders", "/profile")
_FOR_AN_HOUR = {"cache-control": "public, max-age=3600"}
_SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"

_Departments = Annotated[DepartmentCache, provided(DepartmentCache)]
_Origin = Annotated[Origin, provided(Origin)]
_MeshMap = Annotated[MeshMap, provided(MeshMap)]
_Watch = Annotated[TrafficWatch, provided(TrafficWatch)]

routes = APIRouter(include_in_schema=False)


@routes.get(MESH_PATH)
async def mesh(
    visit: VisitDependency,
    site: SiteDependency,
    mesh_map: _MeshMap,
    watch: _Watch,
    minutes: str = "",
    edge: str = "",
) -> Response:
    windows = [seconds // 60 for seconds in WINDOWS_SECONDS]
    window = next((known for known in windows if str(known) == minutes), windows[0])
    view = mesh_map.view(await watch.figures(60 * window))
    return site.renderer.page(
        visit,
        "mesh.html",
        view=view,
        window=window,
        windows=windows,
        opened=view.edge(edge),
        workloads={name: service.workload for name, service in mesh_map.services.items()},
    )


@routes.get("/about")
async def about(visit: VisitDependency, site: SiteDependency, mesh_map: _MeshMap) -> Response:
    return site.renderer.page(visit, "about.html", services=mesh_map.services)


@routes.post("/preview")
async def preview(visit: VisitDependency, site: SiteDependency, form: FormDependency) -> Response:
    wanted = form.raw("preview") == "on"
    visit.jar.put_canary(wanted)
    visit.tell_next(
        "Your requests now ask for the preview of our new catalogue."
        if wanted
        else "You are back in the usual catalogue.",
        "good",
    )
    return site.renderer.redirect(visit, local_path(form.raw("next")))


@routes.get("/robots.txt")
async def robots(request: Request, origin: _Origin) -> Response:
    lines = ["User-agent: *", *(f"Disallow: {path}" for path in _NOT_FOR_ROBOTS)]
    found_at = origin.of(request)
    if found_at:
        lines += ["", f"Sitemap: {found_at}/sitemap.xml"]
    return PlainTextResponse("\n".join((*lines, "")), headers=_FOR_AN_HOUR)


@routes.get("/sitemap.xml")
async def sitemap(
    request: Request, origin: _Origin, site: SiteDependency, departments: _Departments
) -> Response:
    found_at = origin.of(request)
    if not found_at:
        raise ShopError(Kind.NOT_FOUND, "unknown-host", "The request does not say for which host.")
    paths = [
        "/",
        "/products",
        *(f"/products?category={category.id}" for category in await departments.known()),
        *(f"/products/{product_id}" for product_id in await site.storefront.product_ids()),
        "/about",
        "/mesh",
    ]
    entries = "".join(f"<url><loc>{escape(found_at + path)}</loc></url>\n" for path in paths)
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{_SITEMAP}">\n{entries}</urlset>\n'
    )
    return Response(body, media_type="application/xml", headers=_FOR_AN_HOUR)


@routes.get("/favicon.ico")
async def favicon() -> Response:
    return FileResponse(
        STATIC / "favicon.svg",
        media_type="image/svg+xml",
        headers={"cache-control": "public, max-age=86400"},
    )
