"""`python -m nanotriton.probe`: one completion through both doors of a running server.

Comes in: a model repository and the port of the HTTP front. Goes out: exit status 0, or 1 with one
line on stderr. It is what containers and orchestrators ask every few seconds, so it imports neither
ONNX Runtime nor the engine, and asks for one token. Knows nothing of processes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nanotriton.canary import DOORS, check_door
from nanotriton.errors import NanotritonError
from nanotriton.manifest import Manifest, newest_version


def main(argv: Sequence[str] | None = None) -> int:
    """Ask both doors; 0 when both complete."""
    args = build_parser().parse_args(argv)
    url = f"http://{args.address}:{args.http_port}"
    try:
        prompt = Manifest.load(newest_version(args.model_repository)).canary_prompt
        for model in DOORS:
            check_door(model, url, prompt, args.timeout_s)
    except NanotritonError as error:
        print(f"nanotriton: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m nanotriton.probe",
        description="Exit with 0 when a running server completes, else 1.",
    )
    add = parser.add_argument
    add("--model-repository", type=Path, required=True, help="the one that is served")
    add("--address", default="127.0.0.1", help="default: %(default)s")
    add("--http-port", type=int, default=8000, help="default: %(default)s")
    add("--timeout-s", type=float, default=5.0, help="seconds for each door; default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
