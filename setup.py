"""The wheel's extension modules; all else stands in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

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
        for room in ("core", "json", "crud", "crud/ext")
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
        for room in ("core", "json", "crud", "store", "store/ext")
        for source in glob(f"src/{room}/*.c") + glob(f"src/{room}/*.cc")
    )
    + ["src/route/db_query.c"],
    depends=sorted(glob("src/*/*.h") + glob("src/store/ext/*.h")),
    include_dirs=["src"],
    extra_compile_args=[*FLAGS, "-pthread"],
    libraries=["simdjson", "re2", "sqlite3"],
    language="c++",
)

setup(ext_modules=[pyloop, crud, store])
