"""Tables U and D of bad input: URLs, and what they must end with. `{site}` is the hostile site."""

import base64

from tests.server.media.gate import (
    BLOCKED,
    COMPLEX,
    DECODE,
    FETCH,
    INVALID,
    LARGE,
    OK,
    SCHEME,
    TYPE,
    rows,
    table,
)
from tests.server.media.hostile_site import PICTURE
from tests.server.media.makers import encoded, photo

MAX_IMAGE_BYTES = 1 << 20  # the loaders under test: large rows stay small
FETCH_TIMEOUT_S = 1.0


def _hosts(*hosts: str) -> list[str]:
    return [f"http://{host}/" for host in hosts]


def _paths(*paths: str) -> list[str]:
    return [f"http://{{site}}{path}" for path in paths]


SYNTAX = table(
    rows("U01", INVALID, "http://good.example/" + "x" * 9000),
    rows("U02", (INVALID, SCHEME), "http://", "http:///x", "http:x", "//h/x", "h/x.png", "x", ""),
    rows(
        "U03", SCHEME,
        "ftp://h/x", "gopher://h/x", "ws://h/x", "s3://b/x", "blob:http://h/x", "javascript:1",
        "jar:http://h/x!/y", "unix:/run/x",
    ),
    rows(
        "U04", SCHEME,
        "concat:a|b", "subfile,,start,0,end,0,,:/etc/passwd", "hls+http://h/x", "rtsp://h/x",
        "tcp://h:1", "crypto:x", "async:x",
    ),
    rows("U05", OK, "HTTP://{site}/ok.png", "hTTp://{site}/ok.png", "http://GOOD.{site}/ok.png"),
    rows("U06", OK, *_paths("/图片.png?q=é", "/a%20b.png", "/ok.png#frag")),
    rows(
        "U28", INVALID,
        *_hosts(*(f"good.example:{port}" for port in ("0", "99999", "-1", "80 80", "０", "x"))),
    ),
    rows("U30", INVALID, *_hosts("user:pw@good.example", "good.example@127.0.0.1", "@127.0.0.1")),
    rows(
        "U31", INVALID,
        *_hosts("127.0.0.1\\@good.example", "good.example\\@127.0.0.1"), "http:\\\\good.example\\",
    ),
    rows(
        "U32", INVALID,
        *(f"http://good.example/a{c}b" for c in "\t\r\n\0 \x7f"),
        *(f"http://good{c}.example/" for c in "\t\r\n\0 "),
        *(f"ht{c}tp://good.example/" for c in "\t\n"),
        " http://good.example/", "http://good.example/ ", "\nhttp://good.example/",
        "\0http://good.example/", " data:image/png;base64,iVBO",
    ),
    rows("U33.split", INVALID, "http://good.example/\r\nX: y"),
    rows("U33.escaped", OK, "http://{site}/%0d%0aX:%20y"),
    rows(
        "U35", INVALID,
        *_hosts("127.0.0.1%2f.good.example", "good%00.example", "exa mple", "good.example%"),
    ),
    rows("U36", INVALID, *_hosts("good.example＃@evil.example", "evil.example／.good.example")),
    rows(
        "U37", (INVALID, FETCH),
        *_hosts("a" * 64 + ".example", "a." * 127 + "ab", "xn--", "xn--a", "-", "a..b", "."),
    ),
    rows("U38", INVALID, "http://[::1/", "http://[v1.a]/", "http://[]/", "http://[1]/"),
)  # fmt: skip

