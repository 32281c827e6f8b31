"""`databridge store`: documents as lines, out of a store and into one."""

import contextlib
import io
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from databridge import Field, Model, _store, cli, documents
from databridge.crud import schema_for
from harness import DATABRIDGE, PYTHON, SANITIZED, SLOWER, Nginx, until
from harness.settings import server_env

MODELS = """
from uuid import UUID

from databridge import App, Field, Model


class Article(Model):
    title: str = Field(min_length=1)
    views: int = 0


class Product(Model):
    name: str
    id: int


class Page(Model):
    id: UUID
    text: str = ""


app = App()
app.crud_routes(Article, prefix="/articles", index=["views"])
"""


class Article(Model):
    title: str = Field(min_length=1)
    views: int = 0


def article(number: int, **members: Any) -> dict[str, Any]:
    return {"id": f"{number:024x}", "title": f"Title {number}", "views": number, **members}


def ndjson(documents: Sequence[Any]) -> str:
    return "".join(
        json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"
        for document in documents
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "article.schema.json").write_text(json.dumps(schema_for(Article)))
    return tmp_path


class Done(NamedTuple):
    stdout: str
    stderr: str


Store = Callable[..., Done]


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """
    Runs `databridge store`, which is to succeed unless `fails`: in this
    process, which has loaded what takes a new one most of its time.
    """

    def run(*arguments: str, text: str = "", fails: bool = False) -> Done:
        (folder / "stdin").write_bytes(text.encode())
        outputs = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
        status: Any = 0
        with open(folder / "stdin") as stdin, monkeypatch.context() as patch:
            patch.chdir(folder)
            patch.delitem(sys.modules, "models", raising=False)
            patch.setattr(sys, "path", sys.path.copy())
            patch.setattr(sys, "argv", ["databridge", "store", *arguments])
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stdout", outputs[0])
            patch.setattr(sys, "stderr", outputs[1])
            try:
                cli.main()
            except SystemExit as stopped:
                status = stopped.code or 0
            finally:
                sys.modules.pop("models", None)
        done = Done(*(output.detach().getvalue().decode() for output in outputs))
        assert (status != 0) == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def filled(folder: Path) -> list[dict[str, Any]]:
    """Ten articles in main.db."""
    made = [article(number) for number in range(10)]
    source = io.BytesIO(ndjson(made).encode())
    documents.import_(f"sqlite:{folder}/main.db", "article", source, schema=schema_for(Article))
    return made


# The command, and at its end the line of /proc that has its peak of memory.
PEAK = """
import atexit, sys
atexit.register(lambda: sys.stderr.write(
    next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
))
sys.argv = sys.argv[1:]
from databridge.cli import main
main()
"""


def rows(folder: Path, name: str = "main.db", table: str = "article") -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / name)) as db:
        return [text for (text,) in db.execute(f"SELECT doc FROM {table} ORDER BY id")]


# what goes out comes in


def test_an_export_is_the_documents_by_id_one_a_line(
    store: Store, filled: list[dict[str, Any]]
) -> None:
    done = store("export", "sqlite:main.db", "article")
    assert done.stdout == ndjson(filled)
    assert done.stderr == "databridge: 10 documents exported\n"


def test_what_is_exported_can_be_imported_to_the_byte(
    store: Store, folder: Path, filled: list[dict[str, Any]]
) -> None:
    store("export", "sqlite:main.db", "article", "--output", "out.ndjson")
    done = store(
        "import", "sqlite:other.db", "article", "out.ndjson", "--schema", "article.schema.json"
    )
    assert done.stdout == ""
    assert done.stderr == "databridge: 10 documents imported\n"
    assert rows(folder, "other.db") == rows(folder, "main.db") == ndjson(filled).splitlines()


def test_one_store_is_piped_into_another(folder: Path, filled: list[dict[str, Any]]) -> None:
    command = (
        f"{DATABRIDGE} store export sqlite:main.db article --output - |"
        f" {DATABRIDGE} store import sqlite:other.db article - --schema models:Article"
    )
    done = subprocess.run(
        command, shell=True, cwd=folder, env=server_env(), capture_output=True, timeout=60 * SLOWER
    )
    assert done.returncode == 0, done.stderr
    assert rows(folder, "other.db") == rows(folder)


def test_texts_are_kept_to_the_digit_without_white_space(store: Store, folder: Path) -> None:
    store("import", "sqlite:main.db", "article", "--schema", "models:Article", text="")
    line = '\ufeff  { "x" : 1.50e+2, "id" : "a, {b", "t":"é \\u00e9 [, \\"q\\" \\\\" , "n":[ ] }'
    store("import", "sqlite:main.db", "article", text=line + "\r\n\n")
    kept = '{"x":1.50e+2,"id":"a, {b","t":"é \\u00e9 [, \\"q\\" \\\\","n":[]}'
    assert rows(folder) == [kept]
    assert store("export", "sqlite:main.db", "article").stdout == kept + "\n"


