"""The command `databridge`."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from databridge import (
    __version__,
    check,
    describing,
    documents,
    installation,
    loading,
    server,
    transfer,
)
from databridge.config import ConfigError, Settings, Site, render, validate
from databridge.documents import DocumentError
from databridge.installation import InstallationError
from databridge.interface import Interface, detect
from databridge.loading import LoadError
from databridge.supervisor import nginx_environment

EXAMPLE_DIRECTORY = "/run/databridge"

cli = typer.Typer(
    name="databridge",
    help="nginx as the server of Python applications and native CRUD.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

store_cli = typer.Typer(help="Document stores: what is in them, out of them, into them.")
cli.add_typer(store_cli, name="store", no_args_is_help=True)

Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="What to import, as main:app.")]
AppDir = Annotated[
    list[Path] | None,
    typer.Option("--app-dir", help="Directory to import from; the current one by default."),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 is any that is free.")]
Workers = Annotated[int, typer.Option(help="Number of worker processes.")]
Store = Annotated[str, typer.Option(help="Where native CRUD keeps its documents.")]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds until a response has to start; 0 is no limit.")
]
Factory = Annotated[bool, typer.Option("--factory", help="APP is a function that makes it.")]
Gzip = Annotated[bool, typer.Option(help="Compress answers, by nginx.")]
InterfaceOption = Annotated[Interface, typer.Option(help="What APP is, when it does not show.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Log warnings and errors alone.")]
MaxRequests = Annotated[
    int, typer.Option(help="Requests after which a worker is renewed; 0 is any number.")
]
MaxRss = Annotated[
    str, typer.Option(metavar="SIZE", help="Memory, as 500m, above which it is; 0 is any size.")
]
Uri = Annotated[str, typer.Argument(help="The store, as sqlite:/path/to/file.db.")]
Collection = Annotated[str, typer.Argument(help="Its name in the store.")]
SchemaOption = Annotated[
    str | None,
    typer.Option("--schema", metavar="FILE|MODULE:MODEL", help="What its documents are."),
]
Output = Annotated[
    str | None, typer.Option(metavar="FILE", help="Where to write to; '-' is stdout, the default.")
]
User = Annotated[str | None, typer.Option(help="User of the workers, when root starts them.")]


@cli.callback(invoke_without_command=True)
def databridge(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"databridge {__version__}")
        raise typer.Exit


def settings(
    target: Target,
    app_dir: AppDir = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    store: Store = "sqlite:./databridge.db",
    timeout: Timeout = None,
    factory: Factory = False,
    interface: InterfaceOption = "auto",
    user: User = None,
    gzip: Gzip = False,
    max_requests: MaxRequests = 0,
    max_rss: MaxRss = "0",
    quiet: Quiet = False,
) -> Settings:
    """What run and config are told."""
    loading.split(target)
    return Settings(
        target,
        app_dirs=_app_dirs(app_dir),
        factory=factory,
        interface=interface,
        host=host,
        port=port,
        workers=workers,
        store=store,
        timeout=timeout,
        user=user,
        gzip=gzip,
        max_requests=max_requests,
        max_rss=max_rss,
        quiet=quiet,
    )


def command(act: Callable[[Settings], None]) -> Callable[[Settings], None]:
    """Registers a command that has the options of settings()."""

    @functools.wraps(settings)
    def parsed(*args: Any, **options: Any) -> None:
        act(settings(*args, **options))

    cli.command(act.__name__, help=act.__doc__)(parsed)
    return act


@command
def run(chosen: Settings) -> None:
    """Serve an application in the foreground."""
    raise typer.Exit(server.run(chosen, final=True))


@command
def config(chosen: Settings) -> None:
    """Print the nginx.conf that run would use."""
    validate(chosen)
    module = installation.module_file(installation.nginx_binary())
    typer.echo(render(chosen, Site(module, EXAMPLE_DIRECTORY, nginx_environment())), nl=False)


@cli.command("check")
def check_command(
    target: Target,
    app_dir: AppDir = None,
    factory: Factory = False,
    interface: InterfaceOption = "auto",
    app_only: Annotated[
        bool, typer.Option("--app-only", help="Import the application, do not ask nginx.")
    ] = False,
) -> None:
    """Import an application, compile what it declares, and test nginx's configuration."""
    chosen = settings(target, app_dir, factory=factory, interface=interface)
    app = loading.load(target, chosen.app_dirs, factory=factory)
    detect(app, interface, target)
    if app_only:
        check.write_report(app)
        return
    check.check_nginx(chosen)
    typer.echo(f"databridge: {target} is ready to be served", err=True)


