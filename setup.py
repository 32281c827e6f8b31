"""The wheel's extension modules; all else stands in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]

pyloop = Extension(
    "databridge._pyloop",
    sources=sorted(glob("src/pyloop/*.c")),
    depends=sorted(glob("src/pyloop/*.h")),
    include_dirs=["src"],
    extra_compile_args=["-O2", "-fvisibility=hidden", *WARNINGS],
)

setup(ext_modules=[pyloop])
