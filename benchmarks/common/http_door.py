"""Bare HTTP to a gateway: what a richer client costs is its own, and leaving is a closed socket.

Comes in: a path and JSON. Goes out: the answer's status, headers and the pieces of its body as they
come. Knows nothing of completions.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose head has come."""

    status: int
    headers: Mapping[str, str]
    reader: asyncio.StreamReader

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body's chunks as they were sent, or all of it; to be read to the end."""
        if "content-length" in self.headers:
            yield await self.reader.readexactly(int(self.headers["content-length"]))
            return
        while num_bytes := int(await self.reader.readuntil(b"\n"), 16):
            yield (await self.reader.readexactly(num_bytes + 2))[:-2]
        await self.reader.readexactly(2)

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])


class Door:
    """Connections to one gateway with one key, kept between answers."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """`url` is HOST:PORT."""
        self._url = url
        self._host, _, port = url.rpartition(":")
        self._port = int(port)
        self._key = f"Authorization: Bearer {key}\r\n" if key else ""
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    @asynccontextmanager
    async def post(
        self, path: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answer]:
        """One request; left early, its connection is closed. Raises OSError and EOFError."""
        reader, writer = await self._connection()
        is_whole = False
        try:
            writer.write(self._request(path, json.dumps(body).encode(), headers or {}))
            status, *lines = (await reader.readuntil(END_OF_HEAD)).decode("latin-1").splitlines()
            named = (line.partition(": ") for line in lines if line)
            headers = {name.lower(): value for name, _, value in named}
            yield Answer(int(status.split()[1]), headers, reader)
            is_whole = headers.get("connection") != "close"
        finally:
            if is_whole:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    def _request(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._url}\r\n{self._key}{more}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
