"""Rows U01–U71: whatever a client writes for a URL, and whatever a web server answers."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.media.hostile_site import OK, HostileSite, body, endless
from tests.server.media.makers import encoded, photo
from tests.server.media.over_http import ask, check, media_server, names

PICTURE = encoded(photo(56, 56))
INVALID, SCHEME, BLOCKED = "media_url_invalid", "media_url_scheme", "media_url_blocked"
FAILED, LARGE, TYPE = "media_fetch_failed", "media_too_large", "media_unsupported_type"
FETCH_S = 2.0

WRITTEN = {
    "U01": (["http://good.example/" + "x" * 9_000], INVALID),
    "U02": (["http://", "http:///x", "http:x", "//h/x", "h/x.png", "x"], f"{INVALID}|{SCHEME}"),
    "U03": (["ftp://h/", "gopher://h/", "ws://h/", "s3://h/", "blob:http://h/", "javascript:1",
             "jar:http://h/!/", "unix:/x"], SCHEME),
    "U04": (["concat:a|b", "subfile,,start,0,end,9,,:/x", "hls+http://h/", "rtsp://h/", "tcp://h/"],
            SCHEME),
    "U10": (["http://127.0.0.1/", "http://127.8.8.8/"], BLOCKED),
    "U11": (["http://[::1]/", "http://[::]/"], BLOCKED),
    "U12": (["http://0/", "http://0.0.0.0/"], BLOCKED),
    "U13": (["http://2130706433/"], BLOCKED),
    "U14": (["http://0x7f000001/", "http://0x7f.1/"], BLOCKED),
    "U15": (["http://0177.0.0.1/", "http://017700000001/"], f"{BLOCKED}|{INVALID}"),
    "U16": (["http://127.1/", "http://127.0.1/"], BLOCKED),
    "U17": (["http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/"], INVALID),
    "U18": (["http://localhost/", "http://LOCALHOST./", "http://foo.localhost/"], FAILED),
    "U19": (["http://169.254.169.254/", "http://168.63.129.16/",
             "http://100.100.100.200/"], BLOCKED),
    "U20": (["http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://100.64.0.1/",
             "http://198.18.0.1/"], BLOCKED),
    "U21": (["http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/"],
            BLOCKED),
    "U22": (["http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::a00:1]/", "http://[2002:7f00:1::]/",
             "http://[2001:0:7f00:1::]/"], BLOCKED),
    "U23": (["http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fec0::1]/",
             "http://[fd00:ec2::254]/", "http://[ff02::1]/"], f"{BLOCKED}|{INVALID}"),
    "U24": (["http://224.0.0.1/", "http://255.255.255.255/", "http://240.0.0.1/",
             "http://192.0.2.1/", "http://192.88.99.1/"], BLOCKED),
    "U25": (["http://private.example/"], FAILED),
    "U26": (["http://mixed.example/"], FAILED),
    "U27": (["http://good.example:22/", "http://good.example:6379/", "http://good.example:8000/"],
            BLOCKED),
    "U28": (["http://good.example:0/", "http://good.example:99999/", "http://good.example:-1/",
             "http://good.example:80 80/", "http://good.example:０/"], INVALID),
    "U30": (["http://user:pw@good.example/", "http://good.example@127.0.0.1/"], INVALID),
    "U31": (["http://127.0.0.1\\@good.example/", "http://good.example\\@127.0.0.1/",
             "http:\\\\good.example\\"], INVALID),
    "U32": ([f"http://good.example/a{char}b" for char in "\t\r\n\0 "]
            + [" http://good.example/", "http://good.example/ "], f"{INVALID}|{SCHEME}"),
    "U33": (["http://good.example/\r\nX: y"], INVALID),
    "U34": (["http://127.0.0.1#@good.example/", "http://127.0.0.1?@good.example/"], BLOCKED),
    "U35": (["http://127.0.0.1%2f.good.example/", "http://a%00.example/", "http://exa mple/"],
            INVALID),
    "U36": (["http://good.example＃@evil.example/", "http://evil／.good.example/"], INVALID),
    "U37": ([f"http://{'a' * 64}.example/", f"http://{'a.' * 127}example/", "http://xn--/",
             "http://xn--a/"], f"{INVALID}|{FAILED}"),
    "U38": (["http://[::1/", "http://[v1.a]/", "http://[]/"], INVALID),
    "U50": (["file:///etc/passwd"], SCHEME),
    "U51": (["/etc/passwd", "C:\\x", "~/x", "./x.png"], SCHEME),
    "U60": (["http://unknown.example/"], FAILED),
}  # fmt: skip


@pytest.fixture(scope="module")
def strict(tiny_checkpoint: Path) -> Iterator[str]:
    """As shipped."""
    known = {
        "good.example": ["93.184.216.34"],
        "private.example": ["10.0.0.1"],
        "mixed.example": ["93.184.216.34", "169.254.169.254"],
    }
    with names(known), media_server(tiny_checkpoint, image_fetch_timeout_s=FETCH_S) as url:
        yield url


@pytest.mark.parametrize("row", WRITTEN)
def test_written_urls(strict: str, row: str) -> None:
    urls, codes = WRITTEN[row]
    for url in urls:
        check(ask(strict, url), codes)


def test_what_a_name_leads_to_cannot_be_told_apart(strict: str) -> None:
    hosts = ("private.example", "mixed.example", "unknown.example", "localhost")
    assert len({ask(strict, f"http://{host}/").text for host in hosts}) == 1


# ------------------------------------------------------------------ what web servers answer


@pytest.fixture(scope="module")
def site() -> Iterator[HostileSite]:
    site = HostileSite()
    yield site
    site.close()


@pytest.fixture(scope="module")
def open_house(tiny_checkpoint: Path) -> Iterator[str]:
    """Loopback is allowed, as an operator allows a private media server."""
    with (
        names({"good.example": ["127.0.0.1"]}),
        media_server(
            tiny_checkpoint,
            allowed_media_networks=("127.0.0.0/8",),
            image_fetch_timeout_s=FETCH_S,
            max_image_bytes=1 << 20,
        ) as url,
    ):
        yield url


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode()


GZIP = body(b"\x1f\x8b" + bytes(100), "Content-Encoding: gzip")
ANSWERED: dict[str, tuple[Any, str]] = {
    "U40": ([redirect("http://169.254.169.254/")], FAILED),
    "U41-file": ([redirect("file:///etc/passwd")], FAILED),
    "U41-data": ([redirect("data:,x")], FAILED),
    "U41-other": ([redirect("//10.0.0.1/")], FAILED),
    "U42-loop": ([redirect("/U42-loop")], FAILED),
    "U43-none": ([b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"], FAILED),
    "U43-two": ([b"HTTP/1.1 302 F\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"],
                FAILED),
    "U43-long": ([redirect("/" + "x" * 9_000)], FAILED),
    **{f"U61-{code}": ([status(code)], FAILED) for code in (404, 401, 403, 500, 204, 206, 304)},
    "U62-endless": (lambda: [OK + b"\r\n", *([bytes(1 << 16)] * 64)], LARGE),
    "U62-one-more": ([body(bytes((1 << 20) + 1))], LARGE),
    "U62-announced": ([OK + b"Content-Length: 99999999\r\n\r\n"], LARGE),
    "U63-drip": (lambda: endless(b"x", 0.05), FAILED),
    "U63-body-drip": (lambda: [OK + b"\r\n", *([b"x", 0.05] * 200)], FAILED),
    "U63-hang-late": ([OK + b"Content-Length: 10\r\n\r\n", 10.0], FAILED),
    "U63-hang-early": ([10.0], FAILED),
    "U64-hints": (lambda: endless(b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.01), FAILED),
    "U64-headers": ([OK + b"".join(b"A%d: b\r\n" % i for i in range(20_000)) + b"\r\n"], FAILED),
    "U64-header": ([OK + b"A: " + b"x" * 200_000 + b"\r\n\r\n"], FAILED),
    "U65": ([GZIP], FAILED),
    "U66-short": ([OK + b"Content-Length: 500\r\n\r\nshort"], FAILED),
    "U66-chunks": ([OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx"], FAILED),
    "U66-09": ([b"<html>"], FAILED),
    "U66-garbage": ([bytes(range(256))], FAILED),
    "U66-close": ([], FAILED),
    "U67": ([body(b"")], TYPE),
    "U68": ([body(b"<html>Log in</html>", "Content-Type: image/png")], TYPE),
    "U69": ([body(PICTURE, "Content-Type: text/html")], "200"),
    "U69-none": ([body(PICTURE)], "200"),
}  # fmt: skip


@pytest.mark.parametrize("row", ANSWERED)
def test_answers(open_house: str, site: HostileSite, row: str) -> None:
    answer, codes = ANSWERED[row]
    site.answers[f"/{row}"] = answer if callable(answer) else lambda: answer
    started = time.monotonic()
    check(ask(open_house, site.url(f"/{row}")), codes)
    assert time.monotonic() - started < FETCH_S + 1.5


def test_u05_u06_spellings(open_house: str, site: HostileSite) -> None:
    for path in ("/%E5%9B%BE%E7%89%87.png?q=%C3%A9", "/a%20b"):
        site.answers[path] = lambda: [body(PICTURE)]
    for url in ("HTTP://GOOD.example:{}/图片.png?q=é#frag", "hTTp://good.example:{}/a%20b"):
        check(ask(open_house, url.format(site.port)), "200")
    sent = site.requests[-1]
    assert b"Host: good.example:" in sent and b"#" not in sent


def test_u33_line_breaks_stay_encoded(open_house: str, site: HostileSite) -> None:
    site.answers["/%0d%0aX:y"] = lambda: [body(PICTURE)]
    check(ask(open_house, site.url("/%0d%0aX:y")), "200")
    assert b"\r\nX:" not in site.requests[-1]


def test_u42_hops_are_counted(open_house: str, site: HostileSite) -> None:
    for hop in range(4):
        site.answers[f"/hop{hop}"] = lambda hop=hop: [redirect(f"/hop{hop + 1}")]
    site.answers["/hop4"] = lambda: [body(PICTURE)]
    check(ask(open_house, site.url("/hop1")), "200")
    check(ask(open_house, site.url("/hop0")), FAILED)


def test_u60_closed_ports(open_house: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    check(ask(open_house, f"http://127.0.0.1:{port}/"), FAILED)
    check(ask(open_house, "http://127.0.0.1:1/"), FAILED)


def test_u70_nothing_is_remembered(open_house: str, site: HostileSite) -> None:
    cookies = [f"Set-Cookie: c{i}=v" for i in range(150)]
    for path in ("/c1", "/c2"):
        site.answers[path] = lambda: [body(PICTURE, *cookies)]
        check(ask(open_house, site.url(path)), "200")
    sent = site.requests[-1].lower()
    assert b"cookie" not in sent and b"authorization" not in sent and b"identity" in sent


def test_u71_one_fetch_for_one_url(open_house: str, site: HostileSite) -> None:
    from tests.server.api.client import post

    site.answers["/same"] = lambda: [0.2, body(PICTURE)]
    before = len(site.requests)
    content = [{"type": "image_url", "image_url": {"url": site.url("/same")}}] * 16
    answer = post(open_house, {"messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 200 and len(site.requests) == before + 1


def test_proxies_and_netrc_are_not_obeyed(
    open_house: str, site: HostileSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = HostileSite()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url(""))
    site.answers["/direct"] = lambda: [body(PICTURE)]
    monkeypatch.setenv("NO_PROXY", "")
    check(ask(open_house, site.url("/direct")), "200")
    assert not proxy.requests
    proxy.close()


@pytest.mark.parametrize(
    ("host", "codes"),
    [("evilgood.example", BLOCKED), ("good.example.evil", BLOCKED), ("good.example.", "200"),
     ("GOOD.example", "200")],
)  # fmt: skip
def test_u39_allow_list(tiny_checkpoint: Path, site: HostileSite, host: str, codes: str) -> None:
    site.answers["/listed"] = lambda: [body(PICTURE)]
    settings = {
        "allowed_media_domains": ("good.example",),
        "allowed_media_networks": ("127.0.0.0/8",),
    }
    known = {"good.example": ["127.0.0.1"], "good.example.": ["127.0.0.1"]}
    with names(known), media_server(tiny_checkpoint, **settings) as base:
        check(ask(base, site.url("/listed", host)), codes)


def test_u44_no_way_down_from_https() -> None:
    from server.errors import MediaError
    from server.media.fetcher import Fetcher
    from server.media.settings import MediaSettings
    from server.media.url import parse_web_url

    fetcher = Fetcher(MediaSettings())
    with pytest.raises(MediaError) as caught:
        fetcher._next_hop(parse_web_url("https://good.example/", "p"), "http://good.example/", "p")
    assert caught.value.code == FAILED


def test_t04_names_are_resolved_once(tiny_checkpoint: Path, site: HostileSite) -> None:
    """A name that changes its answer has one chance only."""
    site.answers["/once"] = lambda: [body(PICTURE)]
    with (
        names({"good.example": ["127.0.0.1"]}) as asked,
        media_server(tiny_checkpoint, allowed_media_networks=("127.0.0.0/8",)) as base,
    ):
        check(ask(base, site.url("/once", "good.example")), "200")
    assert asked == ["good.example"]
