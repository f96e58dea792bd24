"""Rows U52–U58: `file:` URLs, inside the one allowed folder."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.media.makers import encoded, photo
from tests.server.media.over_http import ask, check, media_server

PICTURE = encoded(photo(56, 56))
INVALID, BLOCKED, FAILED = "media_url_invalid", "media_url_blocked", "media_fetch_failed"


@pytest.fixture(scope="module")
def with_folder(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("media")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_bytes(PICTURE)
    (root / "a.png").write_bytes(PICTURE)
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "sub").mkdir()
    os.mkfifo(root / "fifo")
    (root / "zero").symlink_to("/dev/zero")
    with media_server(tiny_checkpoint, allowed_local_media_path=str(root)) as url:
        yield url, root


@pytest.mark.parametrize(
    ("row", "path", "codes"),
    [
        ("U52", "file://{root}/../outside0/secret.png", BLOCKED),
        ("U52", "file://{root}/%2e%2e/outside0/secret.png", BLOCKED),
        ("U52", "file://{root}/..%2foutside0/secret.png", BLOCKED),
        ("U53", "file://{root}/link.png", BLOCKED),
        ("U53", "file://{root}/folder/secret.png", BLOCKED),
        ("U54", "file://host{root}/a.png", INVALID),
        ("U54", "file:media/a.png", INVALID),
        ("U54", "file:///{root}/a.png", INVALID),
        ("U55", "file://{root}/sub", BLOCKED),
        ("U55", "file://{root}/fifo", BLOCKED),
        ("U55", "file://{root}/zero", BLOCKED),
        ("U55", "file:///proc/self/environ", BLOCKED),
        ("U57", "file://{root}/missing.png", FAILED),
        ("fine", "file://{root}/a.png", "200"),
    ],
)
def test_local_files(with_folder: tuple[str, Path], row: str, path: str, codes: str) -> None:
    base, root = with_folder
    started = time.monotonic()
    check(ask(base, path.format(root=root)), codes)
    assert time.monotonic() - started < 2


def test_u56_what_lies_outside_cannot_be_guessed(with_folder: tuple[str, Path]) -> None:
    base, _ = with_folder
    assert ask(base, "file:///etc/passwd").text == ask(base, "file:///etc/nothing").text


def test_u58_a_file_swapped_for_a_link(
    with_folder: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swapped between the check of its name and its opening: the descriptor is checked too."""
    base, root = with_folder
    victim, secret = root / "swap.png", root / "link.png"
    victim.write_bytes(PICTURE)
    real_open = os.open

    def swapped(path: Path, flags: int, *more: int) -> int:
        if Path(path).name == "swap.png":
            victim.unlink()
            victim.symlink_to(os.readlink(secret))
        return real_open(path, flags, *more)

    monkeypatch.setattr("server.media.local_file.os.open", swapped)
    check(ask(base, f"file://{victim}"), BLOCKED)
