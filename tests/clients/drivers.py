"""The same questions over each protocol, from threads and from asyncio, asked of playback."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

from clients import AsyncCompletionClient, Chunk, Completion, CompletionClient
from tests.clients.playback import Playback


@dataclass
class _Asks:
    """Asks the servers the same way over each protocol, from threads or from asyncio."""

    playback: Playback
    protocol: str
    pauses: list[float] = field(default_factory=list)
    seen: list[Chunk] = field(default_factory=list)

    def options(self, **options: Any) -> dict[str, Any]:
        """Arguments of a client; it pauses for no time and always draws 0."""
        url = self.playback.urls[self.protocol]
        return {"url": url, "protocol": self.protocol, "random": lambda: 0.0, **options}


class SyncDriver(_Asks):
    """From threads."""

    def client(self, **options: Any) -> CompletionClient:
        return CompletionClient(**self.options(sleep=self.pauses.append, **options))

    def complete(self, prompt: str = "hi", **settings: Any) -> Completion:
        with self.client() as client:
            return client.complete(prompt, **settings)

    def stream(self, prompt: str = "hi", take: int = 99, **settings: Any) -> list[Chunk]:
        with self.client() as client, client.stream(prompt, **settings) as stream:
            for chunk in stream:
                self.seen.append(chunk)
                if len(self.seen) == take:
                    break
        return self.seen

    def cancel_from_elsewhere(self) -> list[Chunk]:
        with self.client() as client:
            stream = client.stream("hi")
            self.seen.append(next(stream))
            timer = threading.Timer(0.05, stream.cancel)
            timer.start()
            self.seen.extend(stream)
            timer.join()
        return self.seen

    def is_ready(self) -> bool:
        with self.client() as client:
            return client.is_ready(timeout_s=2)


class AsyncDriver(_Asks):
    """From asyncio."""

    def client(self, **options: Any) -> AsyncCompletionClient:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        return AsyncCompletionClient(**self.options(sleep=sleep, **options))

    def complete(self, prompt: str = "hi", **settings: Any) -> Completion:
        async def ask() -> Completion:
            async with self.client() as client:
                return await client.complete(prompt, **settings)

        return asyncio.run(ask())

    def stream(self, prompt: str = "hi", take: int = 99, **settings: Any) -> list[Chunk]:
        async def ask() -> None:
            async with self.client() as client, client.stream(prompt, **settings) as stream:
                async for chunk in stream:
                    self.seen.append(chunk)
                    if len(self.seen) == take:
                        break

        asyncio.run(ask())
        return self.seen

    def cancel_from_elsewhere(self) -> list[Chunk]:
        async def ask() -> None:
            async with self.client() as client:
                stream = client.stream("hi")
                self.seen.append(await anext(stream))

                async def cancel() -> None:
                    await asyncio.sleep(0.05)
                    await stream.cancel()

                task = asyncio.create_task(cancel())
                self.seen.extend([chunk async for chunk in stream])
                await task

        asyncio.run(ask())
        return self.seen

    def is_ready(self) -> bool:
        async def ask() -> bool:
            async with self.client() as client:
                return await client.is_ready(timeout_s=2)

        return asyncio.run(ask())


Driver = SyncDriver | AsyncDriver
