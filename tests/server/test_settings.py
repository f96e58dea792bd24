"""Settings: flags over environment over defaults, and nothing that cannot work."""

import argparse
import dataclasses
from pathlib import Path

import pytest

from server.setting_values import parse_size
from server.settings import (
    MediaLimits,
    ServerSettings,
    SettingsError,
    add_arguments,
    flag,
    read_settings,
    show_settings,
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


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_key_is_not_no_key(value: str) -> None:
    with pytest.raises(SettingsError, match="--api-key"):
        read("--api-key", value)
    assert read(INTERNVL_API_KEY="").api_key == ()


def test_a_switch_is_on_or_off() -> None:
    assert read(INTERNVL_REQUIRE_API_KEY="Yes").require_api_key
    assert not read(INTERNVL_REQUIRE_API_KEY="0").require_api_key
    with pytest.raises(SettingsError, match="INTERNVL_REQUIRE_API_KEY"):
        read(INTERNVL_REQUIRE_API_KEY="ture")


def test_the_file_loses_against_variables_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        """
        model = "folder"
        port = 1
        max-num-seqs = 2
        max_waiting_requests = 3
        require-api-key = true
        gpu-memory-utilization = 0.5
        kv-cache-memory-bytes = "1GiB"
        max-body-bytes = 1000
        limit-mm-per-prompt = {image = 3}
        allowed-hosts = ["a", "b"]
        """
    )
    settings = read("--config", str(path), "--port", "9", INTERNVL_MAX_NUM_SEQS="8")
    assert (settings.port, settings.max_num_seqs, settings.max_waiting_requests) == (9, 8, 3)
    assert (settings.model, settings.require_api_key) == ("folder", True)
    assert settings.gpu_memory_utilization == 0.5 and settings.max_body_bytes == 1000
    assert settings.kv_cache_memory_bytes == 1 << 30
    assert settings.limit_mm_per_prompt == MediaLimits(image=3)
    assert settings.allowed_hosts == ("a", "b")
    assert read(INTERNVL_CONFIG=str(path)).port == 1


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("max-num-seq = 1", "'max-num-seq'.*'max-num-seqs'"),
        ("[server]\nport = 1", "'server'"),
        ("config = 'x'", "'config'"),
        ("port = 1.5", "port"),
        ("port = true", "port"),
        ("port = [1]", "port"),
        ("host = [1]", "host"),
        ("require-api-key = 2", "require_api_key"),
        ("dtype = 'float8'", "dtype"),
        ("max_num_seqs = 1\nmax-num-seqs = 2", "twice"),
        ("port = ", "TOML"),
        ("port = 1\nport = 2", "TOML"),
    ],
)
def test_a_bad_line_in_the_file_is_named(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(line)
    with pytest.raises(SettingsError, match=named):
        read("--config", str(path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        for name in ("--config", "--api-key-file"):
            with pytest.raises(SettingsError, match=str(path)):
                read(name, str(path))


def test_keys_from_a_file_join_the_others(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\n\n one \ntwo,2\n")
    settings = read("--api-key-file", str(path), INTERNVL_API_KEY="zero")
    assert settings.api_key == ("zero", "one", "two,2")
    path.write_text("# nobody\n")
    with pytest.raises(SettingsError, match="no key"):
        read("--api-key-file", str(path))


def test_what_is_shown_is_a_file_that_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    settings = read("--max-num-seqs", "3", "--allowed-hosts", 'a"b', "--max-body-bytes", "1MiB")
    path.write_text(show_settings(settings))
    assert dataclasses.replace(read("--config", str(path)), config=None) == settings
    assert show_settings(settings).count("\n") == len(dataclasses.fields(settings))


def test_no_key_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("s3cret-b")
    settings = read("--api-key", "s3cret-a", "--api-key-file", str(path))
    assert "s3cret" not in show_settings(settings) + repr(settings)
    assert "api-key: 2 given" in show_settings(settings)
    with pytest.raises(SettingsError) as refusal:
        read(INTERNVL_API_KEY="s3cret-a, ,")
    assert "s3cret" not in str(refusal.value)


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
