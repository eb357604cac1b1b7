"""fim, bench, models and completion of python -m clients."""

import json
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from clients.__main__ import main
from clients.commands.infill import Cut, cut_at
from clients.commands.load import Sample, summary_of
from clients.errors import InvalidRequest
from tests.clients.playback import End, Fail, Playback, Text

SOURCE = "def area(r):\r\n    é = \r\n    return a\r\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shapes.py"
    made.write_bytes(SOURCE.encode())
    return made


def words(playback: Playback, *more: str) -> list[str]:
    return [*more, "--protocol", "gateway", "--url", playback.urls["gateway"]]


@pytest.mark.parametrize(
    ("line", "column", "before"),
    [
        (1, 1, ""),
        (2, None, "def area(r):\r\n    é = "),
        (2, 5, "def area(r):\r\n    "),
        (4, 1, SOURCE),
    ],
    ids=["start", "line's end", "column", "file's end"],
)
def test_file_is_cut_at_the_cursor(line: int, column: int | None, before: str) -> None:
    assert cut_at(SOURCE, line, column) == Cut(before, SOURCE.removeprefix(before))


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        (0, None, "line is 0: the file has lines 1 to 4"),
        (5, None, "line is 5: the file has lines 1 to 4"),
        (2, 10, "column is 10: line 2 has columns 1 to 9"),
        (2, 0, "column is 0: line 2 has columns 1 to 9"),
    ],
)
def test_cursor_outside_the_file(line: int, column: int | None, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        cut_at(SOURCE, line, column)


def test_fim_prints_what_is_missing(
    playback: Playback, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(playback, "fim", str(file), "--line", "2", "--max-tokens", "9")) == 0
    assert capsys.readouterr().out == "one two"
    (sent,) = playback.requests
    assert sent["prompt"] + sent["suffix"] == SOURCE
    assert (sent["suffix"], sent["max_tokens"]) == ("\r\n    return a\r\n", 9)
    assert file.read_bytes() == SOURCE.encode()


def test_fim_in_place_keeps_the_rest_byte_for_byte(playback: Playback, file: Path) -> None:
    file.chmod(0o640)
    link = file.with_name("link.py")
    link.symlink_to(file)
    assert main(words(playback, "fim", str(link), "--line", "2", "--in-place")) == 0
    assert file.read_bytes() == "def area(r):\r\n    é = one two\r\n    return a\r\n".encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert {one.name for one in file.parent.iterdir()} == {"shapes.py", "link.py"}


def test_cursor_at_the_files_end_sends_no_suffix(playback: Playback, file: Path) -> None:
    assert main(words(playback, "fim", str(file), "--line", "4")) == 0
    assert "suffix" not in playback.requests[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "can't be read: No such file"), (b"\xff", "is no UTF-8 at byte 0: convert it")],
    ids=["missing", "no UTF-8"],
)
def test_fim_of_a_file_that_cant_be_read(
    playback: Playback,
    tmp_path: Path,
    content: bytes | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "x.py"
    if content:
        file.write_bytes(content)
    assert main(words(playback, "fim", str(file), "--line", "1")) == 1
    assert message in capsys.readouterr().err
    assert playback.requests == []


def test_key_comes_from_the_environment(
    playback: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOTRITON_API_KEY", "nt_env")
    assert main(words(playback, "complete", "hi")) == 0
    assert main(words(playback, "complete", "hi", "--api-key", "nt_word")) == 0
    assert main(["complete", "hi", "--protocol", "http", "--url", playback.urls["http"]]) == 0
    told = [{name.lower(): value for name, value in one.items()} for one in playback.headers]
    assert [one.get("authorization") for one in told] == ["Bearer nt_env", "Bearer nt_word", None]


@pytest.mark.parametrize(("more", "out"), [((), "gpt\n"), (("--json",), '["gpt"]\n')])
def test_models_are_listed(
    playback: Playback, more: tuple[str, ...], out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(playback, "models", *more)) == 0
    assert capsys.readouterr().out == out


def test_bench_sends_every_request_once_each_with_its_own_prompt(
    playback: Playback, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--requests", "7", "--concurrency", "3", "--json", "--prompt", "def f("]
    server = ["--protocol", protocol, "--url", playback.urls[protocol]]
    assert main(["bench", *options, *server]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["tokens"], told["errors"]) == (7, 14, {})
    assert set(told["total_ms"]) == {"p50", "p95", "p99"}
    prompts = {str(one.get("prompt") or one["text_input"]) for one in playback.requests}
    assert len(prompts) == 7
    assert all("def f(" in one for one in prompts)


def test_bench_tells_errors_and_fails(
    playback: Playback, capsys: pytest.CaptureFixture[str]
) -> None:
    playback.replies = [[Text("x"), End()], [Fail("UNAUTHENTICATED", "no such key")]]
    options = ["--requests", "3", "--concurrency", "1", "--same"]
    assert main(words(playback, "bench", *options)) == 1
    assert "2 failed: Unauthorized: no such key" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--requests", "--concurrency"])
def test_bench_of_nothing_is_refused(
    playback: Playback, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(playback, "bench", option, "0")) == 1
    assert f"{option} is 0: give 1 or more" in capsys.readouterr().err


def test_summary_counts_times_and_tokens() -> None:
    samples = [Sample(0.1, 0.3, 11), Sample(0.2, 0.2, 1)]
    told = summary_of(samples, Counter({"Timeout: late": 1}), 2.0)
    assert (told["requests"], told["requests_per_s"], told["tokens_per_s"]) == (3, 1.0, 6.0)
    assert told["first_text_ms"]["p50"] == pytest.approx(150)
    assert told["inter_token_ms"] == {"p50": 20.0, "p95": 20.0, "p99": 20.0}


def test_summary_of_nothing_but_errors_has_no_times() -> None:
    assert summary_of([], Counter({"Timeout: late": 2}), 1.0)["total_ms"] is None


def test_bash_completes_options(tmp_path: Path) -> None:
    script = tmp_path / "clients.bash"
    command = [sys.executable, "-m", "clients", "completion", "bash"]
    script.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    ask = 'source "$1"; COMP_WORDS=(clients fim --in-p) COMP_CWORD=2; _shtab_clients; '
    ask += 'echo "${COMPREPLY[@]}"; type -t clients'
    done = subprocess.run(
        ["bash", "-c", ask, "bash", str(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["--in-place", "function"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "python -m clients" in out
    assert "in-place" in out
