"""`mlflow:models/NAME/VERSION` in, the files of that version in a temporary folder out.

VERSION is a number, `latest` or an alias. A version's files are one folder with ckpt.pt and the
tokenizer beside it, and its tag `sha256` is that of ckpt.pt, as `python -m training register` makes
it. MLflow is optional and imported only here. Knows nothing of what a checkpoint holds.
"""

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanotriton.errors import ArtifactError, CheckpointError
from nanotriton.manifest import sha256_file

SCHEME = "mlflow:"
FORM = "mlflow:models/NAME/VERSION"
REFERENCE = re.compile(r"mlflow:models/([\w.+-]+)/([\w.+-]+)")
CHECKPOINT = "ckpt.pt"
LATEST = "latest"
DEFAULT_STORE = "registry"
DATABASE = "mlflow.db"
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
MAX_NAMES = 5


def is_reference(checkpoint: Path) -> bool:
    """Whether a CHECKPOINT is meant to be in a registry."""
    return str(checkpoint).startswith(SCHEME)


@contextmanager
def fetched(reference: str, place: str) -> Iterator[Path]:
    """ckpt.pt of a version, its tokenizer beside it, until the block ends.

    `place` is the URI of an MLflow server or database, or a folder of `training --registry`. Raises
    CheckpointError for a reference that is malformed or leads to no checkpoint, ArtifactError when
    the registry can't be used.
    """
    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        raise CheckpointError(
            f"{reference} is no reference to a registered model: write it as {FORM}, with a "
            f"number, {LATEST!r} or an alias for VERSION"
        )
    client = _connect(place)
    with tempfile.TemporaryDirectory(prefix="nanotriton-registry-") as temporary:
        with _explained(place):
            version = _find_version(client, *parts.groups())
            folder = _download(client, version, Path(temporary))
        yield _check(folder, version)


def _connect(place: str) -> Any:
    if re.search(r"://[^/]*@", place):
        raise ArtifactError(
            "the registry's URI holds a user or a password, and URIs are written down: set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    uri = place.rstrip("/")
    if "://" not in place:
        database = Path(place).resolve() / DATABASE
        if not database.is_file():
            raise ArtifactError(
                f"the registry {place} has no {DATABASE}: name a server's URI or the folder of "
                "`training --registry` with --registry"
            )
        uri = f"sqlite:///{database}"
    for name, value in CALM.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415
    except ImportError:
        raise ArtifactError(
            "a registered model needs MLflow, which is not installed: pip install '.[registry]'"
        ) from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with _explained(place):
        return MlflowClient(uri, uri)


def _find_version(client: Any, name: str, wanted: str) -> Any:
    """The version's entry; the registry answers by its number, by its aliases or with all."""
    if not client.search_registered_models(f"name = '{name}'"):
        known = [model.name for model in client.search_registered_models(max_results=MAX_NAMES)]
        raise CheckpointError(
            f"the registry has no model {name!r}, it has {', '.join(known) or 'none'}: check the "
            "name, or register one with `python -m training register`"
        )
    versions = {int(one.version): one for one in client.search_model_versions(f"name = '{name}'")}
    if not versions:
        raise CheckpointError(f"{name} has no version: register one first")
    newest = max(versions)
    if wanted == LATEST:
        return versions[newest]
    if wanted.isdecimal() and int(wanted) in versions:
        return versions[int(wanted)]
    aliases = client.get_registered_model(name).aliases
    if wanted in aliases:
        return versions[int(aliases[wanted])]
    kind = "version" if wanted.isdecimal() else "alias"
    raise CheckpointError(
        f"{name} has no {kind} {wanted!r}, its newest version is {newest} and its aliases are "
        f"{', '.join(aliases) or 'none'}: take one of these"
    )


def _download(client: Any, version: Any, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415

    source = client.get_model_version_download_uri(version.name, version.version)
    uri = client.tracking_uri
    return Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=uri))


def _check(folder: Path, version: Any) -> Path:
    path = folder / CHECKPOINT
    if not path.is_file():
        found = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        raise CheckpointError(
            f"version {version.version} of {version.name} has no {CHECKPOINT}, it has "
            f"{', '.join(found[:MAX_NAMES]) or 'nothing'}: take a version that "
            "`python -m training` registered"
        )
    expected = version.tags.get("sha256")
    actual = sha256_file(path)
    if expected not in (None, actual):
        raise CheckpointError(
            f"{CHECKPOINT} of version {version.version} of {version.name} has SHA-256 "
            f"{actual[:12]}, it was registered with {expected[:12]}: register it again"
        )
    return path


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn what MLflow, its database, its HTTP client and the disk raise into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's, about its own dependencies
            yield
    except ArtifactError:
        raise
    except Exception as error:  # of MLflow, its database, its HTTP client or the disk
        text = " ".join(str(error).split())
        if NO_CONNECTION in text:
            line = f"the registry {place} cannot be reached: start it, or check the URI"
        else:
            reason = text[:MAX_REASON] or type(error).__name__
            line = f"the registry {place} refuses ({reason}): mend that or name another"
        raise ArtifactError(line) from error
