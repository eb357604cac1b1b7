"""What each server gave beside ours, to what people read: a table for each number of users, JSON.

Pure; knows nothing of processes.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.peers.closed_loop import Wait, Window
from benchmarks.peers.own_service import DIRECT, GATEWAY
from benchmarks.peers.served import Match
from benchmarks.ratios import Ratio, paired_ratio

OURS = (GATEWAY, DIRECT)
MAX_SHOWN = 100  # characters of an error


def rate_ratio(match: Match, num_users: int, way: str) -> Ratio | None:
    """Tokens a second by one of our doors over the peer's; None when one gave nothing."""
    windows = match.windows.get(num_users, {})
    rates = [[one.tokens_per_s for one in windows.get(name, ())] for name in (way, match.name)]
    return paired_ratio(*rates) if all(rates) and all(map(all, rates)) else None


def first_ratio(match: Match, num_users: int, way: str) -> Ratio | None:
    """The median wait for a first text by one of our doors over the peer's.

    None where more than half got none in a window: then the wait has no median.
    """
    windows = match.windows.get(num_users, {})
    firsts = [[one.first for one in windows.get(name, ())] for name in (way, match.name)]
    waits = [[one.seconds for one in row if one and not one.is_bound] for row in firsts]
    is_whole = all(waits) and all(map(_same_length, firsts, waits))
    return paired_ratio(*waits) if is_whole else None


def table_lines(matches: Sequence[Match], users: Sequence[int]) -> Iterator[str]:
    """A table a number of users; peers that could not be started stand below."""
    for num_users in users:
        title = f"{num_users} users, tokens/s"
        head = f"{'median':>8}{'least':>8}{'most':>8}{'first ms':>10}"
        yield f"{title:<28}{head}{'ours/it':>9}  interval, direct/it; first text ours/it"
        for way in OURS:
            windows = [one for match in matches for one in _windows(match, num_users, way)]
            if windows:
                yield f"  {way:<26}{_figures(windows)}"
        for match in matches:
            if windows := _windows(match, num_users, match.name):
                shown = _shown(match, num_users)
                yield f"  {match.name:<26}{_figures(windows)}{shown}"
        yield ""
    for match in matches:
        versions = ", ".join(f"{name} {one}" for name, one in match.versions.items())
        yield f"  {match.name:<26}{f'not measured: {match.error}' if match.error else versions}"
        for error, number in errors_of(match).items():
            yield f"    {number} times: {error[:MAX_SHOWN]}"


def errors_of(match: Match) -> dict[str, int]:
    """What was refused or failed, by whom, and how often."""
    found: dict[str, int] = {}
    for rows in match.windows.values():
        for name, windows in rows.items():
            for window in windows:
                for error, number in window.errors.items():
                    told = f"{name}: {error}"
                    found[told] = found.get(told, 0) + number
    return found


def describe_matches(matches: Sequence[Match]) -> dict[str, Any]:
    """All windows, ratios and errors, for JSON."""
    return {"ours": OURS, "peers": {match.name: _describe(match) for match in matches}}


def _windows(match: Match, num_users: int, name: str) -> list[Window]:
    return match.windows.get(num_users, {}).get(name, [])


def _figures(windows: Sequence[Window]) -> str:
    rates = [one.tokens_per_s for one in windows]
    firsts = sorted((one.first for one in windows if one.first), key=lambda one: one.seconds)
    first = f"{_wait_ms(firsts[len(firsts) // 2]):>10}" if firsts else f"{'-':>10}"
    return "".join(f"{one:>8.1f}" for one in (median(rates), min(rates), max(rates))) + first


def _wait_ms(wait: Wait) -> str:
    return f"{'>' if wait.is_bound else ''}{wait.seconds * 1e3:.0f}"


def _shown(match: Match, num_users: int) -> str:
    ratio = rate_ratio(match, num_users, GATEWAY)
    if ratio is None:
        return "  no figure: see below"
    told = f"{ratio.value:>9.2f}  {ratio.low:.2f} to {ratio.high:.2f}, {ratio.verdict}"
    if direct := rate_ratio(match, num_users, DIRECT):
        told += f", {direct.value:.2f}"
    first = first_ratio(match, num_users, GATEWAY)
    return f"{told}; {first.value:.2f} ({first.low:.2f} to {first.high:.2f})" if first else told


def _describe(match: Match) -> dict[str, Any]:
    return {
        "versions": match.versions,
        "error": match.error or None,
        "errors": errors_of(match),
        "users": {
            str(num_users): {
                "windows": {
                    name: [_describe_window(one) for one in windows]
                    for name, windows in rows.items()
                },
                "ours_over_it": {
                    way: {
                        "tokens_per_s": _describe_ratio(rate_ratio(match, num_users, way)),
                        "first_text": _describe_ratio(first_ratio(match, num_users, way)),
                    }
                    for way in OURS
                },
            }
            for num_users, rows in match.windows.items()
        },
    }


def _describe_window(window: Window) -> dict[str, Any]:
    first = window.first
    return {
        "tokens_per_s": window.tokens_per_s,
        "whole": window.num_whole,
        "first_s": first and first.seconds,
        "first_is_bound": first and first.is_bound,
        "errors": sum(window.errors.values()),
    }


def _describe_ratio(ratio: Ratio | None) -> dict[str, Any] | None:
    if ratio is None:
        return None
    return {"value": ratio.value, "low": ratio.low, "high": ratio.high, "verdict": ratio.verdict}


def _same_length(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other)
