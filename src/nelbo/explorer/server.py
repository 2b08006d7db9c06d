"""The local server of the explorer: its page, and the codes and pictures that the page asks for.

It listens on 127.0.0.1 alone, answers only requests that name this machine as their host, so that no other page can
reach it by a name of its own, and sends no header that would let another page read its answers.
"""

from __future__ import annotations

import functools
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from nelbo.errors import ConfigError, NelboError
from nelbo.explorer.decoding import decoded, picture
from nelbo.explorer.explored import KEPT, Explored
from nelbo.explorer.overview import Overview, overview, plane_of
from nelbo.explorer.page import Page, page_of
from nelbo.explorer.posterior import posterior_of
from nelbo.explorer.requests import (
    decoded_content,
    overview_content,
    place_of,
    plane_content,
    point_of,
    posterior_content,
    setting_of,
    units_of,
)

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost"]
"""The names of this machine that a request may have as its host, with any port: one may be forwarded by ssh."""

BODY_BYTES = 1 << 20
"""The largest request."""

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

BAD_REQUEST, NOT_FOUND, TOO_LARGE, WRONG_TYPE = 400, 404, 413, 415


class Explorer:
    """The answers to the requests of the page.

    Args:
        runs: the runs, one or two.
        images: the largest number of images whose codes are shown.
    """

    def __init__(self, runs: Sequence[Explored], images: int) -> None:
        self.runs, self.images = runs, images
        self.last_request = time.monotonic()
        self.overview = functools.lru_cache(KEPT)(self._overview)

    @functools.cached_property
    def page(self) -> Page:
        """The page, rendered once."""
        return page_of(self.runs)

    def _overview(self, run: int, setting: tuple[tuple[str, float], ...]) -> Overview:
        return overview(self.runs[run].at(dict(setting)), self.images)

    def codes(self, run: int, body: Mapping[str, Any]) -> Overview:
        """Return the codes of images at the setting of a request."""
        return self.overview(run, tuple(sorted(setting_of(self.runs[run], body.get("setting")).items())))

    def units(self, run: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with the units of each level and their KLs."""
        return overview_content(self.codes(run, body))

    def plane(self, run: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with a plane through the latent space, and the images on it."""
        codes = self.codes(run, body)
        return plane_content(codes, plane_of(codes, units_of(body)))

    def posterior(self, run: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with an image and its posterior."""
        explored = self.runs[run]
        return posterior_content(posterior_of(explored, place_of(explored, body)))

    def decode(self, run: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with a decoded point."""
        explored = self.runs[run]
        return decoded_content(*decoded(explored, point_of(explored, body)))

    async def answer_page(self, request: Request) -> Response:
        """Send the page."""
        self.last_request = time.monotonic()
        return HTMLResponse(self.page.html, headers={**HEADERS, "Content-Security-Policy": self.page.policy})

    async def answer_image(self, request: Request) -> Response:
        """Send an image of the split as PNG."""
        if (run := request.path_params["run"]) >= len(self.runs):
            return JSONResponse({"error": f"there is no run {run}"}, NOT_FOUND, HEADERS)
        explored = self.runs[run]
        try:
            position = explored.scene.position(request.path_params["image"])
        except ConfigError as error:
            return JSONResponse({"error": str(error)}, BAD_REQUEST, HEADERS)
        pixels = (picture(explored.model, explored.scene.take(position)[0]) * 255).round().to(torch.uint8)
        array = pixels.permute(1, 2, 0).numpy()
        content = io.BytesIO()
        Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array).save(content, "PNG")
        return Response(content.getvalue(), media_type="image/png", headers=HEADERS)

    def answer(self, compute: Callable[[int, Mapping[str, Any]], dict[str, Any]]) -> Callable[..., Any]:
        """Return an endpoint that answers an object of JSON with another one.

        The work is done in the server's only thread, one request after another: a model holds what it is bound to while
        it computes.
        """

        async def endpoint(request: Request) -> Response:
            self.last_request = time.monotonic()
            # A page elsewhere can send such a type only with a permission, which this server never gives.
            if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return JSONResponse({"error": "the content must be application/json"}, WRONG_TYPE, HEADERS)
            content = bytearray()
            async for part in request.stream():
                content += part
                if len(content) > BODY_BYTES:
                    return JSONResponse({"error": f"must be at most {BODY_BYTES} bytes"}, TOO_LARGE, HEADERS)
            try:
                body = json.loads(content)
                if not isinstance(body, dict) or body.get("run") not in range(len(self.runs)):
                    raise ConfigError("run", None, f"must be from 0 to {len(self.runs) - 1}", located=True)
                return JSONResponse(compute(body["run"], body), headers=HEADERS)
            except (NelboError, ValueError) as error:
                return JSONResponse({"error": str(error)}, BAD_REQUEST, HEADERS)

        return endpoint

    def application(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/", self.answer_page),
            Route("/image/{run:int}/{image:int}.png", self.answer_image),
            *(
                Route(f"/{compute.__name__}", self.answer(compute), methods=["POST"])
                for compute in (self.units, self.plane, self.posterior, self.decode)
            ),
        ]
        return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, HOSTS, www_redirect=False)])
