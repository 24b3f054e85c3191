"""A local WebSocket in the shape of Polygon's: greets, asks for the key, confirms subscriptions, and sends a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from enum import Enum
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

KEY = "key-of-the-local-test"

Json = dict[str, Any]


class Act(Enum):
    """What the server may do in place of sending."""

    DROP = "break the line"
    CLOSE = "close politely"
    KEEP_SILENT = "say nothing until the client leaves"


Step = Json | list[Json] | str | bytes | Act | asyncio.Event
"""An event, or several in one message; text or bytes sent as they stand; an act; or something to wait for."""


def status(name: str, message: str = "") -> Json:
    """A message about the connection."""
    return {"ev": "status", "status": name, "message": message}


class StreamServer:
    """Plays ``scripts``, one for each connection in order, on ``url`` while its block lasts.

    A script begins once the client has subscribed; where it ends, the server keeps silent. Connections beyond the last
    script are dropped as soon as they are made.

    Args:
        greeting: what is sent on connection in place of the vendor's words.
        verdict: the answer to the right key.
        confirm: whether subscriptions are confirmed.

    Attributes:
        received: what each connection was sent by the client.
    """

    def __init__(
        self,
        *scripts: Iterable[Step],
        greeting: Step | None = None,
        verdict: Step | None = None,
        confirm: bool = True,
    ) -> None:
        self._scripts = [list(script) for script in scripts]
        self._greeting = status("connected", "Connected Successfully") if greeting is None else greeting
        self._verdict = status("auth_success", "authenticated") if verdict is None else verdict
        self._confirm = confirm
        self._server: Server | None = None
        self.received: list[list[Json]] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await serve(self._play, "127.0.0.1", 0, close_timeout=0.1)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"ws://{host}:{port}/stocks"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _play(self, socket: ServerConnection) -> None:
        if len(self.received) >= len(self._scripts):
            self.received.append([])
            socket.transport.abort()
            return
        script = self._scripts[len(self.received)]
        received: list[Json] = []
        self.received.append(received)
        try:
            await self._do(socket, self._greeting)
            received.append(json.loads(await socket.recv()))
            if received[0] != {"action": "auth", "params": KEY}:
                await self._do(socket, status("auth_failed", f"authentication failed for {received[0]['params']}"))
                return
            await self._do(socket, self._verdict)
            received.append(json.loads(await socket.recv()))
            if self._confirm:
                wanted = received[1]["params"].split(",")
                await self._do(socket, [status("success", f"subscribed to: {name}") for name in wanted])
            for step in script:
                await self._do(socket, step)
            await socket.wait_closed()
        except ConnectionClosed:
            pass  # the client has left, or the script broke the line

    async def _do(self, socket: ServerConnection, step: Step) -> None:
        match step:
            case Act.DROP:
                socket.transport.abort()
                await socket.wait_closed()
            case Act.CLOSE:
                await socket.close()
            case Act.KEEP_SILENT:
                await socket.wait_closed()
            case asyncio.Event():
                await step.wait()
            case str() | bytes():
                await socket.send(step)
            case _:
                await socket.send(json.dumps(step if isinstance(step, list) else [step]))
