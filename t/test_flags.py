"""Each option has a name, a variable and a directive, and one table says so everywhere."""

import dataclasses
import inspect
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from databridge import cli, flags
from databridge.config import ConfigError, Settings
from databridge.flags import FLAGS, Flag
from harness import PYTHON, ROOT
from harness.settings import server_env

INTERNAL = {"target", "check", "development"}

VALUES = {
    "app_dirs": "/srv",
    "interface": "asgi",
    "root_path": "/shop",
    "host": "127.0.0.2",
    "port": "8123",
    "workers": "3",
    "user": "nobody",
    "store": "sqlite:/srv/x.db",
    "timeout": "2.5",
    "max_body_size": "20m",
    "queue": "77",
    "sync_threads": "9",
    "store_threads": "5",
    "nice": "5",
    "shutdown_timeout": "12",
    "max_requests": "1000",
    "max_rss": "500m",
}

NO_SENSE = [
    ("--root-path", "shop/"),
    ("--max-body-size", "much"),
    ("--max-rss", "5 apples"),
    ("--queue", "0"),
    ("--sync-threads", "0"),
    ("--store-threads", "-1"),
    ("--nice", "20"),
    ("--shutdown-timeout", "-1"),
    ("--max-requests", "-5"),
]


def invoke(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(cli.cli, ["config", *arguments], env=environ)


def config(*options: str, **environ: str) -> str:
    result = invoke("main:app", *options, **environ)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def plain() -> set[str]:
    return set(config().splitlines())


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_the_option_and_its_variable_mean_the_directive(
    flag: Flag, plain: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # who may name another user
    value = VALUES.get(flag.field)
    by_option = config(flag.name, *([value] if value else []))
    by_variable = config(**{flag.variable: value or "1"})
    assert by_option == by_variable
    assert flag.variable not in by_variable

    new = "\n".join(set(by_option.splitlines()) - plain)
    for directive in flag.directive.split(", "):
        name, _, argument = directive.partition(" ... ")
        assert f"{name} " in new and argument in new, new


def test_the_option_counts_before_its_variable() -> None:
    assert "listen 127.0.0.1:9000;" in config("--port", "9000", DATABRIDGE_PORT="8000")


def test_the_application_may_be_named_by_a_variable() -> None:
    result = invoke(**{flags.TARGET: "shop.web:site"})
    assert "databridge_app shop.web:site;" in result.stdout
    assert flags.TARGET not in result.stdout


def test_every_setting_has_an_option_and_one_default() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert {flag.field for flag in FLAGS} == set(defaults) - INTERNAL

    parameters = inspect.signature(cli.settings).parameters
    for flag in FLAGS:
        parameter = parameters["app_dir" if flag.field == "app_dirs" else flag.field]
        if flag.field != "app_dirs":
            assert parameter.default == defaults[flag.field], flag.name


@pytest.mark.parametrize("options", NO_SENSE, ids=lambda options: options[0])
def test_a_value_that_makes_no_sense_is_refused_by_name(options: tuple[str, str]) -> None:
    result = invoke("main:app", *options)
    assert isinstance(result.exception, ConfigError)
    assert options[0] in str(result.exception)


def test_the_documentation_has_the_tables_as_they_are_generated() -> None:
    command = [PYTHON, "mk/docs.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, env=server_env(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_directives_of_options_are_in_the_table_of_directives() -> None:
    table = Path(ROOT, "README.md").read_text()
    for flag in FLAGS:
        for directive in flag.directive.split(", "):
            name = directive.split()[0]
            if name.startswith("databridge_"):
                assert f"| `{name} " in table, name
