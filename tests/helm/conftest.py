"""Every scenario of the chart on every version of Kubernetes that it is for."""

import pytest

from tests.helm.charts import EACH, Manifest, rendered


@pytest.fixture(params=EACH, ids="-".join)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    """One scenario on one version."""
    return rendered(*request.param)