ADDRESSES = table(
    rows("U10", BLOCKED, *_hosts("127.0.0.1", "127.8.8.8")),
    rows("U11", BLOCKED, *_hosts("[::1]", "[::]")),
    rows("U12", BLOCKED, *_hosts("0", "0.0.0.0")),
    rows("U13", BLOCKED, *_hosts("2130706433")),
    rows("U14", BLOCKED, *_hosts("0x7f000001", "0x7f.1")),
    rows("U15", (BLOCKED, INVALID), *_hosts("0177.0.0.1", "017700000001")),
    rows("U16", BLOCKED, *_hosts("127.1", "127.0.1")),
    rows("U17", INVALID, *_hosts("①②⑦.⓪.⓪.①", "127。0。0。1")),
    rows("U18", FETCH, *_hosts("localhost", "LOCALHOST.", "foo.localhost")),
    rows("U19", BLOCKED, *_hosts("169.254.169.254", "168.63.129.16", "100.100.100.200")),
    rows(
        "U20", BLOCKED,
        *_hosts("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1"),
    ),
    rows("U21", BLOCKED, *_hosts("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]")),
    rows(
        "U22", BLOCKED,
        *_hosts("[64:ff9b::7f00:1]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]"),
    ),
    rows(
        "U23", (BLOCKED, INVALID),
        *_hosts("[fe80::1]", "[fe80::1%25eth0]", "[fec0::1]", "[fd00:ec2::254]", "[ff02::1]"),
    ),
    rows(
        "U24", BLOCKED,
        *_hosts("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "192.88.99.1"),
    ),
    rows("U25", FETCH, "http://private.example/", "http://forbidden.example/"),
    rows("U26", FETCH, "http://mixed.example/"),
    rows("U27", BLOCKED, *_hosts(*(f"public.example:{port}" for port in (22, 6379, 8000)))),
    rows("U34", BLOCKED, "http://127.0.0.1#@good.example/", "http://127.0.0.1?@good.example/"),
)  # fmt: skip

REDIRECTS = table(
    rows("U40", FETCH, *_paths("/to-metadata", "/to-port")),
    rows("U41", FETCH, *_paths("/to-file", "/to-data", "/to-forbidden")),
    rows("U42", FETCH, *_paths("/loop", "/hop4")),
    rows("U42.three", OK, *_paths("/hop3")),
    rows(
        "U43", FETCH,
        *_paths("/no-location", "/two-locations", "/long-location", "/bad-location",
                "/odd-location"),
    ),
)  # fmt: skip

ANSWERS = table(
    rows("U60.nxdomain", FETCH, "http://nowhere.example/"),
    rows("U60.refused", FETCH, "http://good.example:9/"),
    rows(
        "U61", FETCH,
        *_paths(*(f"/status-{s}" for s in (404, 401, 403, 500, 204, 206, 304, 201, 400, 503))),
    ),
    rows("U62", LARGE, *_paths("/endless", "/endless-chunked", "/one-more", "/announces-more")),
    rows("U62.exactly", TYPE, *_paths("/exactly")),
    rows("U63", FETCH, *_paths("/drip", "/hang-after", "/hang-before", "/hang-in-head")),
    rows("U64", FETCH, *_paths("/103", "/10000-headers", "/200k-header", "/endless-headers")),
    rows("U65", FETCH, *_paths("/gzip", "/br", "/gzip-bomb")),
    rows(
        "U66", FETCH,
        *_paths("/short", "/bad-chunk", "/cut-chunk", "/http09", "/garbage", "/close",
                "/negative-length", "/two-lengths", "/status-99999"),
    ),
    rows("U67", TYPE, *_paths("/empty")),
    rows("U68", TYPE, *_paths("/login")),
    rows("U69", OK, *_paths("/html-type.png", "/ok.png")),
)  # fmt: skip


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_GOOD = _base64(PICTURE)
_JPEGS = [_base64(encoded(photo(60, 60, seed=n), "JPEG")) for n in range(3)]
_IN_LINES = "\n".join(_GOOD[n : n + 76] for n in range(0, len(_GOOD), 76))
_PNG = "data:image/png;base64,"
_FRAMES = "data:video/jpeg;base64,"

DATA_IMAGES = table(
    rows("D01", OK, _PNG + _GOOD),
    rows("D02", TYPE, "data:,hello", "data:text/plain,hi", "data:text/plain;base64,aGk="),
    rows("D03", INVALID, "data:image/png,%89PNG%0D%0A%1A%0A"),
    rows("D04", INVALID, "data:image/png;base64", "data:", "data:;"),
    rows("D05", INVALID, _PNG, "data:;base64,"),
    rows("D06", INVALID, *(_PNG + bad for bad in ("QUJDR", "QQ", "QQ=", "QUJD=", "QQ===", "Q=Q="))),
    rows("D07", INVALID, _PNG + _IN_LINES, _PNG + " " + _GOOD, _PNG + _GOOD + "\n"),
    rows("D08", INVALID, _PNG + "QUJ-_0RF", _PNG + _GOOD.translate({43: "-", 47: "_"})),
    rows("D09", INVALID, _PNG + "QUI%3D", _PNG + _GOOD.replace("+", "%2B").replace("=", "%3D")),
    rows("D10", OK, "DATA:IMAGE/PNG;BASE64," + _GOOD),
    rows("D11", OK, "data:image/png;charset=utf-8;base64," + _GOOD),
    rows("D12", OK, "data:image/jpeg;base64," + _GOOD),
    rows("D13", TYPE, "data:video/mp4;base64," + _GOOD, _FRAMES + _JPEGS[0]),
    rows("D15", LARGE, _PNG + "A" * (MAX_IMAGE_BYTES // 3 * 4 + 8)),
    rows("D16", TYPE, "data:image/svg+xml;base64," + _base64(b"<svg xmlns='x'/>")),
    rows("D17", SCHEME, _GOOD, "/9j/" + _JPEGS[0][4:]),
)

DATA_VIDEOS = table(
    rows("D13.reverse", TYPE, _PNG + _GOOD),
    rows("D14", OK, _FRAMES + ",".join(_JPEGS), "data:video/png;base64," + _GOOD, _FRAMES + _GOOD),
    rows("D14.too-many", COMPLEX, _FRAMES + ",".join(["/9j/"] * 129)),
    rows("D14.bad-frame", INVALID, _FRAMES + "AAA,BBB", _FRAMES + _JPEGS[0] + ",", _FRAMES + ","),
    rows("D14.no-picture", TYPE, _FRAMES + _JPEGS[0] + "," + _base64(b"<html></html>")),
    rows("D14.cut", DECODE, _FRAMES + _JPEGS[0][:400]),
)
