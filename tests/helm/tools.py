"""What `make chart-test` installs beside the test suite: Helm 3, schemas of operators, checkov."""

import os
import subprocess
from pathlib import Path

from tests.helm.charts import ROOT

FOLDER = Path(os.environ.get("CHART_TOOLS", ROOT / "build" / "chart"))
HELM3 = FOLDER / "node_modules" / ".bin" / "helm"
CHECKOV = FOLDER / "checkov" / "bin" / "checkov"


def run(
    *words: str | Path, text: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A program's run; fails with a plain sentence when it isn't installed."""
    program = Path(words[0])
    assert not program.is_absolute() or program.exists(), f"{program} is missing: make chart-test"
    return subprocess.run(
        [str(word) for word in words],
        input=text,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
