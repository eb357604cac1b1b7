"""Real images and containers without a Docker daemon: buildah builds, podman runs, as root or not.

Comes in: names of Dockerfiles. Goes out: images, running containers, and what was measured. The
base images are stand-ins made by mmdebstrap where the storage has none of that name: Debian's own
Python instead of the one that Docker's image compiles. Everything lies in build/containers.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from running import ROOT

FOLDER = ROOT / "build" / "containers"
STORAGE = """[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
# Without systemd and its cgroups.
SETTINGS = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
PACKAGES = "ca-certificates,python-is-python3,python3,libpython3.11"
BUILDERS = ",python3-pip,python3-dev,g++"
SLIM = "docker.io/library/python:3.11.14-slim-bookworm"
BASES = {SLIM: PACKAGES + ",python3-pip", SLIM.replace("-slim", ""): PACKAGES + BUILDERS}
# What the task of a container is run with here, in compose and in the chart.
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
READY_TIMEOUT_S = 180.0


def program(name: str) -> str:
    """Where podman, buildah or mmdebstrap is."""
    found = shutil.which(name)
    assert found, f"{name} is missing: apt-get install buildah podman runc mmdebstrap"
    return found


def environment() -> dict[str, str]:
    """What makes podman and buildah use the tests' own storage."""
    return {
        **os.environ,
        "CONTAINERS_CONF": str(FOLDER / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(FOLDER / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "DISABLE_HC_SYSTEMD": "true",  # health is asked by the tests, not by a timer
    }


def run(name: str, *words: str, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """Run podman, buildah or mmdebstrap, whatever comes of it."""
    return subprocess.run(
        [program(name), *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=timeout_s,
    )


def must(name: str, *words: str, timeout_s: float = 60.0) -> str:
    """What a program prints that has to succeed."""
    done = run(name, *words, timeout_s=timeout_s)
    assert done.returncode == 0, f"{name} {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def prepare_storage() -> None:
    """Settings of podman and buildah, and the base images."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "storage.conf").write_text(STORAGE.format(folder=FOLDER))
    (FOLDER / "containers.conf").write_text(SETTINGS)
    for name, packages in BASES.items():
        if run("podman", "image", "exists", name).returncode:
            archive = FOLDER / "base.tar"
            words = ["--variant=minbase", f"--include={packages}", "bookworm", str(archive)]
            must("mmdebstrap", *words, timeout_s=900)
            must("podman", "import", str(archive), name, timeout_s=300)
            archive.unlink()


def build(dockerfile: str, target: str) -> str:
    """The image that `make images` makes of a target; BUILD_OPTIONS are words for the build."""
    name = f"localhost/nanotriton/{target}:test"
    options = shlex.split(os.environ.get("BUILD_OPTIONS", ""))
    words = ["--format=docker", "--pull-never", "--target", target, "-t", name, *options]
    path = str(ROOT / "docker" / dockerfile)
    must("buildah", "build", *words, "-f", path, str(ROOT), timeout_s=1800)
    return name


def inspect(kind: str, name: str) -> dict[str, Any]:
    """What podman knows of an image or a container."""
    told: list[dict[str, Any]] = json.loads(must("podman", kind, "inspect", name))
    return told[0]


@dataclass
class RunningContainer:
    """A container of the test's own."""

    name: str
    started: float

    def exec(self, *words: str, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a program in it, as its user."""
        return run("podman", "exec", self.name, *words, timeout_s=timeout_s)

    def wait_healthy(self) -> float:
        """Ask its HEALTHCHECK until it is good; seconds since the start."""
        while run("podman", "healthcheck", "run", self.name).returncode:
            assert self.is_running, self.log()
            assert time.monotonic() - self.started < READY_TIMEOUT_S, self.log()
            time.sleep(0.2)
        return time.monotonic() - self.started

    @property
    def is_running(self) -> bool:
        """Whether its first process lives."""
        return bool(inspect("container", self.name)["State"]["Running"])

    def log(self) -> str:
        """Everything that it printed."""
        done = run("podman", "logs", self.name)
        return done.stdout + done.stderr

    def terminate(self) -> None:
        """SIGTERM, as an orchestrator sends it."""
        must("podman", "kill", "--signal=TERM", self.name)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return int(must("podman", "wait", self.name, timeout_s=120))

    def remove(self) -> None:
        """End it for good."""
        must("podman", "rm", "--force", "--volumes", "--time=0", self.name)


def start(name: str, image: str, *options: str, command: tuple[str, ...] = ()) -> RunningContainer:
    """Start a container as compose does: nobody's user, nothing to write on, no capability."""
    run("podman", "rm", "--force", "--time=0", name)
    started = time.monotonic()
    must("podman", "run", "--detach", "--name", name, *HARDENED, *options, image, *command)
    return RunningContainer(name, started)


def start_client(
    image: str, beside: RunningContainer, key: str, *words: str
) -> "subprocess.Popen[str]":
    """`python -m clients WORDS` of the gateway's image in a container of its own."""
    command = [
        *(program("podman"), "run", "--rm", *HARDENED, f"--network=container:{beside.name}"),
        *(f"--env=NANOTRITON_API_KEY={key}", "--entrypoint=python3", image, "-m", "clients"),
        *(*words, "--protocol=gateway"),
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment())
