"""U50 to U58: files are read inside the one allowed folder, and nowhere else."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from tests.server.media.conftest import PROCESSING
from tests.server.media.gate import BLOCKED, FETCH, INVALID, LARGE, OK, SCHEME, media, outcome
from tests.server.media.hostile_site import PICTURE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An allowed folder full of traps; a picture and a folder outside."""
    top = tmp_path_factory.mktemp("files")
    root, outside = top / "media", top / "outside"
    root.mkdir()
    outside.mkdir()
    (top / "media-evil").mkdir()
    for place in (root / "a b.png", outside / "secret.png", top / "media-evil" / "x.png"):
        place.write_bytes(PICTURE)
    (root / "folder").mkdir()
    (root / "large").write_bytes(b"x" * ((1 << 20) + 1))
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "linked-folder").symlink_to(outside)
    (root / "inner-link.png").symlink_to(root / "a b.png")
    (root / "circle").symlink_to(root / "circle")
    (root / "zero").symlink_to("/dev/zero")
    (root / "environ").symlink_to("/proc/self/environ")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(root / "socket"))
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(root: Path) -> AsyncIterator[MediaLoader]:
    settings = MediaSettings(
        allowed_local_media_path=str(root), num_decoders=1, max_image_bytes=1 << 20
    )
    loader = MediaLoader(settings, PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


ROWS = [
    ("U51", "/etc/passwd", SCHEME),
    ("U51.windows", "C:\\x", SCHEME),
    ("U51.home", "~/x", SCHEME),
    ("U51.relative", "./x.png", SCHEME),
    ("U52", "file://{root}/../outside/secret.png", BLOCKED),
    ("U52.escaped", "file://{root}/%2e%2e/outside/secret.png", BLOCKED),
    ("U52.slash", "file://{root}/..%2foutside/secret.png", BLOCKED),
    ("U52.prefix", "file://{root}-evil/x.png", BLOCKED),
    ("U52.etc", "file:///etc/passwd", BLOCKED),
    ("U53", "file://{root}/link.png", BLOCKED),
    ("U53.folder", "file://{root}/linked-folder/secret.png", BLOCKED),
    ("U53.circle", "file://{root}/circle", FETCH),
    ("U53.inside", "file://{root}/inner-link.png", OK),
    ("U54", "file://host{root}/a%20b.png", INVALID),
    ("U54.relative", "file:media/x", INVALID),
    ("U54.slashes", "file:///{root}/a%20b.png", INVALID),
    ("U54.localhost", "file://localhost{root}/a%20b.png", INVALID),
    ("U54.bracket", "file://[{root}", INVALID),
    ("U54.nul", "file://{root}/a%00b.png", INVALID),
    ("U54.space", "file://{root}/a b.png", INVALID),
    ("U55.folder", "file://{root}/folder", BLOCKED),
    ("U55.root", "file://{root}", BLOCKED),
    ("U55.fifo", "file://{root}/fifo", BLOCKED),
    ("U55.socket", "file://{root}/socket", BLOCKED),
    ("U55.zero", "file://{root}/zero", BLOCKED),
    ("U55.environ", "file://{root}/environ", BLOCKED),
    ("U57", "file://{root}/missing.png", FETCH),
    ("U57.no-folder", "file://{root}/a%20b.png/x", FETCH),
    ("U57.long-name", "file://{root}/" + "x" * 5000, FETCH),
    ("U57.too-large", "file://{root}/large", LARGE),
    ("good", "file://{root}/a%20b.png", OK),
    ("good.case", "FILE://{root}/a%20b.png", OK),
]


@pytest.mark.parametrize(("url", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_local_files(gate: MediaLoader, root: Path, url: str, code: str) -> None:
    found = await outcome(gate, media("image", url.replace("{root}", str(root))), within_s=1.0)
    assert found.code == code


@pytest.mark.parametrize("folder", ["/dev", "/proc"])
async def test_u55_devices_and_processes_are_no_media(folder: str) -> None:
    """Even where an operator allows their folder."""
    loader = MediaLoader(MediaSettings(allowed_local_media_path=folder), PROCESSING)
    for path in ("/dev/zero", "/proc/self/environ", "/proc/self/fd/0"):
        found = await outcome(loader, media("image", f"file://{path}"), within_s=1.0)
        assert found.code in (BLOCKED, FETCH)


async def test_u50_files_are_off_by_default(root: Path) -> None:
    loader = MediaLoader(MediaSettings(), PROCESSING)
    for url in ("file:///etc/passwd", f"file://{root}/a%20b.png"):
        assert (await outcome(loader, media("image", url))).code == SCHEME


async def test_u56_what_is_outside_is_not_told(gate: MediaLoader, root: Path) -> None:
    outside = root.parent / "outside"
    found = [
        await outcome(gate, media("image", f"file://{outside}/{name}"))
        for name in ("secret.png", "missing.png", "secret.png/x", "")
    ]
    assert {(each.code, each.message) for each in found} == {(BLOCKED, found[0].message)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_u57_an_unreadable_file(gate: MediaLoader, root: Path) -> None:
    path = root / "unreadable.png"
    path.write_bytes(PICTURE)
    path.chmod(0)
    assert (await outcome(gate, media("image", f"file://{path}"))).code == FETCH


async def test_u57_a_file_that_fails_while_it_is_read(
    gate: MediaLoader, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.media import local_file

    def broken(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local_file, "_is_regular_inside", broken)
    assert (await outcome(gate, media("image", f"file://{root}/a%20b.png"))).code == FETCH


async def test_u58_a_file_swapped_for_a_link_before_it_is_opened(
    gate: MediaLoader, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, really_open = root / "swapped.png", os.open
    path.write_bytes(PICTURE)

    def swap_and_open(name: Path, *arguments: int) -> int:
        if name == path:
            path.unlink()
            path.symlink_to(root.parent / "outside" / "secret.png")
        return really_open(name, *arguments)

    monkeypatch.setattr(os, "open", swap_and_open)
    assert (await outcome(gate, media("image", f"file://{path}"))).code == BLOCKED
