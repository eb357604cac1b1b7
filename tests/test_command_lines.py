"""Every command line: each option has help, and --help works."""

import argparse
from collections.abc import Iterator

import pytest

import benchmarks.__main__ as benchmarks
import clients.__main__ as clients
import export.__main__ as export
import gateway.__main__ as gateway
import monitoring.__main__ as monitoring
import nanotriton.__main__ as nanotriton
import training.__main__ as training
from benchmarks.peers import torch_int8
from nanotriton import probe
from nanotriton.engine import process

PARSERS = {
    "benchmarks": benchmarks.build_parser(),
    "clients": clients.build_parser(),
    "engine": process.build_parser(),
    "export": export.build_parser(),
    "gateway": gateway.build_parser(),
    "monitoring": monitoring.build_parser(),
    "nanotriton": nanotriton.build_parser(),
    "probe": probe.build_parser(),
    "torch_int8": torch_int8.build_parser(),
    "training": training.build_parser(),
}


def all_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from all_parsers(child)


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
def test_every_option_has_help(parser: argparse.ArgumentParser) -> None:
    silent = [
        f"{one.prog} {action.dest}"
        for one in all_parsers(parser)
        for action in one._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]

    assert not silent


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
def test_help_can_be_shown(parser: argparse.ArgumentParser) -> None:
    assert all(one.format_help() for one in all_parsers(parser))
