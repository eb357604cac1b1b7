"""Pictures are written in both forms, the same for the same figures."""

from pathlib import Path

import pytest

from benchmarks.common.plots import Bars, Line, Panel, write_picture

LINES = Panel("served", "users", "ms", (Line("a", (1, 8), (3.0, 4.0), (2.0, 3.0), (4.0, 5.0)),), 9)
LOG = Panel("far", "users", "ms", (Line("a", (1, 9), (1, 9)), Line("b", (1, 9), (2, 9))), 9, True)
BARS = Bars("stages", "ms", {"1 user": {"queue": 1.0, "decode": 3.0}, "32 users": {"decode": 9.0}})


@pytest.mark.parametrize("panels", [[LINES], [BARS], [LOG, BARS]], ids=["lines", "bars", "both"])
def test_picture_is_png_and_svg_and_the_same_again(
    panels: list[Panel | Bars], tmp_path: Path
) -> None:
    png, svg = write_picture(panels, tmp_path / "new", "served")
    first = svg.read_bytes()
    write_picture(panels, tmp_path / "new", "served")

    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in first
    assert svg.read_bytes() == first
