"""The native operator (nanotriton/native), which pyproject.toml can't describe yet.

Optional: where no C++ compiler is, the rest is installed and ONNX Runtime's own attention answers.
"""

from setuptools import Extension, setup

FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-Wno-psabi",
    "-Wno-maybe-uninitialized",
]
FOLDER = "nanotriton/native"

setup(
    ext_modules=[
        Extension(
            "nanotriton.native.attention",
            [f"{FOLDER}/attention.cpp"],
            depends=[
                f"{FOLDER}/{name}" for name in ("kernel.h", "ort_abi.h", "vectors.h", "work.h")
            ],
            extra_compile_args=FLAGS,
            language="c++",
            optional=True,
        )
    ]
)
