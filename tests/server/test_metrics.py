"""The engine's own counts stand on Triton's metrics page."""

from metrics_page import settled_page
from running import RunningServer


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