def test_an_export_takes_documents_that_others_have_laid_out(store: Store, folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "main.db")) as db:
        db.execute("CREATE TABLE note (id TEXT PRIMARY KEY NOT NULL, doc TEXT NOT NULL)")
        db.execute('INSERT INTO note VALUES (\'a\', \'{\n  "id": "a",\n  "n": [1, 2]\n}\')')
        db.commit()
    assert store("export", "sqlite:main.db", "note").stdout == '{"id":"a","n":[1,2]}\n'


@pytest.mark.parametrize(
    ("model", "things"),
    [
        ("Product", [{"name": "two", "id": -2}, {"name": "big", "id": 2**62}]),
        ("Page", [{"id": "00000000-0000-4000-8000-00000000000a", "text": ""}]),
    ],
)
def test_every_kind_of_id_goes_in_and_out(
    store: Store, model: str, things: list[dict[str, Any]]
) -> None:
    text = ndjson(things)
    store("import", "sqlite:main.db", "things", "--schema", f"models:{model}", text=text)
    store("import", "sqlite:main.db", "things", "--on-conflict", "replace", text=text)
    assert store("export", "sqlite:main.db", "things").stdout == text


def test_a_list_shows_collections_and_counts(
    store: Store, folder: Path, filled: list[dict[str, Any]]
) -> None:
    store(
        "import",
        "sqlite:main.db",
        "product",
        "--schema",
        "models:Product",
        text='{"id":1,"name":""}',
    )
    with contextlib.closing(sqlite3.connect(folder / "main.db")) as db:
        db.execute("CREATE TABLE foreign_one (id TEXT PRIMARY KEY, other INT)")
    lines = store("list", "sqlite:main.db").stdout.splitlines()
    assert [line.split() for line in lines] == [["article", "str", "10"], ["product", "int", "1"]]


def test_many_documents_go_in_and_out_in_constant_memory(folder: Path) -> None:
    def peak(*arguments: str) -> int:
        done = subprocess.run(
            [PYTHON, "-c", PEAK, "databridge", "store", *arguments],
            cwd=folder,
            env=server_env(),
            capture_output=True,
            text=True,
            timeout=120 * SLOWER,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stderr.split()[-2])

    def both(name: str, count: int) -> int:
        text = "x" * 420
        lines = ndjson([article(number, text=text) for number in range(count)])
        (folder / name).write_text(lines)
        uri = f"sqlite:{name}.db"
        schema = ("--schema", "article.schema.json")
        into = peak("import", uri, "article", name, *schema)
        out = peak("export", uri, "article", "--output", f"{name}.out", *schema)
        assert (folder / f"{name}.out").read_text().count("\n") == count
        return max(into, out)

    few, many = both("few", 2_000), both("many", 50_000)
    assert many - few < (64 if SANITIZED else 12) * 1024  # KiB; the file has 24 MiB


def test_indexes_of_a_schema_are_made_by_an_import(store: Store, folder: Path) -> None:
    (folder / "indexed.json").write_text(json.dumps(schema_for(Article, index=["-views"])))
    for schema in ("indexed.json", "models:Article"):
        store("import", "sqlite:main.db", "article", "--schema", schema)
    with contextlib.closing(sqlite3.connect(folder / "main.db")) as db:
        found = db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'").fetchall()
    assert {("databridge_article,-views",), ("databridge_article,views",)} <= set(found)


# conflicts


def test_an_id_that_is_there_stops_an_import_which_names_the_line(
    store: Store, folder: Path, filled: list[dict[str, Any]]
) -> None:
    text = ndjson([article(20), article(21), article(5), article(22)])
    done = store("import", "sqlite:main.db", "article", text=text, fails=True)
    assert "line 3: its id, or what has to be unique, is taken" in done.stderr
    assert "nothing was stored" in done.stderr
    assert len(rows(folder)) == 10


def test_a_failed_import_says_how_many_batches_are_stored(
    store: Store, folder: Path, filled: list[dict[str, Any]]
) -> None:
    text = ndjson([article(number) for number in range(100, 2_600)] + [article(5)])
    done = store("import", "sqlite:main.db", "article", text=text, fails=True)
    assert "line 2501: " in done.stderr
    assert "2000 documents were stored before" in done.stderr
    assert len(rows(folder)) == 2_010


