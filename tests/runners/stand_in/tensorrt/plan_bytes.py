"""The stand-in's plan: a header as real plans have it, profiles as JSON, the ONNX model."""

import json
from dataclasses import dataclass

from tensorrt.values import SM, __version__

MAGIC, VERSION_AT, HEADER = b"ftrt", 0x18, 0x20
Shapes = dict[str, list[list[int]]]  # least, best and largest shape of each input


@dataclass(frozen=True)
class PlanBytes:
    """What a plan says of itself; `model` is a whole ONNX file."""

    profiles: list[Shapes]
    model: bytes
    magic: bytes = MAGIC
    version: str = __version__
    sm: int = SM

    def pack(self):
        head = bytearray(HEADER)
        head[: len(self.magic)] = self.magic
        head[VERSION_AT : VERSION_AT + 4] = bytes(map(int, self.version.split(".")))
        about = {"profiles": self.profiles, "sm": self.sm, "model_bytes": len(self.model)}
        words = json.dumps(about).encode()
        return bytes(head) + len(words).to_bytes(8, "little") + words + self.model


def unpack(plan):
    """Read a plan again; raises ValueError for one that is cut short."""
    size = int.from_bytes(plan[HEADER : HEADER + 8], "little")
    about = json.loads(plan[HEADER + 8 : HEADER + 8 + size])
    model = plan[HEADER + 8 + size :]
    if len(model) != about["model_bytes"]:
        raise ValueError("the plan is cut short")
    version = ".".join(map(str, plan[VERSION_AT : VERSION_AT + 4]))
    return PlanBytes(about["profiles"], model, plan[:4], version, about["sm"])
