import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running import free_ports

from nanotriton import server, tracing
from nanotriton.errors import ServerError
from nanotriton.server import (
    ServerOptions,
    check_port,
    engine_environment,
    remove_regions,
    remove_stale_regions,
    server_arguments,
    tracing_environment,
)

REPOSITORY = Path("model_repository")


@pytest.fixture
def regions(tmp_path, monkeypatch):
    """A folder in the place of /dev/shm; makes files in it."""
    monkeypatch.setattr(server, "SHM_FOLDER", tmp_path)

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return make


def dead_pid():
    """Id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names_in(folder):
    """Names of a folder's files."""
    return sorted(path.name for path in folder.iterdir())


def test_free_port_passes():
    (port,) = free_ports(1)
    check_port("http_port", "127.0.0.1", port)


def test_port_that_is_in_use_is_refused_by_its_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError) as refusal:
            check_port("grpc_port", "127.0.0.1", port)
    assert str(refusal.value).startswith(f"--grpc-port {port} on 127.0.0.1 can't be used (")
    assert str(refusal.value).endswith("): choose another")


@pytest.mark.parametrize("port", [-1, 65536, 10**6])
def test_number_that_is_no_port_is_refused(port):
    with pytest.raises(ServerError, match=f"--http-port {port} on 127.0.0.1 can't be used"):
        check_port("http_port", "127.0.0.1", port)


def test_address_of_another_machine_is_refused():
    with pytest.raises(ServerError, match=r"--http-port 8000 on 192.0.2.1 can't be used"):
        check_port("http_port", "192.0.2.1", 8000)  # TEST-NET-1, RFC 5737


def test_port_of_a_server_that_just_ended_passes():
    # Connections in TIME_WAIT must not keep a restarted server from its port.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            client.recv(1)
    check_port("http_port", "127.0.0.1", port)


def test_server_listens_on_loopback_unless_told_otherwise():
    words = server_arguments(ServerOptions(REPOSITORY))
    assert {one for one in words if "address" in one} == {
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
    }


def test_options_reach_the_command_line():
    options = ServerOptions(REPOSITORY, 1, 2, 3, address="0.0.0.0", exit_timeout_s=4)
    words = server_arguments(options)
    assert {*words} >= {
        "--model-repository=model_repository",
        "--http-port=1",
        "--grpc-port=2",
        "--metrics-port=3",
        "--http-address=0.0.0.0",
        "--exit-timeout-secs=4",
    }


@pytest.mark.parametrize("verbose", [True, False])
def test_information_log_is_shown_only_when_asked(verbose):
    words = server_arguments(ServerOptions(REPOSITORY, verbose=verbose))
    assert ("--log-info=false" in words) is not verbose


def test_extra_arguments_come_last_so_that_they_win():
    extra = ("--log-verbose=1", "--http-port=9")
    assert server_arguments(ServerOptions(REPOSITORY, extra_arguments=extra))[-2:] == [*extra]


def test_nothing_is_traced_unless_told():
    options = ServerOptions(REPOSITORY)
    assert not [one for one in server_arguments(options) if "trace" in one]
    assert tracing_environment(options) == {}


def test_triton_and_the_models_trace_to_the_same_place():
    url = "http://localhost:4318/v1/traces"
    options = ServerOptions(REPOSITORY, trace_url=url, trace_rate=10)
    assert {*server_arguments(options)} >= {
        "--trace-config=mode=opentelemetry",
        "--trace-config=rate=10",
        f"--trace-config=opentelemetry,url={url}",
    }
    assert tracing_environment(options) == {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url}


def test_settings_reach_the_engine_by_its_environment():
    assert engine_environment(ServerOptions(REPOSITORY)) == {}
    options = ServerOptions(REPOSITORY, engine={"threads": "2", "speculation": "off"})
    assert engine_environment(options) == {"NANOTRITON_ENGINE": "threads=2 speculation=off"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"trace_url": "localhost:4318"}, "--trace-url is 'localhost:4318', needed is"),
        ({"trace_rate": 0}, "--trace-rate is 0, the least is 1"),
    ],
    ids=["no-scheme", "rate"],
)
def test_tracing_that_can_not_be_is_refused_in_one_line(asked, words):
    with pytest.raises(ServerError, match=words):
        ServerOptions(REPOSITORY, **asked)


def test_tracing_without_its_extra_is_refused_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr(tracing, "PACKAGES", ("opentelemetry.none_such",))
    with pytest.raises(ServerError, match=r"pip install 'nanotriton\[tracing\]'"):
        ServerOptions(REPOSITORY, trace_url="http://localhost:4318/v1/traces")


def test_regions_are_named_after_the_process_that_owns_the_server():
    words = server_arguments(ServerOptions(REPOSITORY))
    assert f"--backend-config=python,shm-region-prefix-name=nanotriton-{os.getpid()}-" in words


@pytest.mark.parametrize(
    ("address", "host"), [("0.0.0.0", "127.0.0.1"), ("192.0.2.7", "192.0.2.7")]
)
def test_urls_are_ones_that_can_be_reached(address, host):
    options = ServerOptions(REPOSITORY, 1, 2, address=address)
    assert (options.http_url, options.grpc_url) == (f"http://{host}:1", f"{host}:2")


def test_regions_of_a_killed_server_are_removed(regions):
    dead = dead_pid()
    folder = regions(f"nanotriton-{dead}-a", f"nanotriton-{dead}-b_1")
    remove_stale_regions()
    assert names_in(folder) == []


def test_regions_of_others_are_left_alone(regions):
    alive = os.getpid()
    names = [f"nanotriton-{alive}-a", "nanotriton-x-a", "nanotriton-", "other", "triton-1-a"]
    folder = regions(*names)
    remove_stale_regions()
    assert names_in(folder) == sorted(names)


def test_stopped_server_takes_only_its_own_regions_away(regions):
    folder = regions("nanotriton-12-a", "nanotriton-12-b", "nanotriton-123-a")
    remove_regions(12)
    assert names_in(folder) == ["nanotriton-123-a"]
