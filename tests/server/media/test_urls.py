"""The URL policy: nothing private is reached, nothing local is read, everything ends in time."""

import base64
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from server.errors import MediaError
from server.media import dialer
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from server.media.types import MediaRequest
from tests.server.media.conftest import PROCESSING, SETTINGS, load, load_all
from tests.server.media.makers import encoded, photo
from tests.site import Site

PICTURE = encoded(photo(56, 56))
BLOCKED = {"media_url_blocked", "media_fetch_failed"}


def image(url: str) -> MediaRequest:
    return MediaRequest("image", url, "part")


async def refusal(loader: MediaLoader, url: str) -> str | None:
    with pytest.raises(MediaError) as caught:
        await load(loader, image(url))
    error = caught.value
    assert error.param == "part" and error.status == 400
    assert not any(part in error.message for part in ("127.0.0.1", "/tmp", "/etc", "0x7"))
    return error.code


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.8.8", "[::1]", "[::]", "0", "0.0.0.0", "2130706433", "0x7f000001",
        "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "localhost", "LOCALHOST.",
        "169.254.169.254", "168.63.129.16", "100.100.100.200", "10.0.0.1", "172.16.0.1",
        "192.168.1.1", "198.18.0.1", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fec0::1]", "[fd00:ec2::254]",
        "[ff02::1]", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1",
    ],
)  # fmt: skip
async def test_private_hosts_are_never_reached(strict_loader: MediaLoader, host: str) -> None:
    assert await refusal(strict_loader, f"http://{host}/x.png") in BLOCKED


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://", "media_url_invalid"),
        ("http:///x", "media_url_invalid"),
        ("http://h/" + "x" * 9000, "media_url_invalid"),
        ("http://①②⑦.⓪.⓪.①/", "media_url_invalid"),
        ("http://127。0。0。1/", "media_url_invalid"),
        ("http://user:pw@good.example/", "media_url_invalid"),
        ("http://127.0.0.1\\@good.example/", "media_url_invalid"),
        ("http://good.example/\r\nX: y", "media_url_invalid"),
        (" http://good.example/", "media_url_scheme"),
        ("http://good.example:99999/", "media_url_invalid"),
        ("http://good.example:0/", "media_url_invalid"),
        ("http://[::1/", "media_url_invalid"),
        ("http://127.0.0.1%2f.good/", "media_url_invalid"),
        ("//h/x", "media_url_scheme"),
        ("x", "media_url_scheme"),
        ("", "media_url_invalid"),
        ("ftp://h/x", "media_url_scheme"),
        ("concat:a|b", "media_url_scheme"),
        ("javascript:1", "media_url_scheme"),
        ("/etc/passwd", "media_url_scheme"),
        ("C:\\x", "media_url_scheme"),
        ("file:///etc/passwd", "media_url_scheme"),
        ("http://127.0.0.1#@good.example/", "media_url_blocked"),
        ("data:image/png;base64", "media_url_invalid"),
        ("data:,hello", "media_url_invalid"),
        ("data:text/plain;base64,aGk=", "media_unsupported_type"),
        ("data:video/mp4;base64,aGk=", "media_unsupported_type"),
        ("data:image/png;base64,", "media_url_invalid"),
        ("data:image/png;base64,abc", "media_url_invalid"),
        ("data:image/png;base64,ab c=", "media_url_invalid"),
        ("data:image/png;base64,a-_=", "media_url_invalid"),
    ],
)
async def test_bad_urls_are_refused(strict_loader: MediaLoader, url: str, code: str) -> None:
    assert await refusal(strict_loader, url) == code


async def test_data_urls_are_case_blind_and_sized_before_decoding(loader: MediaLoader) -> None:
    payload = base64.b64encode(PICTURE).decode()
    for head in ("DATA:IMAGE/PNG;BASE64", "data:image/jpeg;charset=utf-8;base64"):
        assert (await load(loader, image(f"{head},{payload}"))).tile_sets[0].num_tiles == 1
    huge = "data:image/png;base64," + "A" * (SETTINGS.max_image_bytes * 2)
    assert await refusal(loader, huge) == "media_too_large"


