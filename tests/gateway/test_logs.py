"""The log: JSON lines that nobody can forge, without prompts, with tracebacks in a field."""

import io
import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from typing import Any

import pytest
from running import free_ports, wait_until

from gateway.insight.logs import MAX_VALUE_CHARS, RequestLog
from gateway.messages import Outcome, Usage
from tests.gateway.finished import finished

# A real uvicorn whose application breaks at every request.
BROKEN_APP = """
import sys, uvicorn
from gateway.insight.logs import configure_logs

async def app(scope, receive, send):
    if scope["type"] == "http":
        raise RuntimeError("secret of " + scope["path"])

configure_logs()
uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, lifespan="off")
"""


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().rstrip("\n").split("\n")]


def test_a_request_is_one_line(log: io.StringIO) -> None:
    RequestLog().tell(finished())
    (line,) = lines(log)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "logger": "gateway",
        "request_id": "cmpl-1",
        "key": "nt_ab12cd34",
        "route": "stable",
        "model": "gpt",
        "version": "1",
        "outcome": "ok",
        "stream": True,
        "prompt_tokens": 10,
        "completion_tokens": 21,
        "first_text_ms": 200.0,
        "total_ms": 1200.0,
    }


@pytest.mark.parametrize(
    ("outcome", "level"),
    [("ok", "info"), ("refused", "info"), ("timeout", "warning"), ("failed", "error")],
)
def test_outcome_has_its_level(log: io.StringIO, outcome: Outcome, level: str) -> None:
    RequestLog().tell(finished(outcome, usage=Usage(), caller=None, served=None))
    assert [(line["level"], line["outcome"]) for line in lines(log)] == [(level, outcome)]


def test_prompts_are_logged_only_when_asked(log: io.StringIO) -> None:
    RequestLog().tell(finished(), completion="return 1")
    assert "def f(" not in log.getvalue()
    assert "return 1" not in log.getvalue()
    RequestLog(log_prompts=True).tell(finished(), completion="return 1" * 200)
    told = lines(log)[-1]
    assert (told["prompt"], told["completion"]) == ("def f(", "return 1" * 200)


@pytest.mark.parametrize(
    "forged",
    ['\n{"event": "x"}', "\r\n", "\u2028", "\x85", "\x1b[2J", "\x00", "\udc80"],
    ids=["LF", "CRLF", "U+2028", "NEL", "escape", "NUL", "surrogate"],
)
def test_nothing_in_a_value_makes_a_line(log: io.StringIO, forged: str) -> None:
    # pytest's own handler would keep what a worker can't tell: a surrogate has no UTF-8.
    logging.getLogger().handlers[:] = [
        one for one in logging.getLogger().handlers if getattr(one, "stream", None) is log
    ]
    RequestLog(log_prompts=True).tell(finished(error=forged), completion=forged)
    logging.getLogger("some.library").warning("header %s", forged)
    text = log.getvalue()
    assert text.isascii()
    assert len(text.splitlines()) == 2
    assert min(text.replace("\n", "")) >= " "
    assert lines(log)[0]["error"] == forged


def test_long_values_are_cut(log: io.StringIO) -> None:
    RequestLog().tell(finished(error="x" * 100_000))
    (line,) = lines(log)
    assert line["error"] == "x" * MAX_VALUE_CHARS + "... (100000 characters)"


def test_warnings_and_values_of_any_kind_are_lines_too(log: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    logging.getLogger("other").error("%s", object())
    assert [line["logger"] for line in lines(log)] == ["py.warnings", "other"]


def test_stream_that_is_gone_breaks_no_request(
    log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    log.close()
    RequestLog().tell(finished())
    assert "Logging error" in capsys.readouterr().err


def test_traceback_is_a_field_of_the_log_and_nothing_to_the_client() -> None:
    (port,) = free_ports(1)
    with subprocess.Popen(
        [sys.executable, "-c", BROKEN_APP, str(port)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: answers(port), 30)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/x%0Ay", timeout=10)
        body = caught.value.read().decode()
        process.terminate()
        told = [json.loads(line) for line in process.stderr]
    assert (caught.value.code, "secret" in body, "Traceback" in body) == (500, False, False)
    (failed,) = [line for line in told if "x\ny" in line.get("exception", "")]
    assert (failed["level"], failed["logger"]) == ("error", "uvicorn.error")
    assert "Traceback (most recent call last):\n" in failed["exception"]


def answers(port: int) -> bool:
    """Whether somebody listens who knows HTTP."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True