def test_conflicts_may_be_skipped(store: Store, folder: Path, filled: list[dict[str, Any]]) -> None:
    text = ndjson([article(5, title="other"), article(20), article(20, title="again")])
    done = store("import", "sqlite:main.db", "article", "--on-conflict", "skip", text=text)
    assert done.stderr == "databridge: 1 documents imported, 2 skipped\n"
    assert rows(folder) == ndjson([*filled, article(20)]).splitlines()


def test_conflicts_may_replace_what_is_there(
    store: Store, folder: Path, filled: list[dict[str, Any]]
) -> None:
    text = ndjson([article(5, title="other"), article(20), article(20, title="again")])
    done = store("import", "sqlite:main.db", "article", "--on-conflict=replace", text=text)
    assert done.stderr == "databridge: 3 documents imported\n"
    kept = [*filled[:5], article(5, title="other"), *filled[6:], article(20, title="again")]
    assert rows(folder) == ndjson(kept).splitlines()


# what is refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", ', "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ('{"title": "t"}', 'line 2: it has no "id"'),
        ('{"id": 5}', 'line 2: its "id" must be a text'),
        ('{"id": ""}', 'line 2: its "id" must be a text'),
        ('{"id": "a", "n": NaN}', "line 2: not JSON"),
        ('{"id": "a"} {"id": "b"}', "line 2: not JSON"),
    ],
)
def test_a_line_that_is_no_document_is_refused_by_its_number(
    folder: Path, filled: list[dict[str, Any]], line: str, message: str
) -> None:
    source = io.BytesIO((ndjson([article(20)]) + line + "\n").encode())
    with pytest.raises(documents.DocumentError) as refused:
        documents.import_(f"sqlite:{folder}/main.db", "article", source)
    assert message in str(refused.value)
    assert len(rows(folder)) == 10


def test_a_schema_checks_every_line_and_fills_in_defaults(store: Store, folder: Path) -> None:
    into = ("import", "sqlite:main.db", "article", "--schema", "models:Article")
    store(*into, text=ndjson([{**article(1), "views": "7", "other": 1}]))
    assert rows(folder) == [ndjson([article(1, views=7)]).strip()]
    done = store(*into, text=ndjson([article(2, title="", views="x")]), fails=True)
    assert "line 1: title: String should have at least 1 character (and 1 more)" in done.stderr
    done = store(*into, text='{"id": "nothing", "title": "t"}', fails=True)
    assert "line 1: 'nothing' is not an id of the collection" in done.stderr
    store(*into, text='{"title": "without an id"}')
    assert len(rows(folder)) == 2


