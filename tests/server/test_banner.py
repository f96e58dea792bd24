"""The words at the start: what is served, in which limits, and a command that works."""

import logging

import pytest

from server.banner import announce, base_url
from server.engine.types import EngineInfo
from server.settings import ServerSettings

INFO = EngineInfo("tiny", 2048, "cpu", "float32", "native", 8192)


def test_it_tells_the_model_its_limits_and_a_command(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    settings = ServerSettings(api_key=("secret",), max_num_seqs=7, request_timeout=30)
    announce(settings, "my-model", INFO, 8123)
    ready, page, command = caplog.messages
    for fact in ("my-model (native, float32, cpu)", "2048 tokens", "8192", "7 computed", "30 s"):
        assert fact in ready
    assert "secret" not in ready + command
    assert page == "open: http://127.0.0.1:8123/"
    assert command.startswith("try: curl http://127.0.0.1:8123/v1/chat/completions ")
    assert caplog.records[0].fields["event"] == "ready"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ServerSettings(host="::1"), "http://[::1]:1"),
        (ServerSettings(ssl_certfile="c", root_path="/llm"), "https://127.0.0.1:1/llm"),
    ],
)
def test_the_url_is_the_one_to_use(settings: ServerSettings, expected: str) -> None:
    assert base_url(settings, 1) == expected
