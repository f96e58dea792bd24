"""`openai` for Python and the other endpoints: completions, models, files, batches, errors."""

import json
import time
from typing import Any

import openai
import pytest

from tests.sdk.media import SHAPES, TRIANGLE, data_url, image, text, user

MODEL = "internvl-demo"
ENDLESS = {"max_tokens": 1500, "ignore_eos": True}


def test_several_prompts_with_echo_and_probabilities(client: openai.OpenAI) -> None:
    prompts = ["One, two,", "A red"]
    answer = client.completions.create(
        model=MODEL, prompt=prompts, echo=True, logprobs=1, max_tokens=4, temperature=0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice, prompt in zip(answer.choices, prompts, strict=True):
        assert choice.text.startswith(prompt)
        assert choice.logprobs is not None and choice.logprobs.token_logprobs is not None
        assert choice.logprobs.tokens is not None
        assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs)


def test_a_stream_says_what_the_whole_says(client: openai.OpenAI) -> None:
    options: Any = {"model": MODEL, "prompt": "One, two,", "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**options).choices[0].text
    pieces = client.completions.create(**options, stream=True)
    assert "".join(chunk.choices[0].text for chunk in pieces if chunk.choices) == whole


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == MODEL and client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"


def bodies_of(url: str, names: list[str]) -> list[dict[str, Any]]:
    if url == "/v1/completions":
        return [{"prompt": "One,", "max_tokens": 3} for _ in names]
    if url == "/v1/chat/completions":
        question = text("Describe the image.")
        return [{"messages": [user(image(name), question)]} for name in names]
    parts = [
        [{"type": "input_image", "image_url": data_url(name)}, {"type": "input_text", "text": "?"}]
        for name in names
    ]
    return [{"input": [{"role": "user", "content": content}]} for content in parts]


def lines_of(url: str, names: list[str]) -> bytes:
    rows = (
        {"custom_id": f"{number}-{name}", "method": "POST", "url": url, "body": body}
        for number, (name, body) in enumerate(zip(names, bodies_of(url, names), strict=True))
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def finished(client: openai.OpenAI, batch_id: str) -> Any:
    deadline = time.monotonic() + 30
    while (batch := client.batches.retrieve(batch_id)).status not in ("completed", "cancelled"):
        assert time.monotonic() < deadline and batch.status != "failed", batch
        time.sleep(0.05)
    return batch


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_batch_from_file_to_file(client: openai.OpenAI, url: Any) -> None:
    names = ["shapes.png", "triangle.png"] * 3
    file = client.files.create(file=("in.jsonl", lines_of(url, names)), purpose="batch")
    assert client.files.retrieve(file.id).filename == "in.jsonl"
    batch = client.batches.create(
        input_file_id=file.id, endpoint=url, completion_window="24h", metadata={"who": "me"}
    )
    done = finished(client, batch.id)
    assert (done.request_counts.completed, done.request_counts.failed) == (6, 0)
    assert batch.id in [one.id for one in client.batches.list(limit=5)]
    rows = [
        json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()
    ]
    assert [row["custom_id"] for row in rows] == [f"{i}-{name}" for i, name in enumerate(names)]
    if url == "/v1/chat/completions":
        said = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
        assert said == [SHAPES, TRIANGLE] * 3
    for file_id in (file.id, done.output_file_id):
        assert client.files.delete(file_id).deleted


def test_a_batch_is_cancelled(client: openai.OpenAI) -> None:
    body = {"messages": [{"role": "user", "content": "Count to 20."}], **ENDLESS}
    rows = [
        {"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for i in range(100)
    ]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert finished(client, batch.id).status == "cancelled"


def test_what_is_wrong_is_named(client: openai.OpenAI) -> None:
    bad: Any = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[user(text("Hi"), bad)])
    error = caught.value
    assert error.param == "messages[0].content[1].image_url.url" and error.request_id
    assert isinstance(error.body, dict) and set(error.body) == {"message", "type", "param", "code"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[user("Hi")], temperature=3)
    assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")


def test_raw_answers_and_headers(client: openai.OpenAI) -> None:
    told = client.with_options(default_headers={"X-Request-Id": "my-own-id"})
    raw = told.chat.completions.with_raw_response.create(
        model=MODEL, messages=[user("Count to 5.")]
    )
    assert raw.status_code == 200 and raw.headers["x-request-id"] == "my-own-id"
    assert raw.parse().choices[0].message.content == "1, 2, 3, 4, 5."


def test_time_that_runs_out(client: openai.OpenAI) -> None:
    """By the server's deadline, and by the client's own."""
    question = {"model": MODEL, "messages": [user("Count to 20.")], "extra_body": ENDLESS}
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**question, extra_headers={"X-Request-Timeout": "0.2"})
    assert caught.value.status_code == 504 and caught.value.code == "deadline_exceeded"
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).chat.completions.create(**question)
