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
    dev,
    discovery,
    documents,
    flags,
    installation,
    loading,
    new,
    server,
    transfer,
)
from databridge.config import ConfigError, Settings, Site, render, validate
from databridge.documents import DocumentError
from databridge.installation import InstallationError
from databridge.interface import Interface
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

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="MODULE:APP",
        envvar=flags.TARGET,
        help="What to import, as main:app, or a file; main.py or app.py is found by itself.",
    ),
]
AppDir = Annotated[list[Path] | None, flags.option("app_dirs")]
Factory = Annotated[bool, flags.option("factory")]
InterfaceOption = Annotated[Interface, flags.option("interface")]
Uri = Annotated[str, typer.Argument(help="The store, as sqlite:/path/to/file.db.")]
Collection = Annotated[str, typer.Argument(help="Its name in the store.")]
SchemaOption = Annotated[
    str | None,
    typer.Option("--schema", metavar="FILE|MODULE:MODEL", help="What its documents are."),
]
Output = Annotated[
    str | None, typer.Option(metavar="FILE", help="Where to write to; '-' is stdout, the default.")
]


@cli.callback(invoke_without_command=True)
def databridge(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"databridge {__version__}")
        raise typer.Exit


def settings(
    target: Target = None,
    app_dir: AppDir = None,
    factory: Factory = False,
    interface: InterfaceOption = "auto",
    root_path: Annotated[str, flags.option("root_path")] = "",
    host: Annotated[str, flags.option("host")] = "127.0.0.1",
    port: Annotated[int, flags.option("port")] = 8000,
    workers: Annotated[int, flags.option("workers")] = 1,
    user: Annotated[str | None, flags.option("user")] = None,
    store: Annotated[str, flags.option("store")] = "sqlite:./databridge.db",
    timeout: Annotated[float | None, flags.option("timeout")] = None,
    max_body_size: Annotated[str, flags.option("max_body_size")] = "100m",
    queue: Annotated[int, flags.option("queue")] = 1024,
    sync_threads: Annotated[int, flags.option("sync_threads")] = 40,
    store_threads: Annotated[int, flags.option("store_threads")] = 4,
    nice: Annotated[int, flags.option("nice")] = 10,
    shutdown_timeout: Annotated[int, flags.option("shutdown_timeout")] = 30,
    max_requests: Annotated[int, flags.option("max_requests")] = 0,
    max_rss: Annotated[str, flags.option("max_rss")] = "0",
    gzip: Annotated[bool, flags.option("gzip")] = False,
    quiet: Annotated[bool, flags.option("quiet")] = False,
) -> Settings:
    """What run, dev and config are told; an option for each of FLAGS."""
    directories = _app_dirs(app_dir)
    found = discovery.find(target, directories[0])
    if app_dir is None:
        directories = [found.directory]
    return Settings(
        found.target,
        app_dirs=directories,
        factory=factory or found.factory,
        interface=interface,
        root_path=root_path,
        host=host,
        port=port,
        workers=workers,
        user=user,
        store=store,
        timeout=timeout,
        max_body_size=max_body_size,
        queue=queue,
        sync_threads=sync_threads,
        store_threads=store_threads,
        nice=nice,
        shutdown_timeout=shutdown_timeout,
        max_requests=max_requests,
        max_rss=max_rss,
        gzip=gzip,
        quiet=quiet,
    )


def command(name: str) -> Callable[[Callable[[Settings], None]], Callable[[Settings], None]]:
    """Registers a command that has the options of settings()."""

    def decorator(act: Callable[[Settings], None]) -> Callable[[Settings], None]:
        @functools.wraps(settings)
        def parsed(*args: Any, **options: Any) -> None:
            act(settings(*args, **options))

        cli.command(name, help=act.__doc__)(parsed)
        return act

    return decorator


@command("run")
def run(chosen: Settings) -> None:
    """Serve an application in the foreground."""
    raise typer.Exit(server.run(chosen, final=True))


@command("dev")
def dev_command(chosen: Settings) -> None:
    """Serve while an application is written: what is saved is reloaded, errors are shown."""
    raise typer.Exit(dev.run(chosen))


@command("config")
def config(chosen: Settings) -> None:
    """Print the nginx.conf that run would use."""
    validate(chosen)
    module = installation.module_file(installation.nginx_binary())
    typer.echo(render(chosen, Site(module, EXAMPLE_DIRECTORY, nginx_environment())), nl=False)


@cli.command("new")
def new_command(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="A directory that is new or empty.")],
) -> None:
    """Write an application to begin with: native CRUD, a route, and tests of both."""
    new.create(name)
    typer.echo(f"databridge: {name} is made; go on with\n\n    cd {name}\n    databridge dev")


@cli.command("check")
def check_command(
    target: Target = None,
    app_dir: AppDir = None,
    factory: Factory = False,
    interface: InterfaceOption = "auto",
    app_only: Annotated[
        bool, typer.Option("--app-only", help="Import the application, do not ask nginx.")
    ] = False,
) -> None:
    """Import an application, compile what it declares, and test nginx's configuration."""
    chosen = settings(target, app_dir, factory=factory, interface=interface)
    if app_only:
        raise typer.Exit(check.check_app(chosen))
    check.load(chosen)
    check.check_nginx(chosen)
    typer.echo(f"databridge: {chosen.target} is ready to be served", err=True)


@cli.command("routes")
def routes_command(
    target: Target = None,
    app_dir: AppDir = None,
    factory: Factory = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List an application's routes: who answers each of them, and why not nginx.

    native: nginx, without Python.

    plan: the function, without FastAPI.

    hybrid: nginx's store behind Python's validation.

    asgi: the application, as under any other server.
    """
    from databridge import listing

    chosen = settings(target, app_dir, factory=factory)
    app = loading.load(chosen.target, chosen.app_dirs, factory=chosen.factory)
    if as_json:
        typer.echo(json.dumps(listing.rows(app), indent=2))
    else:
        listing.show(app)


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
    declared = loading.declared_crud(target, model, prefix)
    options: dict[str, Any] = dict(declared.options) if declared else {}
    options |= {name: value for name, value in given.items() if value is not None}
    try:
        schema = schema_for(model, **options)
    except CrudError as exc:
        raise LoadError(str(exc)) from exc
    typer.echo(json.dumps(schema, indent=2, ensure_ascii=False))


@cli.command("openapi")
def openapi_command(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODULE:APP|SCHEMA", help="An application, or schema files, *.json."
        ),
    ] = None,
    app_dir: AppDir = None,
    factory: Factory = False,
    output: Output = None,
    title: Annotated[
        str | None, typer.Option(help="Title of the document of schema files.")
    ] = None,
) -> None:
    """Print the OpenAPI document of an application, or of schema files alone."""
    names = targets or []
    files = [name for name in names if name.endswith(".json")]
    if files and files != names or not files and len(names) > 1:
        raise LoadError("a document is of one application, MODULE:APP, or of schema files, *.json")
    if files:
        described = describing.of_files([Path(file) for file in files], title)
    else:
        chosen = settings(next(iter(names), None), app_dir, factory=factory)
        described = describing.of_app(chosen.target, chosen.app_dirs, factory=chosen.factory)
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
