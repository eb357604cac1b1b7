"""Dashboards' files: those that panels.py makes, whole for Grafana, and a picture of each."""

import json

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from running import ROOT

from monitoring.dashboards import dashboard_json
from monitoring.panels import BOARDS, Board
from tests.monitoring.tools import DASHBOARDS

EACH = pytest.mark.parametrize("board", BOARDS, ids=[board.name for board in BOARDS])


def test_every_dashboard_has_its_file_and_picture() -> None:
    names = sorted(board.name for board in BOARDS)
    assert [path.stem for path in DASHBOARDS] == names
    assert sorted(path.stem for path in (ROOT / "docs" / "dashboards").glob("*.png")) == names


@EACH
def test_file_is_what_the_panels_make(board: Board) -> None:
    [path] = [one for one in DASHBOARDS if one.stem == board.name]
    assert path.read_text() == dashboard_json(board), "run: python -m monitoring dashboards"


@EACH
def test_grafanas_own_types_read_the_file_and_lose_nothing(board: Board) -> None:
    told = json.loads(dashboard_json(board))
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(told))) == told


@EACH
def test_panels_fill_the_grid_without_overlap(board: Board) -> None:
    places = [panel["gridPos"] for panel in json.loads(dashboard_json(board))["panels"]]
    cells = [
        (x, y)
        for one in places
        for x in range(one["x"], one["x"] + one["w"])
        for y in range(one["y"], one["y"] + one["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
