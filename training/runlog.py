"""Records of a run in; ``log.jsonl``, one JSON object a line, out, and read back.

Knows nothing of what the records mean, but that each has its ``step``.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class RunLog:
    """The log of one run; every record goes to stderr too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record)
        print(line, file=sys.stderr, flush=True)
        with self.path.open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All whole records; a kill may have cut the last line short."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def rewind(self, step: int) -> None:
        """Drop what a killed run wrote after ``step``: the resumed one will write it again.

        At step 0 another run begins, so that nothing is kept.
        """
        records = self.records() if step else []
        kept = [json.dumps(record) + "\n" for record in records if record["step"] <= step]
        unfinished = self.path.with_name(self.path.name + ".tmp")
        unfinished.write_text("".join(kept), encoding="utf-8")
        os.replace(unfinished, self.path)
