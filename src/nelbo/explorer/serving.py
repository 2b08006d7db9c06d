"""Serving the explorer until Ctrl-C, or until it has had no request for some time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import uvicorn

from nelbo.errors import ConfigError
from nelbo.explorer.server import HOST, Explorer

LOOKS = 0.2
"""Seconds between two looks at how long there was no request; the last one delays the end by as much."""

CLOSING_SECONDS = 2
"""How long connections may take to close when the server ends."""


def listening(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1.

    Args:
        port: the port; 0 for a free one.

    Raises:
        ConfigError: if the port is taken, or may not be used.
    """
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((HOST, port))
        place.listen()
    except OSError as error:
        place.close()
        hint = f"cannot be used: {error.strerror}; port=0 takes a free one"
        raise ConfigError("port", port, hint, located=True) from error
    return place


def address(place: socket.socket) -> str:
    """Return the address at which a browser reaches a socket."""
    return f"http://{HOST}:{place.getsockname()[1]}/"


def serve(explorer: Explorer, place: socket.socket, idle_seconds: float, ready: Callable[[], None]) -> bool:
    """Serve until Ctrl-C or until there has been no request for some time.

    Args:
        explorer: what answers.
        place: the socket.
        idle_seconds: how long there may be no request; 0 for ever.
        ready: called once requests are answered.

    Returns:
        Whether it ended because there was no request.
    """
    config = uvicorn.Config(
        explorer.application(),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
    server = uvicorn.Server(config)
    try:
        return asyncio.run(_serve(server, explorer, place, idle_seconds, ready))
    except KeyboardInterrupt:  # uvicorn raises the signal again when it has ended
        return False


async def _serve(
    server: uvicorn.Server, explorer: Explorer, place: socket.socket, idle_seconds: float, ready: Callable[[], None]
) -> bool:
    """Serve, and look at the time of the last request."""
    serving = asyncio.create_task(server.serve([place]))
    was_ready = ended = False
    while not serving.done():
        await asyncio.wait([serving], timeout=LOOKS)
        if server.started and not was_ready:
            was_ready = True
            ready()
        if idle_seconds and not ended and time.monotonic() - explorer.last_request > idle_seconds:
            ended = server.should_exit = True
    await serving
    return ended
