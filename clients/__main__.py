"""python -m clients: a prompt in, its completion on stdout; errors are one line on stderr."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence

from clients.client import DEFAULT_URLS, CompletionClient
from clients.errors import ClientError, InvalidRequest
from clients.messages import Chunk, Completion, Settings

_EXAMPLES = """examples:
  python -m clients complete "def fib(n):" --stream --max-tokens 64 --temperature 0.2
  python -m clients complete - --stop $'\\n\\n' < prompt.py
  python -m clients complete "def area(r):" --suffix $'\\n    return a\\n' --stop-at block
  python -m clients complete "def fib(n):" --protocol http --url localhost:8000 --json
"""
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 after an error, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:  # the request was cancelled as the client was left
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of stdout left: keep the interpreter's exit quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return status


def _ready(arguments: argparse.Namespace) -> int:
    with CompletionClient(arguments.url, arguments.protocol, arguments.timeout_s) as client:
        if client.is_ready():
            return 0
        print(f"error: {client.url} is not ready", file=sys.stderr)
    return EXIT_FAILED


def _complete(arguments: argparse.Namespace) -> int:
    client = CompletionClient(
        arguments.url, arguments.protocol, arguments.timeout_s, arguments.retries
    )
    settings: Settings = {
        "max_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "min_p": arguments.min_p,
        "repetition_penalty": arguments.repetition_penalty,
        "frequency_penalty": arguments.frequency_penalty,
        "presence_penalty": arguments.presence_penalty,
        "logit_bias": arguments.logit_bias,
        "seed": arguments.seed,
        "n": arguments.n,
        "best_of": arguments.best_of,
        "suffix": arguments.suffix,
        "stop": arguments.stop,
        "stop_at": arguments.stop_at,
        "truncate": arguments.truncate,
        "token_healing": arguments.token_healing,
        "ignore_eos": arguments.ignore_eos,
        "logprobs": arguments.logprobs,
        "priority": arguments.priority,
        "timeout_ms": arguments.timeout_ms,
        "user": arguments.user,
    }
    prompt = _read_stdin() if arguments.prompt == "-" else arguments.prompt
    if arguments.stream and (arguments.n or 1) > 1 and not arguments.json:
        raise InvalidRequest(f"n is {arguments.n}: --stream shows one text, add --json for more")
    with client:
        if arguments.stream:
            with client.stream(prompt, **settings) as stream:
                for chunk in stream:
                    _show(chunk, as_json=arguments.json)
        else:
            _show(client.complete(prompt, **settings), as_json=arguments.json)
    if sys.stdout.isatty() and not arguments.json:
        print()
    return 0


def _read_stdin() -> str:
    # Bytes that aren't UTF-8 become surrogates, which the client refuses by name.
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def _titled(answer: Completion | Chunk) -> list[str]:
    """The text, or several, each under its number."""
    if isinstance(answer, Chunk) or not answer.others:
        return [answer.text]
    return [f"--- text {number}\n{text}" for number, text in enumerate(answer.texts, start=1)]


def _show(answer: Completion | Chunk, *, as_json: bool) -> None:
    if as_json:
        values = dataclasses.asdict(answer)
        for name in ("logprobs", "others"):
            if not values.get(name, True):
                del values[name]
        print(json.dumps(values, ensure_ascii=False), flush=True)
    else:
        print(*_titled(answer), sep="\n", end="", flush=True)


def build_parser() -> argparse.ArgumentParser:
    """The command line, for its tests too."""
    parser = argparse.ArgumentParser(
        prog="python -m clients",
        description="Ask a nanotriton server.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    complete = commands.add_parser(
        "complete",
        help="complete a prompt",
        description="Complete a prompt; the new text alone goes to stdout.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_complete_options(complete)
    complete.set_defaults(run=_complete)
    ready = commands.add_parser("ready", help="exit with 0 when both models are loaded, else 1")
    _add_server_options(ready, timeout_s=5.0)
    ready.set_defaults(run=_ready)
    return parser


def _add_server_options(parser: argparse.ArgumentParser, timeout_s: float) -> None:
    urls = " or ".join(f"{url} for {protocol}" for protocol, url in DEFAULT_URLS.items())
    add = parser.add_argument
    add("--protocol", choices=list(DEFAULT_URLS), default="grpc", help="default: %(default)s")
    add("--url", help=f"HOST:PORT of the server; default: {urls}")
    add("--timeout-s", type=float, default=timeout_s, help="seconds in all; default: %(default)s")


def _add_complete_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", help="the text to go on from; - reads it from stdin")
    add("--suffix", help="the text after the cursor: fill in what is missing between the two")
    add("--stream", action="store_true", help="show the text as it is generated")
    add("--json", action="store_true", help="one JSON object, with --stream one line per chunk")
    _add_server_options(parser, timeout_s=60.0)
    add("--retries", type=int, default=2, help="when unavailable; default: %(default)s")
    sampling = parser.add_argument_group("sampling", "what is left out, the server decides")
    add = sampling.add_argument
    add("--max-tokens", type=int, help="at most this many new tokens")
    add("--temperature", type=float, help="0 takes the likeliest token, 1 samples as trained")
    add("--top-k", type=int, help="sample among the k likeliest tokens")
    add("--top-p", type=float, help="sample among the likeliest tokens of this total probability")
    add("--min-p", type=float, help="leave out tokens below this share of the likeliest one's")
    add("--repetition-penalty", type=float, help="above 1: what was there becomes less likely")
    add("--frequency-penalty", type=float, help="taken off for each time a token was written")
    add("--presence-penalty", type=float, help="taken off once for a token that was written")
    add("--logit-bias", metavar="JSON", help='added to logits by token id: {"50256": -100}')
    add("--seed", type=int, help="the same seed gives the same text")
    add("--n", type=int, help="this many texts, each after a line with its number")
    add("--best-of", type=int, help="the best n of this many, by mean log-probability of a token")
    add("--stop", action="append", help="end before this text; may be given several times")
    units = ["none", "line", "block", "function"]
    add("--stop-at", choices=units, help="end with the line, block or function at the cursor")
    add("--truncate", choices=["none", "left"], help="refuse a prompt too long, or cut its left")
    add(
        "--token-healing",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let the prompt end inside a word of the tokenizer; default: %(default)s",
    )
    add("--logprobs", type=int, metavar="N", help="with --json: of each token and the N likeliest")
    add("--ignore-eos", action="store_true", default=None, help="go on after the end of text")
    add("--priority", type=int, help="higher is served first; the server's default is 0")
    add("--timeout-ms", type=int, help="end the completion, as far as it came, after this time")
    add("--user", help="whose request this is, where the server keeps users apart")


if __name__ == "__main__":
    sys.exit(main())
