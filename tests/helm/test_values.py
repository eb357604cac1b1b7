"""The chart's README has every value as values.yaml has it, and its version is the project's."""

import subprocess
import sys
from typing import Any

import yaml

import nanotriton
from tests.helm.charts import CHART, ROOT, SCENARIOS


def test_table_of_values_is_the_one_of_values_yaml() -> None:
    done = subprocess.run([sys.executable, ROOT / "helm" / "reference.py", "--check"], check=False)

    assert done.returncode == 0, "run `python helm/reference.py`"


def test_every_value_is_in_the_table() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    missing = [path for path in leaves(values) if not is_told(path, readme)]

    assert not missing


def leaves(values: dict[str, Any], above: str = "") -> list[str]:
    """The path of every value that is no map, or an empty one."""
    found = []
    for key, value in values.items():
        path = f"{above}{key}"
        found += leaves(value, f"{path}.") if isinstance(value, dict) and value else [path]
    return found


def is_told(path: str, readme: str) -> bool:
    """In a line of its own, or in that of the map that it is part of."""
    words = path.split(".")
    return any(f"| `{'.'.join(words[: end + 1])}` |" in readme for end in range(len(words)))


def test_readme_names_every_scenario() -> None:
    readme = (CHART / "README.md").read_text()

    assert not [one for one in SCENARIOS if f"`{one}`" not in readme]


def test_images_of_the_chart_are_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == nanotriton.__version__
