"""Prints what parts of the project need, a requirement a line: `needs.py core tracing`.

Comes in: the names of pyproject.toml's extras, or `core`. So that images install the dependencies
in a layer of their own, which a change of our sources leaves as it is.
"""

import sys
from pathlib import Path

import tomllib

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
parts = {"core": project["dependencies"], **project["optional-dependencies"]}
print(*(line for name in sys.argv[1:] for line in parts[name]), sep="\n")
