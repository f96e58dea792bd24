"""The bytes of a stream, exactly."""

import json

from server.api.wire import CompletionWire, event
from server.engine.types import TextDelta


def head_of(wire: CompletionWire) -> str:
    chunk = json.loads(wire.first_chunk(0).removeprefix(b"data: "))
    return f'"id":"chatcmpl-1","created":{chunk["created"]},"model":"m"'


def test_chunks_byte_for_byte() -> None:
    wire = CompletionWire("1", "m")
    head = f'data: {{{head_of(wire)},"object":"chat.completion.chunk","choices":[{{"index":0,'
    first = '"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
    assert wire.first_chunk(0).decode() == head + first
    text = b"".join(wire.chunks(TextDelta('a "\n\u2028👋\0', 1))).decode()
    delta = '"delta":{"content":"a \\"\\n\u2028👋\\u0000"},"logprobs":null,"finish_reason":null}]}'
    assert text == f"{head}{delta}\n\n"
    end = b"".join(wire.chunks(TextDelta("", 0, "stop"))).decode()
    assert end == head + '"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'


def test_a_model_name_cannot_confuse_the_template() -> None:
    wire = CompletionWire("1", 'a\0"\\u0000"')
    chunk = json.loads(b"".join(wire.chunks(TextDelta("x", 1))).removeprefix(b"data: "))
    assert chunk["model"] == 'a\0"\\u0000"'
    assert chunk["choices"][0]["delta"] == {"content": "x"}


def test_an_event_is_one_line() -> None:
    assert event({"a": "x\r\ny"}) == b'data: {"a":"x\\r\\ny"}\n\n'
