"""The wheel's extension modules; all else stands in pyproject.toml."""

import os
import subprocess
import sys
from copy import copy
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
FLAGS = ["-O2", "-fvisibility=hidden", *WARNINGS]

pyloop = Extension(
    "databridge._pyloop",
    sources=sorted(glob("src/pyloop/*.c")),
    depends=sorted(glob("src/pyloop/*.h")),
    include_dirs=["src"],
    extra_compile_args=FLAGS,
)

# The native validation, as the nginx module has it.
crud = Extension(
    "databridge._crud",
    sources=sorted(
        source
        for room in ("core", "json", "scalar", "crud", "crud/ext")
        for source in glob(f"src/{room}/*.c") + glob(f"src/{room}/*.cc")
    )
    + ["src/route/db_query.c", "src/store/db_match.c", "src/store/db_project.c"],
    depends=sorted(glob("src/*/*.h")),
    include_dirs=["src"],
    extra_compile_args=FLAGS,
    libraries=["simdjson", "re2"],
    language="c++",
)

# The stores, for "databridge store".
store = Extension(
    "databridge._store",
    sources=sorted(
        source
        for room in ("core", "json", "scalar", "crud", "store", "store/ext")
        for source in glob(f"src/{room}/*.c") + glob(f"src/{room}/*.cc")
    )
    + ["src/route/db_query.c"],
    depends=sorted(glob("src/*/*.h") + glob("src/store/ext/*.h")),
    include_dirs=["src"],
    extra_compile_args=[*FLAGS, "-pthread"],
    libraries=["simdjson", "re2", "sqlite3"],
    language="c++",
)

HEADERS = {"simdjson": "simdjson.h", "re2": "re2/re2.h", "sqlite3": "sqlite3.h"}


class Build(build_ext):
    """Leaves out what the machine has no libraries for; PyLoop needs none."""

    def build_extensions(self) -> None:
        for extension in list(self.extensions):
            if missing := [name for name in extension.libraries if not self.includes(name)]:
                print(
                    f"databridge: {extension.name} is left out: no headers of "
                    f"{', '.join(missing)}; native CRUD needs them, PyLoop does not",
                    file=sys.stderr,
                )
                self.extensions.remove(extension)
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        """With objects of its own: extensions that share sources are built side by side."""
        own = copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        super(Build, own).build_extension(ext)

    def includes(self, library: str) -> bool:
        command = [*self.compiler.compiler_so, "-x", "c++", "-fsyntax-only", "-"]
        source = f"#include <{HEADERS[library]}>\n"
        return subprocess.run(command, input=source.encode(), capture_output=True).returncode == 0


setup(ext_modules=[pyloop, crud, store], cmdclass={"build_ext": Build})
