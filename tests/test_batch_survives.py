"""A batch with pictures, and a server that is killed in the middle of it."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.batches.types import UNFINISHED
from tests.server.media.makers import data_url, encoded, photo

NUM_LINES = 200
ENDPOINT: Any = "/v1/chat/completions"


@contextmanager
def demo_server(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The product with the demo model and a folder for batches."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "server", "serve", "--port", str(port)]
    process = subprocess.Popen([*command, "--batch-dir", str(folder)])
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not _is_ready(base):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        yield f"{base}/v1", process
    finally:
        process.terminate()
        process.wait(timeout=60)


def _is_ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/readyz").status_code == 200
    except httpx.ConnectError:
        return False


def request(number: int) -> dict[str, Any]:
    url = data_url(encoded(photo(32, 32, seed=number)))
    picture = {"type": "image_url", "image_url": {"url": url}}
    question = {"type": "text", "text": f"What is in picture {number}?"}
    body = {
        "messages": [{"role": "user", "content": [picture, question]}],
        "max_tokens": 24,
        "ignore_eos": True,
        "seed": number,
        "temperature": 1.0,
    }

    return {"custom_id": f"picture-{number}", "method": "POST", "url": ENDPOINT, "body": body}


@pytest.mark.timeout(400)
def test_every_line_has_exactly_one_result_after_kill_9(tmp_path: Path) -> None:
    content = b"\n".join(json.dumps(request(number)).encode() for number in range(NUM_LINES))
    with demo_server(tmp_path) as (base, process):
        with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client:
            file = client.files.create(file=("in.jsonl", content), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h"
            )
            while (num_done := _num_done(client, batch.id)) < 40:
                time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    assert 40 <= num_done < NUM_LINES
    with demo_server(tmp_path) as (base, _):
        with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client:
            assert num_done <= _num_done(client, batch.id)
            deadline = time.monotonic() + 200
            while (batch := client.batches.retrieve(batch.id)).status in UNFINISHED:
                assert time.monotonic() < deadline, batch
                time.sleep(0.1)
            assert batch.status == "completed" and batch.error_file_id is None
            lines = client.files.content(batch.output_file_id or "").text.splitlines()
            alone = _answer_alone(client, NUM_LINES - 1)
    rows = [json.loads(line) for line in lines]
    assert [row["custom_id"] for row in rows] == [f"picture-{i}" for i in range(NUM_LINES)]
    for row in rows:
        usage = row["response"]["body"]["usage"]
        assert row["response"]["status_code"] == 200 and usage["completion_tokens"] == 24
        assert usage["prompt_tokens_details"]["image_tokens"] == 16
    said = rows[-1]["response"]["body"]["choices"][0]["message"]["content"]
    assert said == alone


def _num_done(client: openai.OpenAI, batch_id: str) -> int:
    counts = client.batches.retrieve(batch_id).request_counts
    return counts.completed if counts else 0


def _answer_alone(client: openai.OpenAI, number: int) -> str | None:
    body = request(number)["body"]
    extra = {"ignore_eos": body.pop("ignore_eos")}
    answer = client.chat.completions.create(model="internvl-demo", extra_body=extra, **body)
    text: str | None = answer.choices[0].message.content
    return text


@pytest.mark.timeout(200)
def test_live_requests_do_not_wait_for_a_batch(tmp_path: Path) -> None:
    content = b"\n".join(json.dumps(request(number)).encode() for number in range(NUM_LINES))
    with demo_server(tmp_path) as (base, _):
        with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client:
            file = client.files.create(file=("in.jsonl", content), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h"
            )
            while not _num_done(client, batch.id):
                time.sleep(0.02)
            assert _answer_alone(client, 0)
            assert _num_done(client, batch.id) < NUM_LINES
            client.batches.cancel(batch.id)
            while client.batches.retrieve(batch.id).status in UNFINISHED:
                time.sleep(0.05)
            metrics = httpx.get(base.removesuffix("/v1") + "/metrics").text
            assert re.search(r"^internvl:requests_inside 0\.0$", metrics, re.MULTILINE)
