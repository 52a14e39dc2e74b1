"""The review page's addresses: FastAPI around `PhotoDesk` and `ReviewQueue`.

Imported only where the extra `ui` is installed.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from weakseg.apps.report.pictures import colour
from weakseg.apps.review import page_data
from weakseg.apps.review.photo_desk import Patch, PhotoDesk
from weakseg.apps.review.review_queue import ORDERS, STATES, ReviewQueue
from weakseg.runs.review_dir import ConflictError, Review
from weakseg.types import DataError, WeaksegError

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that no other one reaches."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = 500
"""Most rows of the queue in one answer."""
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def review_app(
    desk: PhotoDesk, queue: ReviewQueue, token: str, hosts: Sequence[str] = LOCAL
) -> FastAPI:
    """The page and what it asks for.

    Every answer that tells of the run needs the token, as header `X-Token` or parameter `token`;
    other hosts' names are refused, so that no other page can reach in.

    Args:
        desk: The run.
        queue: Its images in their order.
        token: The secret in the page's address.
        hosts: Names by which the server may be called.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        given = request.headers.get("x-token") or request.query_params.get("token", "")
        if request.url.path.startswith("/api/") and not secrets.compare_digest(
            given.encode(), token.encode()
        ):
            text = "the token is missing or wrong; open the address that `weakseg review` printed"
            return JSONResponse({"error": text}, 403)
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    names = ["*"] if any(host not in LOCAL for host in hosts) else [*LOCAL, "[::1]"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)

    @app.exception_handler(WeaksegError)
    def told(_: Request, error: WeaksegError) -> JSONResponse:
        code = (
            409
            if isinstance(error, ConflictError)
            else 400
            if isinstance(error, DataError)
            else 500
        )
        return JSONResponse({"error": str(error)}, code)

    app.include_router(_looking(desk, queue), prefix="/api")
    app.include_router(_changing(desk, queue), prefix="/api")

    @app.get("/")
    @app.get("/{name}")
    def file(name: str = "index.html") -> Response:
        kind = _KINDS.get(Path(name).suffix)
        found = _page_file(name) if kind else None
        if found is None:
            return Response("there is no such page", 404, media_type="text/plain")
        return Response(found, media_type=kind)

    return app


def _looking(desk: PhotoDesk, queue: ReviewQueue) -> APIRouter:
    """What the page asks for."""
    routes = APIRouter()

    @routes.get("/run")
    def run() -> dict[str, Any]:
        queue.refresh()
        facts = desk.facts
        return {
            "name": facts.path.resolve().name,
            "command": facts.run_command,
            "classes": [
                {"name": name, "colour": list(colour(k))}
                for k, name in enumerate(facts.catalog.classes)
            ],
            "images": len(facts.catalog),
            "looked_at": queue.looked_at,
            "ready": queue.ready,
            "counts": queue.counts(),
            "faults": list(queue.faults),
            "who": desk.who,
        }

    @routes.get("/images")
    def images(
        *,
        order: str = "doubt",
        tag: str = "",
        state: str = "",
        text: str = "",
        offset: int = 0,
        limit: int = 100,
    ) -> dict[str, Any]:
        if order not in ORDERS or state not in ("", *STATES):
            raise DataError(f"unknown order {order!r} or state {state!r}")
        rows = queue.rows(order, tag=tag, state=state, text=text)
        first = max(0, offset)
        chosen = rows[first : first + max(1, min(limit, _PAGE))]
        return {"total": len(rows), "rows": [page_data.row_data(row) for row in chosen]}

    @routes.get("/image")
    def image(id: str) -> dict[str, Any]:
        sample = desk.sample(id)
        queue.refresh()
        row = page_data.row_data(queue.row(sample))
        return {**page_data.image_data(desk, sample), "doubts": row["doubts"]}

    @routes.get("/photo")
    def photo(id: str) -> Response:
        data = page_data.photo_jpeg(desk.sample(id), page_data.PHOTO_SIDE)
        return Response(data, media_type="image/jpeg", headers=_KEPT)

    @routes.get("/thumb")
    def thumb(id: str) -> Response:
        return Response(page_data.thumb_jpeg(desk, desk.sample(id)), media_type="image/jpeg")

    @routes.get("/mask")
    def mask(id: str, before: bool = False) -> Response:
        chosen = desk.masks(desk.sample(id))[before]
        return Response(
            page_data.mask_bytes(chosen), media_type=_RAW, headers={"Content-Encoding": "gzip"}
        )

    @routes.get("/map")
    def layer(id: str, kind: str) -> Response:
        data = page_data.map_png(desk, desk.sample(id), kind)
        return Response(data, media_type="image/png", headers=_KEPT)

    @routes.get("/regions")
    def regions(id: str) -> Response:
        found = desk.regions(desk.sample(id))
        headers = {
            "Content-Encoding": "gzip",
            "X-Width": str(found.shape[1]),
            "X-Height": str(found.shape[0]),
        }
        return Response(page_data.region_bytes(found), media_type=_RAW, headers=headers)

    return routes