async def test_a_picture_by_url(loader: MediaLoader, site: Site) -> None:
    """The bytes decide, and the request carries nothing but what it must."""
    url = site.put("/a%20b.png", PICTURE, Content_Type="text/html", Set_Cookie="a=1")
    await load(loader, image(url + "#fragment"))
    await load(loader, image(url))
    headers = site.seen[-1][1]
    assert headers["Accept-Encoding"] == "identity" and "Cookie" not in headers
    assert site.seen[0][0] == "/a%20b.png"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"body": b"", "status": 404}, "media_fetch_failed"),
        ({"body": b"", "status": 500}, "media_fetch_failed"),
        ({"body": b"", "status": 204}, "media_fetch_failed"),
        ({"body": b""}, "media_unsupported_type"),
        ({"body": b"<html>login</html>", "Content_Type": "image/png"}, "media_unsupported_type"),
        ({"body": PICTURE, "Content_Encoding": "gzip"}, "media_fetch_failed"),
        ({"body": b"x" * (2 << 20)}, "media_too_large"),
        ({"body": b"x", "Content_Length": "99999999"}, "media_too_large"),
        ({"body": PICTURE[:50], "Content_Length": "500"}, "media_fetch_failed"),
        ({"body": b"", "status": 302, "Location": "http://169.254.169.254/"}, "media_fetch_failed"),
        ({"body": b"", "status": 302, "Location": "file:///etc/passwd"}, "media_fetch_failed"),
        ({"body": b"", "status": 302, "Location": "/loop"}, "media_fetch_failed"),
        ({"body": b"", "status": 302}, "media_fetch_failed"),
    ],
    ids=range(13),
)
async def test_bad_answers(
    loader: MediaLoader, site: Site, answer: dict[str, Any], code: str
) -> None:
    assert await refusal(loader, site.put("/loop", **answer)) == code


async def test_redirects_are_followed_through_the_gate(loader: MediaLoader, site: Site) -> None:
    site.put("/end", PICTURE)
    assert await load(loader, image(site.put("/start", b"", status=302, Location="/end")))


async def test_refused_connections_and_silence_end_in_time(loader: MediaLoader) -> None:
    assert await refusal(loader, "http://127.0.0.1:9/") == "media_fetch_failed"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert await refusal(loader, url) == "media_fetch_failed"
        assert time.monotonic() - started < SETTINGS.image_fetch_timeout_s + 1


async def test_a_name_with_one_private_address_is_refused(
    strict_loader: MediaLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "lookup", lambda host, port: ["93.184.216.34", "10.0.0.1"])
    assert await refusal(strict_loader, "http://mixed.example/") == "media_fetch_failed"


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [("good.example", True), ("GOOD.example.", True), ("evilgood.example", False)],
)
async def test_an_allow_list_of_hosts(host: str, is_allowed: bool) -> None:
    settings = MediaSettings(allowed_media_domains=("good.example",), dns_timeout_s=0.5)
    loader = MediaLoader(settings, PROCESSING)
    code = await refusal(loader, f"http://{host}/")
    assert code == ("media_fetch_failed" if is_allowed else "media_url_blocked")


async def test_local_files_only_inside_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "media", tmp_path / "secret.png"
    inside.mkdir()
    (inside / "a b.png").write_bytes(PICTURE)
    outside.write_bytes(PICTURE)
    (inside / "link.png").symlink_to(outside)
    loader = MediaLoader(MediaSettings(allowed_local_media_path=str(inside)), PROCESSING)
    await loader.start()
    try:
        assert await load(loader, image(f"file://{inside}/a%20b.png"))
        for path, code in {
            f"file://{outside}": "media_url_blocked",
            f"file://{tmp_path}/missing.png": "media_url_blocked",
            f"file://{inside}/../secret.png": "media_url_blocked",
            f"file://{inside}/%2e%2e/secret.png": "media_url_blocked",
            f"file://{inside}/link.png": "media_url_blocked",
            f"file://{inside}": "media_url_blocked",
            f"file://{inside}/missing.png": "media_fetch_failed",
            f"file://host{inside}/a.png": "media_url_invalid",
        }.items():
            assert await refusal(loader, path) == code, path
    finally:
        await loader.stop()


async def test_the_first_failure_ends_the_others(loader: MediaLoader, site: Site) -> None:
    good = image(site.put("/good", PICTURE))
    with pytest.raises(MediaError):
        await load_all(loader, [good, image("x"), good])
    assert len(await load_all(loader, [good, good])) == 2
