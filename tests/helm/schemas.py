"""Kubernetes' own schemas, strict: an unknown or misspelled field is an error.

From the package kubernetes-validate, which reads them anew for each object; kept here instead.
"""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(str(files("kubernetes_validate"))) / "kubernetes-json-schema"


def faults_of(manifest: dict[str, Any], version: str) -> list[str]:
    """What a version's schema has against an object; FileNotFoundError for an unknown kind."""
    group, _, kind_version = manifest["apiVersion"].rpartition("/")
    api = f"{group.split('.')[0]}-{kind_version}" if group else kind_version
    validator = _validator(f"{manifest['kind'].lower()}-{api}.json", version.lstrip("v")[:4])
    return [f"{one.json_path}: {one.message:.200}" for one in validator.iter_errors(manifest)]


@cache
def _validator(name: str, version: str) -> Draft202012Validator:
    [folder] = FOLDER.glob(f"v{version}*-local-strict")
    schema = json.loads((folder / name).read_text())
    return Draft202012Validator(
        schema, registry=Resource.from_contents(schema) @ _definitions(folder)
    )


@cache
def _definitions(folder: Path) -> "Registry[Any]":
    definitions = json.loads((folder / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()
