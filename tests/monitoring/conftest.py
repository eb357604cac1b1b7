"""One server, gateway and Prometheus for all live tests, with callers that ask for a bit of all."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from running import RunningServer, free_ports

from tests.gateway.gateways import RunningGateway, running_gateway
from tests.monitoring.watching import Watch, watching

CERTIFICATE_DAYS = 10


@pytest.fixture(scope="module")
def watch(
    fragile_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watch]:
    """Prometheus over a server and its gateway; a second server is a target and isn't there."""
    folder = tmp_path_factory.mktemp("watch")
    [nobody] = free_ports(1)
    # Both routes lead to one Triton. The budget is so small that every answer is over it.
    words = ("--open", "--backend", f"canary=127.0.0.1:{fragile_server.grpc_port}")
    with (
        running_gateway(fragile_server, folder, *words, "--soft-budget", "0.000001") as gateway,
        listening_tls(folder) as tls_port,
        asking(gateway),
    ):
        ports = {
            "nanotriton-server": [fragile_server.metrics_port, nobody],
            "nanotriton-gateway": [gateway.port],
            "nanotriton-tls": [tls_port],
        }
        targets = {job: [f"127.0.0.1:{port}" for port in some] for job, some in ports.items()}
        with watching(folder, targets) as running:
            yield running


@contextmanager
def asking(gateway: RunningGateway) -> Iterator[None]:
    """Two callers that ask until the block ends, whatever they are answered."""
    stopped = threading.Event()

    def ask(caller: int) -> None:
        number = 0
        while not stopped.wait(0.1):
            number += 1
            try:
                with gateway.http() as http:
                    ask_for_everything(http, f"def f{caller}_{number}(")
            except httpx.HTTPError:
                continue  # the engine is killed meanwhile

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(2)]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        stopped.set()
        for one in threads:
            one.join()


def ask_for_everything(http: httpx.Client, prompt: str) -> None:
    """New, cached, typed along, repetitive, wrong and given up; what was shown is accepted."""
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "user": prompt, "timeout": 5}
    answer = http.post("/v1/completions", json=body)
    if answer.status_code == 200:
        told = answer.json()
        http.post("/v1/completions", json=body)
        typed = prompt + told["choices"][0]["text"][:2]
        http.post("/v1/completions", json={**body, "prompt": typed})
        events = [{"id": told["id"], "kind": kind} for kind in ("shown", "accepted")]
        http.post("/v1/events", json={"events": events})
    http.post("/v1/completions", json={**body, "prompt": f"# {prompt}\n" + "x = [1, 2]\n" * 9})
    http.post("/v1/completions", json={**body, "top_k": -1})
    given_up = {**body, "prompt": f"{prompt}self, ", "max_tokens": 200, "stream": True}
    with http.stream("POST", "/v1/completions", json=given_up) as stream:
        next(stream.iter_lines(), None)


@contextmanager
def listening_tls(folder: Path) -> Iterator[int]:
    """Somebody who shows a certificate that ends in CERTIFICATE_DAYS; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))
    stopped = threading.Event()
    [port] = free_ports(1)

    def accept() -> None:
        with socket.create_server(("127.0.0.1", port)) as server:
            server.settimeout(0.2)
            while not stopped.is_set():
                try:
                    with context.wrap_socket(server.accept()[0], server_side=True):
                        pass
                except OSError:
                    continue

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield port
    finally:
        stopped.set()
        thread.join()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(encoding))
    return file
