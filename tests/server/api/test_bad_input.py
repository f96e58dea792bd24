"""Every bad body is refused with a 400 that names the field, and never echoes it.

The rows are those of the bad-input corpus that belong to chat completions.
"""

from typing import Any

import pytest

from tests.fakes import FakeEngine, FakeMedia
from tests.server.api.client import HELLO, error_of, post
from tests.server.api.corpus import FIELD_ROWS, FINE_FIELDS, JSON_ROWS, MESSAGE_ROWS

ROWS = [*JSON_ROWS, *MESSAGE_ROWS, *FIELD_ROWS]


@pytest.mark.parametrize(
    ("body", "code", "param"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_bad_body_is_a_400_that_names_the_field(
    url: str, body: Any, code: str, param: str | None
) -> None:
    response = post(url, body if isinstance(body, bytes) else HELLO | body)
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param), response.text
    assert error["type"] == "invalid_request_error" and len(response.text) < 1500


@pytest.mark.parametrize("fields", FINE_FIELDS, ids=range(len(FINE_FIELDS)))
def test_values_that_ask_for_nothing_unusual_are_fine(url: str, fields: dict[str, Any]) -> None:
    response = post(url, HELLO | fields)
    assert response.status_code == 200, response.text


def test_colder_than_cold_is_greedy(url: str, engine: FakeEngine) -> None:
    for fields in ({"temperature": 5e-324}, {"temperature": 1.5, "top_p": 0}):
        post(url, HELLO | fields)
        sampling = engine.requests[-1].sampling
        assert sampling.temperature == 0.0 and sampling.top_p == 1.0


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "text/plain"}, "unsupported_media_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"Content-Type": "application/json; charset=utf-16"}, "unsupported_media_type"),
        ({"Content-Encoding": "gzip"}, "unsupported_encoding"),
    ],
)
def test_only_plain_json_is_read(url: str, headers: dict[str, str], code: str) -> None:
    response = post(url, HELLO, headers=headers)
    assert response.status_code == 415 and error_of(response)["code"] == code
    charset = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert post(url, HELLO, headers=charset).status_code == 200


def test_errors_echo_no_input(url: str) -> None:
    secret = "s3cret" * 1000
    response = post(url, {**HELLO, "temperature": secret, "top_p": secret, "seed": secret})
    assert "s3cret" not in response.text and len(response.text) < 1500


def test_media_errors_name_their_part(url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": "http://h/bad"}}]
    response = post(url, {"messages": [{"role": "user", "content": content}]})
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "media_decode_failed"
    assert error["param"] == "messages[0].content[0].image_url.url"


def test_too_many_images_are_refused_before_loading(url: str, media: FakeMedia) -> None:
    media.requests.clear()
    content = [{"type": "image_url", "image_url": "http://h/x"}] * 17
    response = post(url, {"messages": [{"role": "user", "content": content}]})
    assert response.status_code == 400 and not media.requests


def test_an_over_long_prompt_names_both_numbers(url: str) -> None:
    response = post(url, {"messages": [{"role": "user", "content": "a b " * 5000}]})
    assert response.status_code == 400
    assert error_of(response)["code"] == "context_length_exceeded" and "2048" in response.text
