"""Asks the gateways of this release, with a token made on the spot of the release's own secret.

    caller.py routes URL FILE         put the routes in FILE in force, unless they are
    caller.py completion URL PROMPT   a streamed completion, its text on stdout

Comes in: where the gateways are, JWT_SECRET_FILE and JWT_AUDIENCE. Goes out: 0, or 1 with one line.
What isn't there yet is waited for, MAX_WAIT_S at the most. Needs the gateway's package to sign.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

MAX_WAIT_S = float(os.environ.get("MAX_WAIT_S", "240"))
PAUSE_S = 2.0
TIMEOUT_S = 60.0


def main() -> int:
    """Run one command until it succeeds or the time is over."""
    command, url, words = sys.argv[1], sys.argv[2], sys.argv[3]
    act = {"routes": put_routes, "completion": complete}[command]
    deadline = time.monotonic() + MAX_WAIT_S
    while True:
        try:
            print(act(url, words))
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.read(2000).decode(errors='replace')}"
            # 409: somebody else changed the routes; 429, 503: not now. Others don't change.
            is_passing = error.code in (409, 429, 503)
        except OSError as error:
            reason, is_passing = str(error), True
        else:
            return 0
        if not is_passing or time.monotonic() > deadline:
            print(f"{command} at {url}: {reason}", file=sys.stderr)
            return 1
        time.sleep(PAUSE_S)


def put_routes(url: str, file: str) -> str:
    """Put a file's backends in force; what was done."""
    wanted = json.loads(Path(file).read_text(encoding="utf-8"))["backends"]
    routes = json.loads(ask(f"{url}/admin/routes", "admin"))
    # Written out by the gateway with every default, so only what is wanted is compared.
    seen = [{key: one[key] for key in wanted[0]} for one in routes["backends"]]
    if seen == wanted:
        return f"routes version {routes['version']} are in force already"
    asked = {**routes, "backends": wanted}
    version = json.loads(ask(f"{url}/admin/routes", "admin", "PUT", asked))["version"]
    return f"routes version {version} are in force"


def complete(url: str, prompt: str) -> str:
    """The text of one streamed completion; OSError when there is none."""
    body = {"prompt": prompt, "max_tokens": 16, "temperature": 0, "stream": True}
    answer = ask(f"{url}/v1/completions", "user", "POST", body).decode()
    events = [line[6:] for line in answer.splitlines() if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        raise OSError(f"the stream ended early: {answer[-500:]!r}")
    choices = [json.loads(one)["choices"] for one in events[:-1]]
    return "".join(one[0]["text"] for one in choices if one)


def ask(url: str, role: str, method: str = "GET", body: object = None) -> bytes:
    """One request as somebody of a role."""
    secret = ["--secret-file", os.environ["JWT_SECRET_FILE"]]
    whose = ["--subject", "release", "--role", role, "--ttl", "5m"]
    audience = ["--audience", os.environ["JWT_AUDIENCE"]]
    words = [sys.executable, "-m", "gateway", "token", *whose, *audience, *secret]
    token = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        content: bytes = response.read()
    return content


if __name__ == "__main__":
    sys.exit(main())
