"""The images, built and run: a completion through gateway and server with all rights dropped.

`make container-test`: minutes, and some gigabytes in build/containers, so not in `make test`.
"""

import json
from collections.abc import Iterator

import pytest

from tests.docker.containers import (
    SLIM,
    RunningContainer,
    build,
    inspect,
    prepare_storage,
    start,
    start_client,
)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3600)]
TARGETS = {
    "server": "server-cpu.Dockerfile",
    "demo": "server-cpu.Dockerfile",
    "gateway": "gateway.Dockerfile",
}
SERVE = ("serve", "--host=0.0.0.0", "--backend=stable=127.0.0.1:8001")
ASK = ("python3", "-m", "clients", "complete", "def f(", "--protocol=gateway")


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    """Built; their names by target."""
    prepare_storage()
    built = {target: build(dockerfile, target) for target, dockerfile in TARGETS.items()}
    base = inspect("image", SLIM)["Size"]
    print(f"\nbase: {base / 1e6:.0f} MB")
    for target, name in built.items():
        print(f"{target}: {(inspect('image', name)['Size'] - base) / 1e6:.0f} MB on it")
    return built


@pytest.fixture(scope="module")
def server(images: dict[str, str]) -> Iterator[RunningContainer]:
    """The demo model, with no way out of its network."""
    options = ("--network=none", "--shm-size=256m", "--tmpfs=/tmp:size=256m,noexec")
    running = start("nanotriton-server", images["demo"], *options)
    try:
        took_s = running.wait_healthy()
        print(f"\nserver: a completion {took_s:.1f} s after the container's start")
        yield running
    finally:
        running.remove()


@pytest.fixture
def gateway(images: dict[str, str], server: RunningContainer) -> Iterator[RunningContainer]:
    """In the server's network, which nothing else reaches."""
    options = (
        *(f"--network=container:{server.name}", "--tmpfs=/tmp:size=64m,noexec"),
        "--volume=/state",  # the image's own folder, with its owner, as compose's volume has it
    )
    running = start("nanotriton-gateway", images["gateway"], *options, command=SERVE)
    try:
        took_s = running.wait_healthy()
        print(f"\ngateway: a completion {took_s:.1f} s after the container's start")
        yield running
    finally:
        running.remove()


@pytest.fixture
def key(gateway: RunningContainer) -> str:
    """A key, made as its operator makes it."""
    done = gateway.exec("python3", "-m", "gateway", "keys", "create", "--name=test")
    return done.stdout.strip()


def test_completion_comes_through_gateway_and_server(gateway: RunningContainer, key: str) -> None:
    done = gateway.exec(*ASK, "--api-key", key, "--max-tokens=16", "--json")

    assert done.returncode == 0, done.stderr + gateway.log()
    assert json.loads(done.stdout)["completion_tokens"] == 16


@pytest.mark.parametrize("name", ["server", "gateway"])
def test_container_has_no_rights(name: str, request: pytest.FixtureRequest) -> None:
    container: RunningContainer = request.getfixturevalue(name)
    status = container.exec("cat", "/proc/1/status").stdout
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert told["Uid"].split() == ["10001"] * 4
    assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0
    assert told["NoNewPrivs"] == "1"
    for place in ("/", "/opt", "/models", "/usr/bin"):
        assert container.exec("touch", f"{place}/x").returncode != 0


@pytest.mark.parametrize("target", TARGETS)
def test_image_tells_what_it_is_and_keeps_nothing_of_its_builder(
    images: dict[str, str], target: str
) -> None:
    image = inspect("image", images[target])
    title = "gateway" if target == "gateway" else "server-cpu"

    assert image["Labels"]["org.opencontainers.image.title"] == f"nanotriton/{title}"
    assert image["Config"]["User"] == "10001:10001"
    assert not [one for one in image["Config"]["Env"] if "PIP_" in one]
    assert not [one for one in image["History"] if "PIP_INDEX" in one.get("created_by", "")]


def test_stopping_gateway_ends_its_streams_in_good_order(
    images: dict[str, str], gateway: RunningContainer, server: RunningContainer, key: str
) -> None:
    words = ("complete", "def f(", "--stream", "--max-tokens=480", "--ignore-eos")
    client = start_client(images["gateway"], server, key, *words)
    assert client.stdout
    first = client.stdout.read(1)
    gateway.terminate()
    rest, error = client.communicate(timeout=60)

    assert client.returncode == 0, error
    assert len(first + rest) > 480
    assert gateway.wait() == 0
    assert "stopping: 1 requests may end" in gateway.log()


def test_stopping_server_lets_requests_end(server: RunningContainer) -> None:
    server.terminate()

    assert server.wait() == 0, server.log()
    assert "requests under way may finish" in server.log()
