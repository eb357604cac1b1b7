"""A real nginx with docker/nginx/nginx.conf as it is, in front of ports of this machine."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from running import ROOT, free_ports, wait_until

DOCKER = ROOT / "docker"
# Not in DNS's place but in an address's: what docker/nginx has in files of their own.
LISTEN = """listen 127.0.0.1:{tls_port} ssl http2;
listen 127.0.0.1:{plain_port};
ssl_certificate {folder}/secrets/tls.crt;
ssl_certificate_key {folder}/secrets/tls.key;
if ($scheme = http) {{ return 308 https://$host$request_uri; }}
"""
GATEWAY = "server 127.0.0.1:{port} max_fails=0;\n"


@dataclass
class RunningProxy:
    """An nginx of the test's own."""

    process: subprocess.Popen[bytes]
    folder: Path
    tls_port: int
    plain_port: int

    def http(self, **options: Any) -> httpx.Client:
        """A client that trusts the self-signed certificate and nothing else."""
        trusted = ssl.create_default_context(cafile=self.folder / "secrets" / "tls.crt")
        transport = httpx.HTTPTransport(verify=trusted, local_address=options.pop("address", None))
        url = f"https://localhost:{self.tls_port}"
        return httpx.Client(base_url=url, timeout=30, transport=transport, **options)

    def answers(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.tls_port)) == 0

    def log(self) -> str:
        """Everything that was printed so far."""
        return (self.folder / "log").read_text()


@contextmanager
def running_proxy(folder: Path, *ports: int) -> Iterator[RunningProxy]:
    """One in front of the gateways on these ports, with secrets as `make secrets` makes them."""
    program = shutil.which("nginx")
    assert program, "nginx is missing: install it with apt-get install nginx-light"
    subprocess.run([DOCKER / "secrets.sh", folder], check=True, capture_output=True)
    tls_port, plain_port = free_ports(2)
    shutil.copy(DOCKER / "nginx" / "nginx.conf", folder)
    (folder / "gateways.conf").write_text("".join(GATEWAY.format(port=port) for port in ports))
    (folder / "listen.conf").write_text(
        LISTEN.format(folder=folder, tls_port=tls_port, plain_port=plain_port)
    )
    command = [program, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
    if os.geteuid() == 0:  # pytest's folders are closed to the user that nginx would change to
        command += ["-g", "user root;"]
    subprocess.run([*command, "-t", "-q"], check=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    proxy = RunningProxy(process, folder, tls_port, plain_port)
    wait_until(proxy.answers, 20)
    try:
        yield proxy
    finally:
        process.terminate()
        process.wait(20)
