"""The library of our own operator: where it lies, and what this processor makes of it.

Comes in: nothing. Goes out: its path, and the name of the instructions that it takes. It is built
when nanotriton is installed (`nanotriton/native`, C++); where no compiler was, there is none, and
ONNX Runtime's own attention answers (`export/slot_attention.py`). Knows nothing of graphs.
"""

import ctypes
import functools
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

BUILD = "install nanotriton again where there is a C++ compiler (GCC 12 or newer)"
FOLDER = Path(__file__).parent.parent / "native"
NAME = "attention"


@functools.cache
def find_library(folder: Path = FOLDER) -> Path | None:
    """The library in `folder` that fits this Python and loads here; None when there is none."""
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"{NAME}{suffix}"
        if path.is_file() and _loads(path):
            return path
    return None


def describe_attention() -> str:
    """Which attention there is on this machine, and the mend of none."""
    if find_library() is None:
        return f"ONNX Runtime's: there is no native library, {BUILD}"
    return f"native, with {instruction_set()} instructions"


def instruction_set() -> str:
    """What the library takes on this processor: "AVX-512", "AVX2" or "plain"."""
    path = find_library()
    assert path is not None
    name = ctypes.CDLL(str(path)).instruction_set_name
    name.restype = ctypes.c_char_p
    return str(name().decode())


def _loads(path: Path) -> bool:
    """False for one that was built for another machine, or whose C++ runtime is missing."""
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True
