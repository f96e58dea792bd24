"""Settings: flags over environment over defaults, and nothing that cannot work."""

import argparse
import dataclasses

import pytest

from server.settings import (
    MediaLimits,
    ServerSettings,
    SettingsError,
    add_arguments,
    flag,
    parse_size,
    read_settings,
)


def read(*arguments: str, **environment: str) -> ServerSettings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_settings(parser.parse_args(arguments), environment)


def test_defaults_are_the_dataclass_own() -> None:
    assert read() == ServerSettings()


def test_flags_win_over_the_environment() -> None:
    settings = read("folder", "--port", "9", INTERNVL_PORT="8", INTERNVL_MAX_NUM_SEQS="3")
    assert (settings.model, settings.port, settings.max_num_seqs) == ("folder", 9, 3)


def test_keys_come_repeated_or_separated_by_commas() -> None:
    assert read("--api-key", "a", "--api-key", "b").api_key == ("a", "b")
    assert read(INTERNVL_API_KEY="a, b").api_key == ("a", "b")
    assert "secret" not in repr(read("--api-key", "secret"))


@pytest.mark.parametrize("text", ["image=3", '{"image": 3}', "image=3,video=4"])
def test_media_limits_keep_what_is_not_named(text: str) -> None:
    assert read("--limit-mm-per-prompt", text).limit_mm_per_prompt == MediaLimits(3, 4)


def test_sizes_take_units() -> None:
    assert [parse_size(text) for text in ("7", "2k", "1.5GiB", "3 mb")] == [
        7,
        2048,
        3 << 29,
        3 << 20,
    ]
    assert read("--kv-cache-memory-bytes", "4GiB").kv_cache_memory_bytes == 4 << 30


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "x"),
        ("--port", "70000"),
        ("--max-num-seqs", "0"),
        ("--max-num-batched-tokens", "1"),
        ("--gpu-memory-utilization", "1.5"),
        ("--kv-cache-memory-bytes", "lots"),
        ("--limit-mm-per-prompt", "audio=1"),
        ("--limit-mm-per-prompt", "image=-1"),
    ],
)
def test_a_bad_value_names_its_flag(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=arguments[0]):
        read(*arguments)


def test_a_bad_variable_names_itself() -> None:
    with pytest.raises(SettingsError, match="INTERNVL_PORT"):
        read(INTERNVL_PORT="x")
    with pytest.raises(SettingsError, match="INTERNVL_DTYPE"):
        read(INTERNVL_DTYPE="float8")


def test_every_setting_has_a_flag_with_a_one_line_help(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    shown = parser.format_help()
    for setting in dataclasses.fields(ServerSettings):
        assert len(setting.metadata["help"]) < 80
        assert setting.name == "model" or flag(setting.name) in shown


def test_the_worker_gets_its_part() -> None:
    config = read("--max-num-seqs", "5", "--device", "cpu").engine_config("folder")
    assert (config.checkpoint_path, config.max_num_seqs, config.device) == ("folder", 5, "cpu")
