"""/v1/files and /v1/batches over a real socket with OpenAI's client; a fake engine behind."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from server.api.batches import files as files_module
from server.api.schemas import MAX_PRIORITY
from server.batches.types import UNFINISHED
from server.engine.types import GenerationRequest, TextDelta
from server.errors import EngineError
from tests.fakes import FakeEngine, Script, make_app, run_server, say_hello
from tests.server.api.client import HELLO, error_of, post

LONG = "a b " * 5000
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def lines(*bodies: Any, url: str = CHAT) -> bytes:
    requests = (
        {"custom_id": f"r{i}", "method": "POST", "url": url, "body": body}
        for i, body in enumerate(bodies)
    )
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def url(tiny_checkpoint: Path, engine: FakeEngine, tmp_path_factory: Any) -> Iterator[str]:
    folder = str(tmp_path_factory.mktemp("batches"))
    limits = {"max_batch_file_bytes": 1 << 20, "max_body_bytes": 1 << 16}
    with run_server(make_app(tiny_checkpoint, engine, batch_dir=folder, **limits)) as base:
        yield base


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def upload(client: openai.OpenAI, content: bytes) -> str:
    return client.files.create(file=("in.jsonl", content), purpose="batch").id


def start(client: openai.OpenAI, content: bytes, endpoint: Any = CHAT, **more: Any) -> Batch:
    return client.batches.create(
        input_file_id=upload(client, content), endpoint=endpoint, completion_window="24h", **more
    )


def finished(client: openai.OpenAI, batch_id: str) -> Batch:
    deadline = time.monotonic() + 20
    while (batch := client.batches.retrieve(batch_id)).status in UNFINISHED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
    return batch


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """By custom_id; each is there once."""
    if file_id is None:
        return {}
    rows = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    assert len({row["custom_id"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


# ------------------------------------------------------------------ files


def test_files_come_and_go(client: openai.OpenAI) -> None:
    content = lines(HELLO) + "é\r\n".encode()
    file = client.files.create(file=("../../etc/passwd", content), purpose="batch")
    assert file.bytes == len(content) and file.purpose == "batch" and file.status == "processed"
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == content
    assert file.id in [each.id for each in client.files.list()]
    assert client.files.delete(file.id).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            gone(file.id)
        assert caught.value.code == "file_not_found"


def test_lists_are_walked_page_by_page(client: openai.OpenAI) -> None:
    ids = [upload(client, b"x") for _ in range(5)]
    newest = [file.id for file in client.files.list(limit=2)]
    assert newest[:5] == ids[::-1] and len(set(newest)) == len(newest)
    page = client.files.list(limit=2, order="asc", after=ids[2])
    assert [file.id for file in page.data] == ids[3:] and not page.has_more
    assert client.files.list(purpose="batch_output", limit=1).data == []
    for query in ("limit=0", "limit=x", "order=up", "limit=10001"):
        response = httpx.get(f"{client.base_url}files?{query}")
        assert response.status_code == 400
        assert error_of(response)["param"] == query.partition("=")[0]


@pytest.mark.parametrize(
    "name",
    ["..", "../batches.sqlite3", "..%2fbatches.sqlite3", "%2e%2e", "%2fetc%2fpasswd", "a%00b", "*"],
)
def test_ids_are_no_paths(url: str, name: str) -> None:
    for path in (f"/v1/files/{name}", f"/v1/files/{name}/content", f"/v1/batches/{name}"):
        target = httpx.URL(url).copy_with(raw_path=path.encode())
        assert httpx.get(target).status_code == 404


def form(url: str, **parts: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/files", **parts)


def test_forms_that_are_none(url: str) -> None:
    file = {"file": ("a", b"x")}
    rows: list[tuple[dict[str, Any], int, str | None, str]] = [
        ({"files": file}, 400, "purpose", "missing_required_parameter"),
        ({"files": file, "data": {"purpose": "fine-tune"}}, 400, "purpose", "invalid_value"),
        ({"files": {"purpose": (None, "batch")}}, 400, "file", "missing_required_parameter"),
        (
            {"files": file, "data": {"purpose": "batch", "expires_after[seconds]": "9"}},
            400,
            "form",
            "unsupported_parameter",
        ),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]}, 400, None, "invalid_form"),
        ({"files": file, "data": {"purpose": "x" * 5000}}, 400, None, "invalid_form"),
        ({"json": {"purpose": "batch"}}, 415, None, "unsupported_media_type"),
    ]
    for parts, status, param, code in rows:
        response = form(url, **parts)
        assert response.status_code == status, response.text
        assert (error_of(response)["param"], error_of(response)["code"]) == (param, code)
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    for content in (b"", b"--x", b"no form", b"--x\r\n\r\nx\r\n--x--\r\n"):
        response = form(url, content=content, headers=head)
        assert response.status_code == 400, (content, response.text)
    without = form(url, content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert error_of(without)["code"] == "invalid_form"


def test_large_files_are_refused_as_they_come(url: str) -> None:
    def drip() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield b" " * (1 << 15)

    head = {"Content-Type": "multipart/form-data; boundary=x"}
    chunked = form(url, content=drip(), headers=head)
    announced = form(url, files={"file": ("a", b"x" * (1 << 21))}, data={"purpose": "batch"})
    for response in (chunked, announced):
        assert response.status_code == 413 and error_of(response)["param"] == "file"


def test_a_full_folder_takes_no_more(tiny_checkpoint: Path, tmp_path: Path) -> None:
    app = make_app(tiny_checkpoint, batch_dir=str(tmp_path), max_batch_dir_bytes=100)
    with run_server(app) as url:
        first = form(url, files={"file": ("a", b"x" * 100)}, data={"purpose": "batch"})
        second = form(url, files={"file": ("a", b"x")}, data={"purpose": "batch"})
        assert second.status_code == 413 and error_of(second)["code"] == "storage_full"
        httpx.delete(f"{url}/v1/files/{first.json()['id']}")
        third = form(url, files={"file": ("a", b"x")}, data={"purpose": "batch"})
        assert third.status_code == 200


def test_only_so_many_uploads_at_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MAX_UPLOADS", 0)
    response = form(url, files={"file": ("a", b"x")}, data={"purpose": "batch"})
    assert response.status_code == 503


def test_without_a_folder_the_flag_is_named(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint)) as url:
        for method, path in [
            ("POST", "/v1/files"),
            ("GET", "/v1/files"),
            ("GET", "/v1/files/x/content"),
            ("DELETE", "/v1/files/x"),
            ("POST", "/v1/batches"),
            ("GET", "/v1/batches"),
            ("POST", "/v1/batches/x/cancel"),
        ]:
            response = httpx.request(method, url + path)
            assert response.status_code == 404 and "--batch-dir" in error_of(response)["message"]


def test_one_server_per_folder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from server.batches.database import Database, DatabaseBusyError

    with run_server(make_app(tiny_checkpoint, batch_dir=str(tmp_path))):
        with pytest.raises(DatabaseBusyError):
            Database(tmp_path / "batches.sqlite3")
    Database(tmp_path / "batches.sqlite3").close()


# ------------------------------------------------------------------ batches


def test_a_batch_from_begin_to_end(client: openai.OpenAI, engine: FakeEngine) -> None:
    engine.requests.clear()
    content = lines(HELLO, {**HELLO, "max_tokens": 3, "priority": -1_000_000}, HELLO)
    batch = start(client, content, metadata={"project": "x"})
    assert batch.status == "validating" and batch.object == "batch"
    batch = finished(client, batch.id)
    assert batch.status == "completed" and batch.metadata == {"project": "x"}
    counts = batch.request_counts
    assert counts is not None and (counts.total, counts.completed, counts.failed) == (3, 3, 0)
    assert batch.error_file_id is None and batch.completion_window == "24h"
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at
    assert batch.expires_at == batch.created_at + 24 * 3600
    rows = results(client, batch.output_file_id)
    assert list(rows) == ["r0", "r1", "r2"]
    for row in rows.values():
        assert row["response"]["status_code"] == 200 and row["error"] is None
        answer = row["response"]["body"]
        assert answer["object"] == "chat.completion" and answer["usage"]["completion_tokens"] == 4
        assert answer["choices"][0]["message"]["content"] == "Hello 👋"
    assert all(request.priority > MAX_PRIORITY for request in engine.requests)
    file = client.files.retrieve(batch.output_file_id or "")
    assert file.purpose == "batch_output" and file.filename == f"{batch.id}_output.jsonl"
    assert batch.id in [each.id for each in client.batches.list(limit=1)]


def test_text_completions_too(client: openai.OpenAI) -> None:
    batch = start(client, lines({"prompt": ["a", "b"]}, url=TEXT), TEXT)
    (row,) = results(client, finished(client, batch.id).output_file_id).values()
    assert len(row["response"]["body"]["choices"]) == 2


def test_bad_bodies_end_their_own_line_only(client: openai.OpenAI) -> None:
    bad_picture = {"type": "image_url", "image_url": {"url": "http://h/bad"}}
    rows: list[tuple[Any, int, str]] = [
        ({"messages": []}, 400, "invalid_value"),
        ({**HELLO, "temperature": 9}, 400, "invalid_value"),
        ({**HELLO, "stream": True}, 400, "invalid_value"),
        ({**HELLO, "model": "other"}, 404, "model_not_found"),
        ([], 400, "invalid_type"),
        (None, 400, "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [bad_picture]}]},
            400,
            "media_decode_failed",
        ),
        (
            {"messages": [{"role": "user", "content": "a b " * 5000}]},
            400,
            "context_length_exceeded",
        ),
    ]
    batch = finished(client, start(client, lines(HELLO, *(row[0] for row in rows), HELLO)).id)
    counts = batch.request_counts
    assert batch.status == "completed" and counts is not None
    assert (counts.total, counts.completed, counts.failed) == (len(rows) + 2, 2, len(rows))
    assert list(results(client, batch.output_file_id)) == ["r0", f"r{len(rows) + 1}"]
    told = results(client, batch.error_file_id)
    for index, (_, status, code) in enumerate(rows, start=1):
        response = told[f"r{index}"]["response"]
        assert (response["status_code"], response["body"]["error"]["code"]) == (status, code)


def line(**fields: Any) -> bytes:
    whole = {"custom_id": "a", "method": "POST", "url": CHAT, "body": HELLO, **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("content", "code", "number"),
    [
        (b"", "empty_file", None),
        (b"\n \n", "empty_file", None),
        (line() + b"\nno json", "invalid_json_line", 2),
        (line() + b"\n" + line(), "duplicate_custom_id", 2),
        (line(custom_id=None), "invalid_line", 1),
        (line(custom_id=5), "invalid_line", 1),
        (line(custom_id=""), "invalid_custom_id", 1),
        (line(custom_id="x" * 513), "invalid_custom_id", 1),
        (b"\n" + line(method="GET"), "invalid_method", 2),
        (line(url=TEXT), "invalid_url", 1),
        (line(body=None), "invalid_line", 1),
        (b"[]", "invalid_line", 1),
        (b"\xff\xfe", "invalid_json_line", 1),
        (line(user="x" * (1 << 16)), "line_too_long", 1),
        (b"\n".join(line(custom_id=str(i), body=0) for i in range(9)) * 2, "invalid_json_line", 9),
    ],
    ids=range(15),
)
def test_what_is_no_batch_fails_before_anything_runs(
    client: openai.OpenAI, engine: FakeEngine, content: bytes, code: str, number: int | None
) -> None:
    engine.requests.clear()
    batch = finished(client, start(client, content).id)
    assert batch.status == "failed" and batch.failed_at and not engine.requests
    assert batch.errors is not None and batch.errors.data
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, number)
    assert batch.output_file_id is None and batch.error_file_id is None


def test_too_many_lines(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.batches.lines.MAX_LINES", 2)
    batch = finished(client, start(client, lines(HELLO, HELLO, HELLO)).id)
    assert batch.errors is not None and batch.errors.data
    assert batch.errors.data[0].code == "too_many_lines"


def test_wishes_for_batches_that_cannot_be(client: openai.OpenAI, url: str) -> None:
    file_id = upload(client, lines(HELLO))
    fine = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    rows: list[tuple[dict[str, Any], int, str]] = [
        ({"input_file_id": "file-x"}, 404, "input_file_id"),
        ({"input_file_id": "../x"}, 404, "input_file_id"),
        ({"endpoint": "/v1/embeddings"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"metadata": {"a": 1}}, 400, "metadata"),
        ({"metadata": {"a" * 65: "x"}}, 400, "metadata"),
        ({"metadata": {str(i): "x" for i in range(17)}}, 400, "metadata"),
        ({"output_expires_after": {"seconds": 9}}, 400, "output_expires_after"),
    ]
    for fields, status, param in rows:
        response = httpx.post(f"{url}/v1/batches", json={**fine, **fields})
        assert response.status_code == status, response.text
        assert error_of(response)["param"] == param
    done = finished(client, start(client, lines(HELLO)).id)
    again = httpx.post(f"{url}/v1/batches", json={**fine, "input_file_id": done.output_file_id})
    assert again.status_code == 400
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.cancel(done.id)
    assert caught.value.code == "batch_not_cancellable"
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_x")


class Gate:
    """An engine's script that answers a few requests and then holds all until it is opened."""

    def __init__(self, num_free: int) -> None:
        self.num_free = num_free
        self.opened = threading.Event()

    async def __call__(self, request: GenerationRequest) -> AsyncIterator[TextDelta]:
        self.num_free -= 1
        if self.num_free < 0:
            await asyncio.to_thread(self.opened.wait, 10)
        async for delta in say_hello(request):
            yield delta


