"""A server's URI or a local folder in; a client of the model registry there (MLflow), or one line.

MLflow is optional and takes 1.5 s to import, so only functions import it. Knows nothing of runs.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import ConfigError, RegistryError, TrainingError

DEFAULT_NAME = "nanotriton"
DEFAULT_STORE = "registry"
# Left alone, MLflow tries for four minutes, reports its use to its makers and prints to stdout.
CALM = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
NO_CONNECTION = "failed with exception"  # how MLflow words it; anything else is an answer
MAX_REASON = 200  # characters of somebody else's message
UNREACHABLE_MEND = "start it, or check the URI"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a run is logged, the name its checkpoint is registered under, and its tokenizer.

    ``place`` is the URI of a server or database, or a local folder, which is made absolute. Raises
    ConfigError.
    """

    place: str
    name: str
    data_dir: Path

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.name):
            raise ConfigError(
                f"the model's name is {self.name!r}, it is made of letters, digits and . _ + -: "
                "rename it"
            )
        if re.search(r"://[^/]*@", self.place):
            raise ConfigError(
                "the registry's URI holds a user or a password, and URIs are written down: set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )
        if self.is_folder:
            object.__setattr__(self, "place", str(Path(self.place).resolve()))

    @property
    def is_folder(self) -> bool:
        return "://" not in self.place

    @property
    def uri(self) -> str:
        """MLflow's. A folder holds SQLite: MLflow 3 refuses plain files, which it gave up."""
        return f"sqlite:///{self.place}/mlflow.db" if self.is_folder else self.place.rstrip("/")

    @property
    def artifacts(self) -> str | None:
        """Where new files go; None leaves that to the server."""
        return (Path(self.place) / "artifacts").as_uri() if self.is_folder else None


def connect(target: Target) -> Any:
    """A client that has been answered once; raises RegistryError within seconds when it is not."""
    for name, value in CALM.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415
    except ImportError:
        raise RegistryError(
            "the model registry needs MLflow, which is not installed: pip install '.[registry]'"
        ) from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table it makes
    with explained(target.place):
        if target.is_folder:
            Path(target.place).mkdir(parents=True, exist_ok=True)
        client = MlflowClient(target.uri, target.uri)
        client.search_registered_models(max_results=1)
    return client


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn whatever the registry's client raises into a RegistryError of one line.

    It raises what its database, its HTTP client and its disk raise, too many kinds to name, and a
    training run must survive them all.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's, about its own dependencies
            yield
    except TrainingError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if NO_CONNECTION in text:
            line = f"the registry {place} cannot be reached: {UNREACHABLE_MEND}"
        else:
            reason = text[:MAX_REASON] or type(error).__name__
            line = f"the registry {place} refuses ({reason}): mend that or name another"
        raise RegistryError(line) from error


def error_code(error: Exception) -> str:
    """MLflow's code of an error, such as RESOURCE_DOES_NOT_EXIST; "" when it has none."""
    return str(getattr(error, "error_code", ""))