def _changing(desk: PhotoDesk, queue: ReviewQueue) -> APIRouter:
    """What the page changes; every change names the version that it was made from."""
    routes = APIRouter()

    def answer(sample_id: str, review: Review) -> dict[str, Any]:
        queue.refresh()
        return page_data.review_data(desk, desk.sample(sample_id), review)

    @routes.post("/draw")
    async def draw(
        request: Request,
        *,
        id: str,
        x: int,
        y: int,
        width: int,
        height: int,
        action: str = "draw",
        version: int | None = None,
    ) -> dict[str, Any]:
        patch = Patch(x, y, _pixels(await request.body(), width, height))

        def work() -> dict[str, Any]:
            return answer(id, desk.draw(desk.sample(id), version, patch, action[:40]))

        return await run_in_threadpool(work)

    @routes.post("/complete")
    async def complete(
        request: Request,
        *,
        id: str,
        label: int,
        width: int,
        height: int,
    ) -> Response:
        scribbles = _pixels(await request.body(), width, height)
        if not 1 <= label <= len(desk.facts.catalog.classes):
            raise DataError(f"label {label} stands for no class")
        inside = await run_in_threadpool(lambda: desk.complete(desk.sample(id), scribbles, label))
        return Response(inside.tobytes(), media_type=_RAW)

    @routes.post("/judge")
    def judge(id: str, state: str, version: int | None = None) -> dict[str, Any]:
        found = next((known for known in STATES if known == state), None)
        if found is None or found == "corrected":
            raise DataError(f"unknown state {state!r}")
        return answer(id, desk.judge(desk.sample(id), version, found))

    @routes.post("/tags")
    async def tags(request: Request, id: str, version: int | None = None) -> dict[str, Any]:
        names = [
            name for name in (await request.body()).decode("utf-8", "replace").split("\n") if name
        ]
        return await run_in_threadpool(
            lambda: answer(id, desk.tag(desk.sample(id), version, names))
        )

    @routes.post("/undo")
    def undo(id: str, version: int | None = None) -> dict[str, Any]:
        return answer(id, desk.undo(desk.sample(id), version))

    @routes.post("/redo")
    def redo(id: str, version: int | None = None) -> dict[str, Any]:
        return answer(id, desk.redo(desk.sample(id), version))

    return routes


_RAW = "application/octet-stream"
_KEPT = {"Cache-Control": "private, max-age=3600"}


def _pixels(body: bytes, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if width < 1 or height < 1 or len(body) != width * height:
        raise DataError(f"expected {width}×{height} pixels, got {len(body)} bytes")
    return np.frombuffer(body, np.uint8).reshape(height, width)


def _page_file(name: str) -> bytes | None:
    for folder in ("review/page", "look"):
        place = resources.files("weakseg.apps").joinpath(folder, name)
        if place.is_file():
            return place.read_bytes()
    return None