def serve(
    tiny_checkpoint: Path, folder: Path, script: Script, **settings: Any
) -> tuple[FakeEngine, Any]:
    engine = FakeEngine(script)
    app = make_app(tiny_checkpoint, engine, batch_dir=str(folder), **settings)
    return engine, run_server(app)


def wait_for(done: Any) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_cancelling_keeps_what_is_done(tiny_checkpoint: Path, tmp_path: Path) -> None:
    engine, server = serve(tiny_checkpoint, tmp_path, Gate(3), max_num_seqs=4)
    with server as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        batch = start(client, lines(*[HELLO] * 12))
        wait_for(lambda: len(engine.requests) == 5)
        with pytest.raises(openai.BadRequestError) as caught:
            client.files.delete(batch.input_file_id)
        assert caught.value.code == "file_in_use"
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        batch = finished(client, batch.id)
        assert batch.status == "cancelled" and batch.cancelling_at and batch.cancelled_at
        assert client.batches.cancel(batch.id).status == "cancelled"
        done, told = (results(client, i) for i in (batch.output_file_id, batch.error_file_id))
        assert len(done) == 3 and len(told) == 9 and not done.keys() & told.keys()
        assert {row["error"]["code"] for row in told.values()} == {"batch_cancelled"}
        assert len(engine.aborted) == 2
        assert client.files.delete(batch.input_file_id).deleted


