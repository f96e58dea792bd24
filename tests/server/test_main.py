"""The command line: what it prints and the status it ends with."""

import logging
import resource
from pathlib import Path

import pytest

from server.__main__ import _check_key, _checkpoint, _raise_descriptor_limit, main
from server.settings import ServerSettings, SettingsError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0 and capsys.readouterr().out.count(".") == 2


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--print-config", "--api-key", "s3cret", "--port", "9"]) == 0
    shown = capsys.readouterr().out
    assert "port = 9\n" in shown and "s3cret" not in shown


def test_a_missing_model_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "./no-such-folder"]) == 2
    assert "no folder './no-such-folder'" in capsys.readouterr().err


def test_a_bad_flag_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "x"]) == 2
    assert "--port" in capsys.readouterr().err


def test_a_folder_is_named_by_its_last_part(tiny_checkpoint: Path) -> None:
    checkpoint = _checkpoint(ServerSettings(model=str(tiny_checkpoint)))
    assert checkpoint.model_id == tiny_checkpoint.name
    assert _checkpoint(ServerSettings()).model_id == "internvl-demo"


def test_an_open_door_is_shouted_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _check_key(ServerSettings())
        _check_key(ServerSettings(host="0.0.0.0", api_key=("k",)))
        assert not caplog.records
        _check_key(ServerSettings(host="0.0.0.0"))
        assert "--api-key" in caplog.text
    with pytest.raises(SettingsError):
        _check_key(ServerSettings(host="0.0.0.0", require_api_key=True))


def test_there_are_descriptors_for_all_connections() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        _raise_descriptor_limit(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (712, before[1])
        _raise_descriptor_limit(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (712, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