@cli.command()
def schema(
    target: Annotated[str, typer.Argument(metavar="MODULE:MODEL", help="The model to compile.")],
    app_dir: AppDir = None,
    prefix: Annotated[str | None, typer.Option(help="Path of the collection.")] = None,
    collection: Annotated[str | None, typer.Option(help="Name in the store.")] = None,
    store: Annotated[str | None, typer.Option(help="Name of the store.")] = None,
    operations: Annotated[
        str | None, typer.Option(help="Comma separated: list,get,create,update,patch,delete.")
    ] = None,
    index: Annotated[
        list[str] | None, typer.Option(help="A sort to make an index for: -created,title.")
    ] = None,
    regex: Annotated[list[str] | None, typer.Option(help="A field that takes $regex.")] = None,
) -> None:
    """Print the schema that nginx's databridge_crud takes, which needs no Python.

    The options are those that an application of the module declares for the model, but for
    what is given here.
    """
    from databridge.crud import CrudError, schema_for

    model = loading.load_model(target, _app_dirs(app_dir))
    given = {
        "prefix": prefix,
        "collection": collection,
        "store": store,
        "operations": operations.split(",") if operations is not None else None,
        "index": index,
        "regex": regex,
    }
    options = loading.crud_options(target, model, prefix)
    options |= {name: value for name, value in given.items() if value is not None}
    try:
        schema = schema_for(model, **options)
    except CrudError as exc:
        raise LoadError(str(exc)) from exc
    typer.echo(json.dumps(schema, indent=2, ensure_ascii=False))


@cli.command("openapi")
def openapi_command(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:APP|SCHEMA...", help="An application, or schema files."),
    ],
    app_dir: AppDir = None,
    factory: Factory = False,
    output: Output = None,
    title: Annotated[
        str | None, typer.Option(help="Title of the document of schema files.")
    ] = None,
) -> None:
    """Print the OpenAPI document of an application, or of schema files alone."""
    files = [target for target in targets if target.endswith(".json")]
    if files and files != targets or not files and len(targets) > 1:
        raise LoadError("a document is of one application, MODULE:APP, or of schema files, *.json")
    if files:
        described = describing.of_files([Path(file) for file in files], title)
    else:
        described = describing.of_app(targets[0], _app_dirs(app_dir), factory=factory)
    text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    if output in (None, "-"):
        typer.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise LoadError(f"{output} cannot be written: {exc.strerror or exc}") from exc


@store_cli.command("list")
def store_list(uri: Uri) -> None:
    """Show the collections of a store."""
    found = documents.catalog(uri)
    width = max((len(name) for name, _, _ in found), default=0)
    for name, kind, count in found:
        typer.echo(f"{name:{width}}  {kind:8}  {count:>12,}")


@store_cli.command("export")
def store_export(
    uri: Uri,
    collection: Collection,
    output: Output = None,
    schema: SchemaOption = None,
    app_dir: AppDir = None,
) -> None:
    """Write a collection as NDJSON: one document a line, by id."""
    declared = documents.schema_of(schema, _app_dirs(app_dir)) if schema else None
    with transfer.writing(output) as file, transfer.counted("exporting") as progress:
        count = documents.export(uri, collection, file, schema=declared, progress=progress)
    typer.echo(f"databridge: {count} documents exported", err=True)


@store_cli.command("import")
def store_import(
    uri: Uri,
    collection: Collection,
    file: Annotated[str, typer.Argument(help="What to read; '-' is stdin.")] = "-",
    schema: SchemaOption = None,
    app_dir: AppDir = None,
    on_conflict: Annotated[
        documents.Conflict, typer.Option(help="What to do with an id that is there.")
    ] = "fail",
) -> None:
    """Read NDJSON into a collection, by the batch: all of one, or nothing."""
    declared = documents.schema_of(schema, _app_dirs(app_dir)) if schema else None
    with transfer.reading(file) as (source, size), transfer.counted("importing") as progress:
        stored, skipped = documents.import_(
            uri,
            collection,
            source,
            schema=declared,
            on_conflict=on_conflict,
            progress=lambda read: progress(read, size),
        )
    left_out = f", {skipped} skipped" if skipped else ""
    typer.echo(f"databridge: {stored} documents imported{left_out}", err=True)


def main() -> None:
    """Entry point: what the user can mend is said in one line, with status 1."""
    try:
        cli()
    except (LoadError, ConfigError, InstallationError, DocumentError) as exc:
        server.fail(exc)


def _app_dirs(app_dir: list[Path] | None) -> list[str]:
    return [str(path) for path in app_dir] if app_dir else ["."]
