"""Behind the shop: the mesh page, what this shop is, the preview, and files that browsers and
crawlers ask for.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from starlette.responses import FileResponse, PlainTextResponse, Response

from services.common.provide import provided
from services.frontend.figures import WINDOW_SECONDS, Figures
from services.frontend.forms import FormDependency
from services.frontend.meshmap import MeshMap
from services.frontend.pages.site import SiteDependency
from services.frontend.rendering import STATIC
from services.frontend.security import local_path
from services.frontend.visit import VisitDependency

_ROBOTS = (
    "User-agent: *\nDisallow: /cart\nDisallow: /checkout\nDisallow: /orders\nDisallow: /profile\n"
)

_MeshMap = Annotated[MeshMap, provided(MeshMap)]
_Figures = Annotated[Figures, provided(Figures)]

routes = APIRouter(include_in_schema=False)


@routes.get("/mesh")
async def mesh(
    visit: VisitDependency, site: SiteDependency, mesh_map: _MeshMap, figures: _Figures
) -> Response:
    return site.renderer.page(
        visit,
        "mesh.html",
        view=mesh_map.view(figures.edges()),
        window_minutes=round(WINDOW_SECONDS / 60),
    )


@routes.get("/about")
async def about(visit: VisitDependency, site: SiteDependency, mesh_map: _MeshMap) -> Response:
    return site.renderer.page(visit, "about.html", services=mesh_map.services)


@routes.post("/preview")
async def preview(visit: VisitDependency, site: SiteDependency, form: FormDependency) -> Response:
    wanted = form.raw("preview") == "on"
    visit.jar.put_canary(wanted)
    visit.tell_next(
        "You now see the preview of our new catalogue."
        if wanted
        else "You are back in the usual catalogue.",
        "good",
    )
    return site.renderer.redirect(visit, local_path(form.raw("next")))


@routes.get("/robots.txt")
async def robots() -> Response:
    return PlainTextResponse(_ROBOTS, headers={"cache-control": "public, max-age=3600"})


@routes.get("/favicon.ico")
async def favicon() -> Response:
    return FileResponse(
        STATIC / "favicon.svg",
        media_type="image/svg+xml",
        headers={"cache-control": "public, max-age=86400"},
    )
