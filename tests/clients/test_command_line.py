"""python -m clients, within the process and as one of its own."""

import argparse
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clients.__main__ import build_parser, main
from tests.clients.playback import SEVERAL, End, Fail, Playback, Text, Wait

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "clients", "complete")


def arguments(playback: Playback, protocol: str, *more: str) -> list[str]:
    return ["hi", "--protocol", protocol, "--url", playback.urls[protocol], *more]


@pytest.fixture(params=[(), ("--stream",)], ids=["unary", "stream"])
def door(request: pytest.FixtureRequest) -> tuple[str, ...]:
    made: tuple[str, ...] = request.param
    return made


def test_text_goes_to_stdout(
    playback: Playback, protocol: str, door: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["complete", *arguments(playback, protocol, *door)]) == 0
    assert capfd.readouterr() == ("one two", "")


def test_json_is_one_object(
    playback: Playback, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["complete", *arguments(playback, protocol, "--json")]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "text": "one two",
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "completion_tokens": 2,
    }


def test_json_of_a_stream_is_a_line_per_chunk(
    playback: Playback, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    playback.replies = [[Text("a\nb\u2028"), End("length")]]
    assert main(["complete", *arguments(playback, protocol, "--json", "--stream")]) == 0
    chunks = [json.loads(line) for line in capsys.readouterr().out.rstrip("\n").split("\n")]
    assert [chunk["text"] for chunk in chunks] == ["a\nb\u2028", ""]
    assert [chunk["finish_reason"] for chunk in chunks] == [None, "length"]


def test_several_texts_stand_under_their_numbers(
    playback: Playback, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    playback.replies = [SEVERAL]
    assert main(["complete", *arguments(playback, protocol, "--n", "2")]) == 0
    assert capsys.readouterr().out == "--- text 1\nac\n--- text 2\nb"


def test_stream_of_several_texts_needs_json(
    playback: Playback, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    playback.replies = [SEVERAL]
    words = arguments(playback, protocol, "--n", "2", "--stream")
    assert main(["complete", *words]) == 1
    assert "n is 2: --stream shows one text, add --json for more" in capsys.readouterr().err
    assert main(["complete", *words, "--json"]) == 0
    pieces = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["index"], one["text"]) for one in pieces if one["text"]] == [
        *((0, "a"), (1, "b"), (0, "c"))
    ]


def test_every_option_reaches_the_server(playback: Playback) -> None:
    sampling = "--max-tokens 5 --temperature 0 --top-k 3 --top-p 0.5 --min-p 0.25 --seed -7"
    sampling += " --n 1 --best-of 3"
    penalties = "--repetition-penalty 1.5 --frequency-penalty 1 --presence-penalty -1"
    sampling += f' {penalties} --logit-bias {{"5":-1}}'
    others = "--stop a --stop b --stop-at block --truncate left --no-token-healing"
    others += " --ignore-eos --logprobs 2 --suffix z"
    others += " --timeout-s 9 --retries 0"
    queue = "--priority -2 --timeout-ms 70 --user me"
    words = f"{sampling} {others} {queue}".split()
    main(["complete", *arguments(playback, "http", "--stream", *words)])
    assert playback.requests == [
        {
            "text_input": "hi",
            "max_tokens": 5,
            "temperature": 0.0,
            "top_k": 3,
            "top_p": 0.5,
            "min_p": 0.25,
            "repetition_penalty": 1.5,
            "frequency_penalty": 1.0,
            "presence_penalty": -1.0,
            "logit_bias": '{"5":-1}',
            "seed": -7,
            "n": 1,
            "best_of": 3,
            "stop": ["a", "b"],
            "stop_at": "block",
            "truncate": "left",
            "token_healing": False,
            "ignore_eos": True,
            "logprobs": 2,
            "suffix": "z",
            "priority": -2,
            "timeout_ms": 70,
            "user": "me",
            "stream": True,
        }
    ]


def test_options_left_out_are_not_sent_but_for_healing(playback: Playback) -> None:
    main(["complete", *arguments(playback, "http", "--stream")])
    assert playback.requests == [{"text_input": "hi", "token_healing": True, "stream": True}]


@pytest.mark.parametrize(
    ("data", "code"), [("é\n".encode(), 0), (b"\xff", 1)], ids=["text", "no UTF-8"]
)
def test_prompt_from_stdin(
    playback: Playback, monkeypatch: pytest.MonkeyPatch, data: bytes, code: int
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["complete", "-", *arguments(playback, "http", "--stream")[1:]]) == code
    assert [request["text_input"] for request in playback.requests] == ["é\n"] * (1 - code)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "error: top_k is -1: give 0 to 64\n"),
        (("--stream",), "error: top_k is -1: give 0 to 64\n"),
        (("--max-tokens", "9999999999"), "error: max_tokens is 9999999999: at most 2147483647"),
        (("--timeout-s", "0"), "error: timeout_s is 0.0: give seconds above 0\n"),
    ],
    ids=["unary", "stream", "refused here", "no time"],
)
def test_error_is_one_line(
    playback: Playback, options: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    playback.replies = [[Fail("INVALID_ARGUMENT", "[INVALID_ARG] top_k is -1: give 0 to 64")]]
    assert main(["complete", *arguments(playback, "grpc", *options)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(line)


def test_dead_port_as_a_process(dead_url: str) -> None:
    command = [*COMMAND, "hi", "--url", dead_url, "--retries", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: can't reach {dead_url} (Connection refused): start the server or give its url\n"
    )


def start(playback: Playback, protocol: str, *more: str) -> subprocess.Popen[bytes]:
    command = [*COMMAND, *arguments(playback, protocol, *more)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )


def test_ctrl_c_cancels_the_stream_and_shows_what_came(playback: Playback, protocol: str) -> None:
    playback.replies = [[Text("one "), Wait(20), End()]]
    with start(playback, protocol, "--stream") as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"one "  # as it is made, though stdout is a pipe
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 130
    assert playback.is_left.wait(1)


def test_ctrl_c_cancels_a_completion(playback: Playback, protocol: str) -> None:
    playback.replies = [[Wait(20), End()]]
    with start(playback, protocol) as process:
        assert playback.is_asked.wait(10)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 130
    assert playback.is_left.wait(1)


def test_reader_of_stdout_may_leave(playback: Playback) -> None:
    playback.replies = [[Text("one "), *[Wait(0.05), Text("more ")] * 200, End()]]
    with start(playback, "grpc", "--stream") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        assert process.wait(10) == 1
        assert process.stderr.read() == b""


def options_of(parser: argparse.ArgumentParser) -> list[Any]:
    """All options, those of the subcommands too."""
    options: list[Any] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            options += action._choices_actions
            options += [one for sub in action.choices.values() for one in options_of(sub)]
        else:
            options.append(action)
    return options


def test_every_option_has_help() -> None:
    options = options_of(build_parser())
    assert len(options) > 18
    assert [one.dest for one in options if not one.help] == []


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["complete", "--help"])
    assert 'python -m clients complete "def fib(n):" --stream' in capsys.readouterr().out
