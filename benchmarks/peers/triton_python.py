"""Triton's python backend as somebody writes it in an afternoon: one request after another.

The model in `plain_repository` on the real tritonserver of the wheel, asked by Triton's own
`/v2/models/gpt/generate_stream`: no batching across requests, no gateway.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.catalogue import HERE
from benchmarks.peers.foreign import ForeignServer, free_port, serve_foreign
from benchmarks.peers.serving import Options, parse
from nanotriton.installation import find_installation

SHM_PREFIX = "nanotriton-"  # what a killed one leaves, our next server removes by this name
PARAMETER = 'parameters {{ key: "{0}" value {{ string_value: "{1}" }} }}\n'
# What a machine without a GPU needs, and nothing of the outside.
FLAGS = ("--pinned-memory-pool-byte-size=0", "--allow-gpu-metrics=false", "--allow-metrics=false")


def main() -> int:
    """Serve until stdin ends."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="nanotriton-plain-") as scratch:
        installation = find_installation(Path(scratch))
        repository = write_repository(Path(scratch, "repository"), options)
        http, grpc = free_port(), free_port()
        doors = (f"--http-port={http}", f"--grpc-port={grpc}")
        addresses = ("--http-address=127.0.0.1", "--grpc-address=127.0.0.1")
        environment = dict(installation.environment)
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(HERE.parent.parent), environment.get("PYTHONPATH", "")]
        )
        return serve_foreign(
            ForeignServer(
                [
                    *installation.command,
                    f"--model-repository={repository}",
                    f"--backend-config=python,shm-region-prefix-name={SHM_PREFIX}{os.getpid()}-",
                    *(*doors, *addresses, *FLAGS),
                ],
                environment,
                url=f"127.0.0.1:{http}",
                health_path="/v2/health/ready",
                protocol="generate",
                packages=("nvidia-pytriton", "torch", "transformers"),
            )
        )


def write_repository(folder: Path, options: Options) -> Path:
    """The plain model, told what to load."""
    shutil.copytree(HERE / "plain_repository", folder)
    told = {
        "checkpoint": options.checkpoint,
        "tokenizer": options.tokenizer,
        "precision": options.precision,
        "num_threads": options.num_threads,
        "max_tokens": options.max_tokens,
    }
    with (folder / "gpt" / "config.pbtxt").open("a") as config:
        config.writelines(PARAMETER.format(name, value) for name, value in told.items())
    return folder


if __name__ == "__main__":
    sys.exit(main())
