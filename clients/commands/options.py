"""Options that several commands share, and the client and the settings that they make.

The one place that reads an environment variable: the key, so that none stands in a process list.
"""

import argparse
import os
from typing import Any

from clients.client import DEFAULT_URLS
from clients.messages import Settings

KEY_VARIABLE = "NANOTRITON_API_KEY"
# Settings by the names of their options.
SAMPLING = (
    *("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"),
    *("frequency_penalty", "presence_penalty", "logit_bias", "seed", "n", "best_of", "stop"),
    *("stop_at", "truncate", "token_healing", "ignore_eos", "logprobs", "priority"),
    *("timeout_ms", "user"),
)


def client_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What both kinds of client are made with."""
    is_gateway = arguments.protocol == "gateway"
    key = arguments.api_key or (os.environ.get(KEY_VARIABLE) if is_gateway else None)
    return {
        "url": arguments.url,
        "protocol": arguments.protocol,
        "timeout_s": arguments.timeout_s,
        "retries": arguments.retries,
        "api_key": key,
        "model": arguments.model,
    }


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that were given."""
    given: Settings = {}
    for name in SAMPLING:
        if (value := getattr(arguments, name)) is not None:
            given[name] = value  # type: ignore[literal-required]
    return given


def add_server_options(
    parser: argparse.ArgumentParser,
    timeout_s: float = 60.0,
    *,
    protocol: str = "grpc",
    is_tried_again: bool = True,
) -> None:
    """Where to ask, as whom, and for how long."""
    urls = ", ".join(f"{url} for {name}" for name, url in DEFAULT_URLS.items())
    add = parser.add_argument
    add("--protocol", choices=list(DEFAULT_URLS), default=protocol, help="default: %(default)s")
    add("--url", help=f"HOST:PORT of the server, or its https:// URL; default: {urls}")
    add("--api-key", metavar="KEY", help=f"for the gateway; better in {KEY_VARIABLE}")
    add("--model", metavar="NAME", help="for the gateway: one of `models`")
    add("--timeout-s", type=float, default=timeout_s, help="seconds in all; default: %(default)s")
    parser.set_defaults(retries=0)
    if is_tried_again:
        add("--retries", type=int, default=2, help="when unavailable; default: %(default)s")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How the text is chosen and where it ends."""
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