def test_a_schema_keeps_what_no_client_may_write(store: Store, folder: Path) -> None:
    schema = schema_for(Article)
    schema["fields"].append({"name": "made", "type": "datetime"})
    (folder / "stamped.json").write_text(json.dumps(schema))
    stamped = article(1, made="2020-01-01T00:00:00Z")
    done = store(
        "import", "sqlite:main.db", "article", "--schema", "stamped.json", text=ndjson([stamped])
    )
    assert done.stderr == "databridge: 1 documents imported\n"
    assert rows(folder) == ndjson([stamped]).splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "sqlite:none.db"], "there is no file none.db"),
        (["export", "sqlite:none.db", "article"], "there is no file none.db"),
        (["import", "sqlite:none.db", "article", "models.py"], "there is no file none.db"),
        (["export", "sqlite:main.db", "other"], "has no collection 'other' (it has article)"),
        (["import", "sqlite:main.db", "other", "models.py"], "--schema says what a new one is"),
        (["import", "sqlite:main.db", "article", "none.ndjson"], "none.ndjson cannot be read"),
        (["export", "sqlite:main.db", "article", "--output", "no/out"], "no/out cannot be written"),
        (["list", "postgres:main"], '"postgres" is not a store'),
        (["list", "sqlite:models.py"], "file is not a database"),
        (["export", "sqlite:main.db", "article", "--schema", "none.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    folder: Path,
    filled: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["databridge", "store", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (folder / "none.db").exists()


def test_an_export_that_fails_leaves_no_file(
    store: Store, folder: Path, filled: list[dict[str, Any]]
) -> None:
    (folder / "out").write_text("before")
    store("export", "sqlite:main.db", "other", "--output", "out", fails=True)
    assert (folder / "out").read_text() == "before"
    assert not list(folder.glob("*.partial"))


# how it looks


def test_progress_is_shown_on_a_terminal_alone(folder: Path, filled: list[dict[str, Any]]) -> None:
    command = [DATABRIDGE, "store", "export", "sqlite:main.db", "article"]
    ours, theirs = pty.openpty()
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={**server_env(), "TERM": "xterm"}, stdout=out, stderr=theirs
        )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while block := os.read(ours, 4096):
            said += block
    os.close(ours)
    assert process.wait(30 * SLOWER) == 0
    assert b"exporting" in said and b"10 documents exported" in said
    assert (folder / "out").read_text() == ndjson(filled)


def test_a_store_keeps_its_collections_until_it_is_closed(
    folder: Path, filled: list[dict[str, Any]]
) -> None:
    opened = _store.open(f"sqlite:{folder}/main.db")
    lines, last = opened.collection("article").page(None, 4)
    assert lines.decode() == ndjson(filled[:4]) and last == filled[3]["id"]
    collection = opened.collection("article")
    assert collection.page(last, 100) == (ndjson(filled[4:]).encode(), None)
    with pytest.raises(_store.StoreError, match="no such table"):
        opened.collection("other").page(None, 1)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        collection.page(None, 1)
    with pytest.raises(ValueError, match="closed"):
        opened.collection("article")


# beside a server


@pytest.fixture
def server(make_nginx: Callable[[], Nginx], folder: Path) -> Iterator[Nginx]:
    """Articles served from main.db by two workers."""
    server = make_nginx()
    server.write({"models.py": MODELS})
    server.configure(
        "databridge_app models:app;",
        http=f"databridge_store main sqlite:{folder}/main.db;",
        workers=2,
    )
    folder.chmod(0o755)
    server.start(None)
    until("CRUD", lambda: server.client.get("/articles").status_code == 200, 15)
    yield server


@contextlib.contextmanager
def writing(server: Nginx) -> Iterator[list[str]]:
    """Creates articles until the end; the ids that were acknowledged."""
    created: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            answer = server.client.post("/articles", json={"title": "written"})
            assert answer.status_code == 201, answer.text
            created.append(answer.json()["id"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        until("writes", lambda: len(created) > 20, 15)
        yield created
        count = len(created)
        until("more writes", lambda: len(created) > count + 20, 15)
    finally:
        stop.set()
        thread.join()


def test_an_import_and_a_server_write_side_by_side(
    server: Nginx, store: Store, folder: Path
) -> None:
    imported = [article(number) for number in range(5_000)]
    with writing(server) as created:
        store("import", "sqlite:main.db", "article", text=ndjson(imported))
        for number in (0, 999, 2_500, 4_999):
            read = server.client.get(f"/articles/{number:024x}")
            assert read.json() == imported[number]
    assert server.client.get("/articles?count=true").json()["total"] == 5_000 + len(created)
    stored = {json.loads(text)["id"] for text in rows(folder)}
    assert stored == {document["id"] for document in imported} | set(created)


def test_an_export_beside_writes_has_all_that_was_there_before(server: Nginx, store: Store) -> None:
    imported = [article(number) for number in range(3_000)]
    store("import", "sqlite:main.db", "article", text=ndjson(imported))
    with writing(server) as created:
        before = set(created)
        lines = store("export", "sqlite:main.db", "article").stdout.splitlines()
    found = [json.loads(line)["id"] for line in lines]
    assert found == sorted(found) and len(found) == len(set(found))
    assert before | {document["id"] for document in imported} <= set(found)


def test_an_import_queues_for_the_lock_of_the_writers(
    server: Nginx, folder: Path, store: Store
) -> None:
    import fcntl

    (folder / "in").write_text(ndjson([article(1)]))
    with open(folder / "main.db.writer", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [DATABRIDGE, "store", "import", "sqlite:main.db", "article", "in"],
            cwd=folder,
            env=server_env(),
            stderr=subprocess.PIPE,
        )
        waits = f" {process.pid} "
        until("the import to wait", lambda: waits in waiting(), 30)
        assert rows(folder) == []
    _, said = process.communicate(timeout=30 * SLOWER)
    assert process.returncode == 0, said
    assert server.client.get(f"/articles/{1:024x}").status_code == 200


def waiting() -> str:
    """The processes that wait for a flock, as the kernel lists them."""
    lines = Path("/proc/locks").read_text().splitlines()
    return "\n".join(line.replace(":", " ") for line in lines if "->" in line and "FLOCK" in line)


def test_an_interrupted_import_says_what_was_stored(folder: Path, store: Store) -> None:
    store("import", "sqlite:main.db", "article", "--schema", "models:Article", text="")
    process = subprocess.Popen(
        [DATABRIDGE, "store", "import", "sqlite:main.db", "article"],
        cwd=folder,
        env=server_env(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(ndjson([article(number) for number in range(1_200)]))
    process.stdin.flush()
    until("a batch", lambda: len(rows(folder)) == 1_000, 30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30 * SLOWER)
    assert process.returncode == 1
    assert "interrupted; 1000 documents were stored before" in said
