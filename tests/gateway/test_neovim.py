"""docs/nanotriton.lua in a real Neovim against a real gateway."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, RunningServer, wait_until

from tests.gateway.gateways import RunningGateway

SNIPPET = ROOT / "docs" / "nanotriton.lua"
TYPED = "def add(a, b):\n    return"
BELOW = "print(add(1, 2))"


@dataclass
class Neovim:
    """One without a screen, driven by keys."""

    program: str
    socket: Path

    def type(self, keys: str) -> None:
        """Type; special keys are <Esc> and the like."""
        self._ask("--remote-send", keys)

    def evaluate(self, lua: str) -> Any:
        """The value of a Lua expression."""
        return json.loads(self._ask("--remote-expr", f"json_encode(luaeval({json.dumps(lua)}))"))

    def text(self) -> str:
        """What the buffer holds."""
        return "\n".join(self.evaluate("vim.api.nvim_buf_get_lines(0, 0, -1, true)"))

    def ghost(self) -> str:
        """What is shown and not in the buffer."""
        marks = self.evaluate(
            "vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_create_namespace('nanotriton'), "
            "0, -1, {details = true})"
        )
        if not marks:
            return ""
        details = marks[0][3]
        lines = [details["virt_text"], *details.get("virt_lines", [])]
        return "\n".join(line[0][0] for line in lines)

    def _ask(self, *words: str) -> str:
        command = [self.program, "--server", str(self.socket), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout or done.stderr  # where to depends on the version


@pytest.fixture
def neovim(
    gateway: RunningGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Neovim]:
    program = shutil.which("nvim")
    assert program, "this test needs Neovim: apt-get install neovim"
    monkeypatch.setenv("NANOTRITON_URL", gateway.url)
    socket = tmp_path / "nvim"
    command = [
        program,
        "--headless",
        "--clean",
        "--listen",
        str(socket),
        "-c",
        f"luafile {SNIPPET}",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(socket.exists, 20)
        yield Neovim(program, socket)
        process.terminate()


def type_code(neovim: Neovim) -> None:
    """A function's head above a line that calls it; the cursor stands after `return`."""
    neovim.type(f"i<CR>{BELOW}<Esc>gg0")
    neovim.type("i" + TYPED.replace("\n", "<CR>"))


def test_tab_accepts_the_ghost_text(neovim: Neovim, server: RunningServer) -> None:
    type_code(neovim)
    wait_until(lambda: neovim.ghost() != "", 20)
    ghost = neovim.ghost()
    assert neovim.text() == f"{TYPED}\n{BELOW}"
    with server.client() as client:
        settings: Any = {"max_tokens": 64, "temperature": 0.0, "stop_at": "block"}
        expected = client.complete(TYPED, suffix=f"\n{BELOW}", **settings).text.rstrip()
    assert ghost == expected
    neovim.type("<Tab>")
    wait_until(lambda: neovim.text() == f"{TYPED}{ghost}\n{BELOW}", 20)


def test_escape_dismisses_and_tab_is_a_tab_again(neovim: Neovim) -> None:
    type_code(neovim)
    wait_until(lambda: neovim.ghost() != "", 20)
    neovim.type("<Esc>")
    wait_until(lambda: neovim.ghost() == "", 20)
    assert neovim.text() == f"{TYPED}\n{BELOW}"
    neovim.type("A<Tab>")
    wait_until(lambda: neovim.text() == f"{TYPED}\t\n{BELOW}", 20)


def test_typing_on_replaces_the_ghost_text(neovim: Neovim) -> None:
    type_code(neovim)
    wait_until(lambda: neovim.ghost() != "", 20)
    neovim.type(" a ")
    wait_until(lambda: neovim.text() == f"{TYPED} a \n{BELOW}", 20)
    wait_until(lambda: neovim.ghost() != "", 20)


def test_gateway_that_is_gone_leaves_the_editor_alone(
    neovim: Neovim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    neovim.type(":lua vim.env.NANOTRITON_URL = 'http://127.0.0.1:1'<CR>")
    neovim.type(f":luafile {SNIPPET}<CR>")
    type_code(neovim)
    wait_until(lambda: neovim.text() == f"{TYPED}\n{BELOW}", 20)
    assert neovim.evaluate("vim.v.errmsg") == ""
