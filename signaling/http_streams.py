"""Streams on pages by WHEP (draft-ietf-wish-whep, which follows RFC 9725): an offer in, an answer out.

A camera is `/streams/camera:ID/whep`. There is nothing to trickle: we are ICE-lite, and the answer has all
candidates. The session is ended by DELETE, by its page going away, or with the right to see the camera.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from foundation.authorisation import Action, Authorisation, Resource
from foundation.desks import Refusal
from foundation.http_edge import Exchange, Problem, Route, conflict, forbidden, not_found
from signaling.camera_calls import CameraLookup, CameraOff, KnownCamera
from signaling.http_conferences import refused
from signaling.media_description import read_sdp, write_sdp
from signaling.meeting import CAMERA
from signaling.viewings import Permitted, Viewings

RESOURCE = "/api/v1/streams/{stream}/whep"
SDP = "application/sdp"
LONGEST_OFFER = 100_000
BODY_SECONDS = 20.0


class StreamRoutes:
    """The handlers; `routes` is their table.

    `identify` finds out again whose session an exchange is, and raises the problem when it is over.
    """

    def __init__(
        self,
        *,
        viewings: Viewings,
        cameras: CameraLookup,
        authorisation: Authorisation,
        identify: Callable[[Exchange], Awaitable[object]],
    ) -> None:
        self._viewings = viewings
        self._cameras = cameras
        self._authorisation = authorisation
        self._identify = identify

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                "POST",
                RESOURCE,
                self.watch,
                "Watch a stream by WHEP: the offer as application/sdp, the answer likewise",
                Action.VIEW_CAMERA,
                resource=self._resource,
                status=201,
            ),
            Route(
                "DELETE",
                f"{RESOURCE}/{{viewer}}",
                self.leave,
                "End watching",
                Action.VIEW_CAMERA,
                resource=self._resource,
                status=204,
            ),
        )

    async def _resource(self, exchange: Exchange) -> Resource:
        return _place(await self._camera(exchange))

    async def _camera(self, exchange: Exchange) -> KnownCamera:
        stream = exchange.path["stream"]
        camera = await self._cameras(stream.removeprefix(CAMERA)) if stream.startswith(CAMERA) else None
        if camera is None:
            raise not_found(f"there is no stream {stream}")
        return camera

    async def watch(self, exchange: Exchange) -> web.Response:
        offer = await _offer(exchange.request)
        camera = await self._camera(exchange)
        try:
            viewer_id, answer = await self._viewings.watch(
                camera, owner=exchange.name, offer=read_sdp(offer), permitted=self._permitted(exchange)
            )
        except CameraOff as error:
            raise conflict(str(error)) from None
        except Refusal as error:
            raise refused(error) from None
        location = f"{RESOURCE.format(stream=CAMERA + camera.camera_id)}/{viewer_id}"
        return web.Response(
            status=201, body=write_sdp(answer), content_type=SDP, headers={"Location": location}
        )

    async def leave(self, exchange: Exchange) -> None:
        viewer_id = exchange.path["viewer"]
        viewer = self._viewings.viewer(viewer_id)
        if viewer is None or CAMERA + viewer.camera_id != exchange.path["stream"]:
            raise not_found(f"nobody watches as {viewer_id}")
        if viewer.owner != exchange.name:
            raise forbidden("somebody else watches here")
        await self._viewings.leave(viewer_id, "left")

    def _permitted(self, exchange: Exchange) -> Permitted:
        """Asked again now and then, while the page watches."""

        async def permitted(camera: KnownCamera) -> bool:
            try:
                await self._identify(exchange)
            except Problem:
                return False
            return bool(self._authorisation.allowed(exchange.who, Action.VIEW_CAMERA, _place(camera)))

        return permitted


def _place(camera: KnownCamera) -> Resource:
    return Resource("camera", camera.camera_id, camera.site_id)


async def _offer(request: web.Request) -> bytes:
    """The body. Raises the 415, 413 or 408 problem."""
    if request.content_type != SDP:
        detail = f"the body's Content-Type is {request.content_type}, not {SDP}"
        raise Problem(415, "Unsupported Media Type", detail, headers={"Accept-Post": SDP})
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except TimeoutError:
        detail = f"the body was not whole after {BODY_SECONDS:g} s"
        raise Problem(408, "Request Timeout", detail, headers={"Connection": "close"}) from None
    if len(body) > LONGEST_OFFER:
        detail = f"an offer has at most {LONGEST_OFFER} bytes"
        raise Problem(413, "Content Too Large", detail)
    return body
