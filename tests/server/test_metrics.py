"""The engine's own counts stand on Triton's metrics page."""

import re
import time
import urllib.request

from tests.running import RunningServer

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


def test_metrics_page_counts_what_was_served(server: RunningServer) -> None:
    stopped = 'nanotriton_requests_total{outcome="length",version="1"}'
    tokens = 'nanotriton_tokens_total{kind="completion",version="1"}'
    first = 'nanotriton_time_to_first_token_seconds_bucket{le="+Inf",version="1"}'
    prefills = 'nanotriton_step_seconds_count{kind="prefill",version="1"}'
    with server.client() as client:
        client.complete("def f(", max_tokens=1)
        before = settled_page(server)
        for name in ("alpha", "beta", "gamma"):  # prompts that the prefix cache does not hold
            client.complete(f"class {name.title()}:\n    {name} = ", max_tokens=4, ignore_eos=True)
    after = settled_page(server)

    # at least: the watchdog asks for completions of its own
    assert after[stopped] >= before[stopped] + 3
    assert after[tokens] >= before[tokens] + 12
    assert after[first] >= before[first] + 3
    assert after[prefills] >= before[prefills] + 3
    assert after['nanotriton_kv_slots{version="1"}'] == 32
    assert after['nanotriton_requests_running{version="1"}'] == 0
