"""Another version takes over in a running server, and is taken back: nothing fails."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from running import RunningServer, start_server, wait_until
from tritonclient.grpc import InferenceServerClient

from clients import ClientError, CompletionClient
from nanotriton.engine.protocol import find_sockets

LONG = {"max_tokens": 100, "ignore_eos": True, "temperature": 2.0}


@dataclass
class Asked:
    """What came of the requests so far."""

    num_streams: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def asked_on(server: RunningServer) -> Iterator[Asked]:
    """Both doors are asked without a break."""
    asked, stopping = Asked(), threading.Event()

    def ask(is_stream: bool) -> None:
        with server.client(retries=0) as client:
            while not stopping.is_set():
                try:
                    if is_stream:
                        with client.stream("def f(", **LONG) as stream:
                            assert [*stream][-1].completion_tokens == LONG["max_tokens"]
                        asked.num_streams += 1
                    else:
                        client.complete("def f(", max_tokens=20)
                except (ClientError, AssertionError) as error:
                    asked.failures.append(repr(error))

    threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(4)]
    for one in threads:
        one.start()
    try:
        yield asked
    finally:
        stopping.set()
        for one in threads:
            one.join()


def wait_for_handover(repository: Path, version: str, asked: Asked) -> None:
    """Until that version's engine alone is left, and streams came to their end on it."""

    def is_alone() -> bool:
        sockets = find_sockets(repository)
        return [path.stem.split("-")[1] for path in sockets] == [version]

    wait_until(is_alone, 60)
    before = asked.num_streams
    wait_until(lambda: asked.num_streams > before + 6, 30)


def test_no_request_fails_while_versions_change(demo_repository: Path, tmp_path: Path) -> None:
    repository = Path(shutil.copytree(demo_repository, tmp_path / "repository"))
    server = start_server(repository, tmp_path / "log")
    triton = InferenceServerClient(f"localhost:{server.grpc_port}")
    try:
        with asked_on(server) as asked:
            shutil.copytree(repository / "gpt/1", repository / "gpt/2")
            triton.load_model("gpt")
            wait_for_handover(repository, "2", asked)

            (repository / "gpt/2").rename(tmp_path / "withdrawn")
            triton.load_model("gpt")
            wait_for_handover(repository, "1", asked)
        assert asked.failures == []
    finally:
        triton.close()
        assert server.stop() == 0


def test_streams_end_whole_when_their_server_is_told_to_stop(
    demo_repository: Path, tmp_path: Path
) -> None:
    server = start_server(demo_repository, tmp_path / "log")
    lengths: list[int | None] = []

    def read(client: CompletionClient, has_begun: threading.Barrier) -> None:
        with client.stream("def f(", **LONG | {"max_tokens": 480, "n": 2}) as stream:
            next(stream)
            has_begun.wait(30)
            lengths.append([*stream][-1].completion_tokens)

    with server.client(retries=0) as client:
        has_begun = threading.Barrier(5)
        readers = [threading.Thread(target=read, args=(client, has_begun)) for _ in range(4)]
        for one in readers:
            one.start()
        has_begun.wait(30)
        assert server.stop() == 0
        for one in readers:
            one.join()

    assert lengths == [2 * 480] * 4
