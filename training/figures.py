"""What ``evaluate`` measured in; a JSON object or tables for people out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.likelihood import Likelihood
from training.shares import ParseShare, Share


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured; ``infill`` is None for a model that was not trained to fill in."""

    settings: Mapping[str, object]
    likelihood: Mapping[str, Likelihood]  # by model
    zlib_bits_per_byte: float
    parsing: Mapping[str, ParseShare]  # by who completed
    infill: Share | None

    def as_dict(self) -> dict[str, object]:
        """For JSON, figures that follow from others included."""
        likelihood = {
            name: asdict(found)
            | {
                "bits_per_byte": found.bits_per_byte,
                "perplexity": found.perplexity,
                "accuracy": found.accuracy,
            }
            for name, found in self.likelihood.items()
        }
        return {
            "settings": dict(self.settings),
            "likelihood": likelihood | {"zlib": {"bits_per_byte": self.zlib_bits_per_byte}},
            "parsing": {name: found.as_dict() for name, found in self.parsing.items()},
            "infill": self.infill.as_dict() if self.infill else None,
        }


def show(report: Mapping[str, Any]) -> str:
    """What ``as_dict`` gave, as tables."""
    settings = report["settings"]
    name = f"{settings['checkpoint']}, sha256 {settings['checkpoint_sha256'][:16]}"
    return f"{name}\n\n{show_figures(report)}"


def show_figures(report: Mapping[str, Any]) -> str:
    """The tables alone, which name no file."""
    header = f"{'functions completed':<20}{'parse':>8}{'95 %':>9}{'unfinished':>12}"
    return "\n".join(
        (
            f"{'held-out text':<20}{'bits/byte':>10}{'perplexity':>12}{'top-1':>8}",
            *(_show_likelihood(name, found) for name, found in report["likelihood"].items()),
            "",
            f"{header}{'ended':>8}{'lines':>7}",
            *(_show_parsing(name, found) for name, found in report["parsing"].items()),
            "",
            f"single lines filled in exactly: {_show_infill(report['infill'])}",
        )
    )


def _show_likelihood(name: str, found: Mapping[str, Any]) -> str:
    line = f"{name:<20}{found['bits_per_byte']:>10.3f}"
    if "perplexity" not in found:  # a compressor's
        return line
    return f"{line}{found['perplexity']:>12.2f}{found['accuracy']:>8.1%}"


def _show_parsing(name: str, found: Mapping[str, Any]) -> str:
    parses, unfinished, ended = found["parses"], found["unfinished"], found["ended"]
    of_unfinished = f"{unfinished['num_right']}/{unfinished['count']}"
    return (
        f"{name:<20}{parses['share']:>8.0%}{_show_interval(parses):>9}{of_unfinished:>12}"
        f"{ended['share']:>8.0%}{found['mean_lines']:>7.1f}"
    )


def _show_infill(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not trained"
    return f"{found['num_right']}/{found['count']} (95 %: {_show_interval(found)} %)"


def _show_interval(share: Mapping[str, Any]) -> str:
    low, high = share["interval_95"]
    return f"{100 * low:.0f}-{100 * high:.0f}"
