"""Triton's metrics page as the tests read it."""

import re
import time
import urllib.request

from running import RunningServer

SAMPLE = re.compile(r"^(nanotriton_\w+)\{(.*)\} (\S+)$", re.MULTILINE)


def page(server: RunningServer) -> dict[str, float]:
    """Our samples, by name and labels as they stand on the page."""
    url = f"http://localhost:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    return {f"{name}{{{labels}}}": float(value) for name, labels, value in SAMPLE.findall(text)}


def settled_page(server: RunningServer) -> dict[str, float]:
    """The page once it stood still for longer than its period."""
    for _ in range(10):
        before = page(server)
        time.sleep(1.5)
        if before and page(server) == before:
            return before
    raise AssertionError("the page moves on although nothing is asked for")
