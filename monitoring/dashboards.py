"""Dashboards as Grafana 11 reads them: what panels.py shows in, JSON out.

Knows nothing of Prometheus; the data source is a variable of the dashboard.
"""

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from monitoring.panels import BOARDS, Board, Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
COLUMNS = 24  # of Grafana's grid


def write_dashboards(folder: Path) -> None:
    """Write every dashboard to `folder`, one file each."""
    for board in BOARDS:
        (folder / f"{board.name}.json").write_text(dashboard_json(board), encoding="utf-8")


def dashboard_json(board: Board) -> str:
    """One dashboard's file."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"nanotriton-{board.name}")
        .tags(["nanotriton"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Source").type("prometheus")
        )
    )
    for panel in board.panels:
        built.with_panel(_number(panel) if panel.is_number else _lines(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _lines(panel: Panel) -> timeseries.Panel:
    shown = timeseries.Panel().title(panel.title).unit(panel.unit).datasource(SOURCE)
    shown.span(COLUMNS // 3).height(8).min(0).fill_opacity(8)
    for target in _targets(panel):
        shown.with_target(target)
    return shown


def _number(panel: Panel) -> stat.Panel:
    shown = stat.Panel().title(panel.title).unit(panel.unit).datasource(SOURCE)
    shown.span(COLUMNS // 3).height(4)
    for target in _targets(panel):
        shown.with_target(target)
    return shown


def _targets(panel: Panel) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + number))
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