def test_an_old_batch_expires(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.batches.batches._WINDOW_S", 1)
    _, server = serve(tiny_checkpoint, tmp_path, Gate(1), max_num_seqs=4)
    with server as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        batch = finished(client, start(client, lines(*[HELLO] * 4)).id)
        assert batch.status == "expired" and batch.expired_at
        assert len(results(client, batch.output_file_id)) == 1
        told = results(client, batch.error_file_id)
        assert {row["error"]["code"] for row in told.values()} == {"batch_expired"}
        assert len(told) == 3


def test_a_restart_goes_on_where_it_was(tiny_checkpoint: Path, tmp_path: Path) -> None:
    engine, server = serve(tiny_checkpoint, tmp_path, Gate(5), max_num_seqs=4)
    with server as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        batch = start(client, lines(*[HELLO] * 12))
        wait_for(lambda: len(engine.requests) == 7)
        (tmp_path / "files" / "file-half.partial").write_bytes(b"half")
    engine, server = serve(tiny_checkpoint, tmp_path, say_hello)
    with server as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        assert len(results(client, finished(client, batch.id).output_file_id)) == 12
        assert len(engine.requests) == 7  # those that were under way, and those never begun
        assert not (tmp_path / "files" / "file-half.partial").exists()


def test_batches_wait_while_the_house_is_full(tiny_checkpoint: Path, tmp_path: Path) -> None:
    gate = Gate(0)
    engine, server = serve(tiny_checkpoint, tmp_path, gate, max_num_seqs=1, max_waiting_requests=0)
    with server as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        live = threading.Thread(target=post, args=(url, HELLO))
        live.start()
        wait_for(lambda: engine.requests)
        batch = start(client, lines(HELLO, HELLO))
        time.sleep(0.3)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        assert len(engine.requests) == 1
        gate.opened.set()
        batch = finished(client, batch.id)
        live.join()
        assert batch.request_counts is not None and batch.request_counts.completed == 2


def test_a_line_is_tried_once_more_when_the_engine_dies_under_it(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    fate: dict[str, int] = {}

    async def die(request: GenerationRequest) -> AsyncIterator[TextDelta]:
        fate[request.request_id] = fate.get(request.request_id, 0) + 1
        if fate[request.request_id] <= request.sampling.max_tokens - 4:
            raise EngineError("The engine stopped while it worked on this request.")
        async for delta in say_hello(request):
            yield delta

    _, server = serve(tiny_checkpoint, tmp_path, die)
    with server as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        bodies = [{**HELLO, "max_tokens": 4 + deaths} for deaths in range(3)]
        batch = finished(client, start(client, lines(*bodies)).id)
        assert list(results(client, batch.output_file_id)) == ["r0", "r1"]
        (row,) = results(client, batch.error_file_id).values()
        assert row["custom_id"] == "r2" and row["response"]["status_code"] == 500


def test_keys_guard_files_and_batches(tiny_checkpoint: Path, tmp_path: Path) -> None:
    app = make_app(tiny_checkpoint, batch_dir=str(tmp_path), api_key=("k",))
    with run_server(app) as url:
        for path in ("/v1/files", "/v1/batches", "/v1/files/x/content"):
            assert httpx.get(url + path).status_code == 401


def test_responses_as_lines(client: openai.OpenAI) -> None:
    url = "/v1/responses"
    first = client.responses.create(model="tiny", input="Hi")
    bodies = [
        {"input": "Hi"},
        {"input": "Hi", "store": True, "previous_response_id": first.id},
        {"input": "Hi", "stream": True},
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        {"input": "Hi", "previous_response_id": "resp_0"},
    ]
    batch = finished(client, start(client, lines(*bodies, url=url), endpoint=url).id)
    good = results(client, batch.output_file_id)
    assert sorted(good) == ["r0", "r1"]
    plain, stored = (good[name]["response"]["body"] for name in ("r0", "r1"))
    assert plain["output"][0]["content"][0]["text"] == first.output_text
    assert (plain["store"], stored["store"]) == (False, True)
    assert client.responses.retrieve(stored["id"]).output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(plain["id"])
    bad = results(client, batch.error_file_id)
    params = {name: row["response"]["body"]["error"]["param"] for name, row in bad.items()}
    assert params == {
        "r2": "stream",
        "r3": "input[0].content[0].text",
        "r4": "previous_response_id",
    }
