"""What make builds: three exported symbols, no surprise, and only once."""

import os
import subprocess

import pytest

from harness import MODULE, NGINX, ROOT


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("MAKE")}

    return subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, "BUILD": "build", **environ},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_the_module_exports_what_nginx_asks_for_and_nothing_else() -> None:
    lines = run("nm", "-D", "--defined-only", str(MODULE)).stdout.splitlines()
    names = {line.split()[-1] for line in lines}
    assert names == {"ngx_modules", "ngx_module_names", "ngx_module_order"}


def test_the_module_is_linked_to_one_libpython_and_not_to_a_driver() -> None:
    lines = run("readelf", "-d", str(MODULE)).stdout.splitlines()
    needed = [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]
    assert len([name for name in needed if name.startswith("libpython3")]) == 1
    assert not [name for name in needed if "mongoc" in name or "nginx" in name]
    assert any("NODELETE" in line for line in lines)


def test_the_module_has_no_text_relocations_and_no_executable_stack() -> None:
    assert "TEXTREL" not in run("readelf", "-d", str(MODULE)).stdout
    stack = [
        line
        for line in run("readelf", "-lW", str(MODULE)).stdout.splitlines()
        if "GNU_STACK" in line
    ]
    assert stack and "RWE" not in stack[0]


def test_the_wheel_has_the_module_too() -> None:
    link = ROOT / "python/databridge/ngx_http_databridge_module.so"
    assert link.resolve() == (ROOT / "build/ngx_http_databridge_module.so").resolve()


def test_the_driver_of_mongodb_exports_one_table_and_the_wheel_has_it() -> None:
    driver = ROOT / "build/databridge_mongo.so"
    lines = run("nm", "-D", "--defined-only", str(driver)).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["db_mongo_driver"]
    assert (ROOT / "python/databridge/databridge_mongo.so").resolve() == driver.resolve()


def test_without_mongo_c_driver_all_else_is_built() -> None:
    result = run("make", "build", PKG_CONFIG_LIBDIR="/no/such/directory")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    plan = run("make", "-n", "-B", "mongo", PKG_CONFIG_LIBDIR="/no/such/directory")
    assert plan.returncode == 0 and "mongoc" not in plan.stdout


def test_a_second_make_does_nothing() -> None:
    first = run("make", "build")
    second = run("make", "build")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert second.stdout == "" == second.stderr


def test_make_deps_does_nothing_when_all_is_there() -> None:
    result = run("make", "deps")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NGINX", "/no/such/nginx", "make deps"),
        ("NGINX_SRC", "/no/such/tree", "nginx-dev"),
        ("PYTHON", "/no/such/python", "PYTHON"),
        ("PYTHON_CONFIG", "/no/such/python-config", "PYTHON_CONFIG"),
        ("PYTHON_CONFIG", "/bin/false", "PYTHON_CONFIG"),
        ("PYTHON_CONFIG", "/bin/true", "PYTHON_CONFIG"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(name: str, value: str, message: str) -> None:
    environ = {
        "NGINX": NGINX,
        "NGINX_SRC": "/usr/share/nginx/src",
        "PYTHON": "/usr/bin/python3.11",
        "PYTHON_CONFIG": "/usr/bin/python3.11-config",
        "BUILD": "build",
    }
    result = run("sh", "mk/check.sh", "module", **{**environ, name: value})
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("databridge: ") and message in line


def test_another_version_of_nginx_is_one_clear_line(tmp_path: "os.PathLike[str]") -> None:
    fake = os.path.join(tmp_path, "nginx")
    with open(fake, "w") as file:
        file.write("#!/bin/sh\necho 'nginx version: nginx/9.9.9' >&2\n")
    os.chmod(fake, 0o755)
    result = run(
        "sh",
        "mk/check.sh",
        "module",
        NGINX=fake,
        NGINX_SRC="/usr/share/nginx/src",
        PYTHON="/usr/bin/python3.11",
        PYTHON_CONFIG="/usr/bin/python3.11-config",
        BUILD="build",
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "9.9.9" in line and "nginx-dev" in line
