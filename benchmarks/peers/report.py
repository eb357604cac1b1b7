"""What each peer did, to what people read: a table for each workload, and one JSON object.

Pure; knows nothing of processes.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.common.ratios import Ratio, paired_ratio
from benchmarks.peers.catalogue import REFERENCE
from benchmarks.peers.rounds import Track, Workload

FP32 = "tutorial-fp32"  # whose first tokens the others are held against


def ratio_of(track: Track, ours: Track | None, load: Workload) -> Ratio | None:
    """Our rate over a peer's, over the rounds that both were in; None when there are none."""
    if ours is None or ours is track:
        return None
    pairs = list(zip(ours.rates[load.name], track.rates[load.name], strict=False))
    return paired_ratio(*zip(*pairs, strict=True)) if pairs else None


def agreement(track: Track, others: Sequence[Track]) -> float | None:
    """Share of prompts after which it says the same first token as PyTorch in float32.

    It tells that all run the same weights; low precision changes near-ties, of which random weights
    have many. None when PyTorch's tokens are not there.
    """
    plain = next((one.first_tokens for one in others if one.peer.name == FP32), {})
    pairs = [
        pair
        for name, tokens in track.first_tokens.items()
        for pair in zip(tokens, plain.get(name, ()), strict=False)
    ]
    return sum(one == other for one, other in pairs) / len(pairs) if pairs else None


def table_lines(
    tracks: Sequence[Track], workloads: Sequence[Workload], errors: Mapping[str, str]
) -> Iterator[str]:
    """A table a workload; `errors` are the peers that could not even be opened."""
    ours = next((one for one in tracks if one.peer.name == REFERENCE), None)
    for load in workloads:
        title = f"{load.name}, tokens/s"
        yield f"{title:<34}{'median':>8}{'least':>8}{'most':>8}{'ours/it':>9}  interval"
        for track in tracks:
            if load.num_prompts > track.peer.max_prompts:
                yield f"  {track.peer.name:<32}{'not asked':>10}"
            elif rates := track.rates[load.name]:
                figures = "".join(f"{one:>8.0f}" for one in (median(rates), min(rates), max(rates)))
                yield f"  {track.peer.name:<32}{figures}{_shown(ratio_of(track, ours, load))}"
        yield ""
    yield f"{'':<34}{'MiB':>8}{'as fp32':>10}  versions"
    for track in tracks:
        same = agreement(track, tracks)
        shown = "-" if same is None else f"{same:.0%}"
        versions = ", ".join(f"{name} {one}" for name, one in track.versions.items())
        yield f"  {track.peer.name:<32}{track.resident_mib:>8}{shown:>10}  {versions}"
    failed = {one.peer.name: one.error for one in tracks if one.error}
    for name, error in {**errors, **failed}.items():
        yield f"  {name:<32}not measured: {error}"


def _shown(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.value:>9.2f}  {ratio.low:.2f} to {ratio.high:.2f}, {ratio.verdict}"


def describe_tracks(
    tracks: Sequence[Track], workloads: Sequence[Workload], errors: Mapping[str, str]
) -> dict[str, Any]:
    """All rounds, ratios and errors, for JSON."""
    ours = next((one for one in tracks if one.peer.name == REFERENCE), None)
    return {
        "reference": REFERENCE,
        "peers": {one.peer.name: _describe(one, ours, tracks, workloads) for one in tracks}
        | {name: {"error": error} for name, error in errors.items()},
    }


def _describe(
    track: Track, ours: Track | None, tracks: Sequence[Track], workloads: Sequence[Workload]
) -> dict[str, Any]:
    ratios = {load.name: ratio_of(track, ours, load) for load in workloads}
    return {
        "versions": track.versions,
        "resident_mib": track.resident_mib,
        "as_fp32": agreement(track, tracks),
        "tokens_per_s": track.rates,
        "ours_over_it": {
            name: {"value": one.value, "low": one.low, "high": one.high, "verdict": one.verdict}
            for name, one in ratios.items()
            if one
        },
        "error": track.error or None,
    }
