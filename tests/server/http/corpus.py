"""The rows of the bad-input corpus about HTTP that are one request: (id, bytes, status, code).

(Its rows H20-H36 are about JSON: `tests/server/api/corpus.py`; those about time, and about more
than one request, are tests of their own.)
"""

from tests.server.http.talk import BODY, CHAT, chunked, request

CHUNKED = "Transfer-Encoding: chunked"
LIMIT = 1 << 20  # of the test server's bodies


def to(path: bytes, method: bytes = b"POST") -> bytes:
    return request(start=method + b" " + path + b" HTTP/1.1")


def in_chunks(body: bytes) -> bytes:
    return request(CHUNKED, length=None, body=body)


Row = tuple[str, bytes, int, str | None]
ROWS: list[Row] = [
    ("H01", to(CHAT, b"GET"), 405, "method_not_allowed"),
    ("H02", to(b"/v1/unknown"), 404, "unknown_url"),
    ("H03-case", to(b"/V1/chat/completions"), 404, "unknown_url"),
    ("H03-slashes", to(b"/v1//chat/completions"), 404, "unknown_url"),
    ("H03-trailing", to(CHAT + b"/"), 404, "unknown_url"),
    ("H04-escape", to(b"/v1/chat%2Fcompletions"), 404, "unknown_url"),
    ("H04-dots", to(b"/v1/../v1/chat/completions"), 404, "unknown_url"),
    ("H04-model", request(start=b"GET /v1/models/a%2Fb HTTP/1.1"), 404, "model_not_found"),
    ("H05-foo", to(CHAT, b"FOO"), 405, "method_not_allowed"),
    ("H05-trace", to(CHAT, b"TRACE"), 405, "method_not_allowed"),
    ("H05-connect", to(b"localhost:80", b"CONNECT"), 405, "method_not_allowed"),
    ("H62", to(b"http://evil" + CHAT), 404, "unknown_url"),
    ("H62-star", to(b"*", b"OPTIONS"), 404, "unknown_url"),
    (
        "H06",
        request("Origin: http://a", start=b"OPTIONS " + CHAT + b" HTTP/1.1"),
        405,
        "method_not_allowed",
    ),
    (
        "H07-websocket",
        request("Connection: Upgrade", "Upgrade: websocket"),
        400,
        "invalid_request",
    ),
    ("H07-h2c", request("Connection: a, upgrade", "Upgrade: h2c"), 400, "invalid_request"),
    ("H08", b"\x16\x03\x01\x02\x00", 400, "invalid_request"),
    ("H09-0.9", b"GET /\r\n", 400, "invalid_request"),
    ("H09-0.9-long", b"GET /\r\n\r\n", 400, "invalid_request"),
    ("H09-2.0", b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 400, "invalid_request"),
    ("H09-3.0", b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 400, "invalid_request"),
    ("H09-h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_request"),
    ("H60-none", request(host=None), 400, "invalid_request"),
    ("H60-two", request("Host: localhost"), 400, "invalid_request"),
    ("H60-empty", request(host=""), 400, "invalid_request"),
    *(
        (f"H61-{host}", request(host=host), 400, "invalid_request")
        for host in ("x/health?", "x#", "a b", "x@y", "localhost:x", "[::1")
    ),
    ("H64-header", request(f"X: {'x' * 40_960}"), 431, "headers_too_large"),
    ("H64-lines", request(*["X: y"] * 98), 431, "headers_too_large"),
    ("H64-target", to(CHAT + b"?" + b"x" * 40_960), 431, "headers_too_large"),
    ("H64-endless", b"GET / HTTP/1.1\r\nX: " + b"x" * 600_000, 431, "headers_too_large"),
    ("H64-endless-target", b"GET /" + b"x" * 600_000, 431, "headers_too_large"),
    ("H65", request(host="evil.example"), 400, "invalid_request"),
    ("H65-prefix", request(host="localhost.evil.example:80"), 400, "invalid_request"),
    ("H65-address", request(host="192.0.2.1"), 400, "invalid_request"),
    ("H66-foo", request("Expect: foo"), 417, "invalid_request"),
    ("H10", request(length=LIMIT + 1, body=b""), 413, "request_too_large"),
    ("H11", in_chunks(chunked(b" " * (LIMIT // 2), b" " * LIMIT)), 413, "request_too_large"),
    ("H13-gzip", request("Content-Encoding: gzip"), 415, "unsupported_encoding"),
    ("H13-br", request("Content-Encoding: br"), 415, "unsupported_encoding"),
    ("H13-zstd", request("Content-Encoding: zstd"), 415, "unsupported_encoding"),
    ("H30-none", request(kind=None), 415, "unsupported_media_type"),
    ("H30-form", request(kind="multipart/form-data"), 415, "unsupported_media_type"),
    ("H50", request(CHUNKED, body=chunked(BODY)), 400, "invalid_request"),
    (
        "H50-reversed",
        request(CHUNKED, "Content-Length: 4", length=None, body=chunked(BODY)),
        400,
        "invalid_request",
    ),
    ("H51", request("Content-Length: 5"), 400, "invalid_request"),
    *(
        (f"H52-{number}", request(f"Content-Length: {number}", length=None), 400, "invalid_request")
        for number in ("-1", "+5", "0x10", "1e3", "9" * 30)
    ),
    *(
        (f"H53-{name}", request(f"Transfer-Encoding: {name}", length=None), 400, "invalid_request")
        for name in ("chunked, identity", "xchunked", "identity", "gzip, chunked")
    ),
    (
        "H53-1.0",
        request(CHUNKED, start=b"POST / HTTP/1.0", length=None, body=chunked(BODY)),
        400,
        "invalid_request",
    ),
    *(
        (f"H54-{size}", in_chunks(size.encode() + b"\r\nab"), 400, "invalid_request")
        for size in ("ZZ", "-1", "1" * 17)
    ),
    ("H54-extension", in_chunks(b"1;" + b"x" * (1 << 20)), 400, "invalid_request"),
    (
        "H54-trailers",
        in_chunks(chunked(BODY, end=b"0\r\n") + b"X: y\r\n" * 101),
        431,
        "headers_too_large",
    ),
    ("H55-lf", b"GET /livez HTTP/1.1\nHost: localhost\n\n", 400, "invalid_request"),
    ("H55-fold", request("X: a", " b"), 400, "invalid_request"),
    ("H55-colon", request("X : a"), 400, "invalid_request"),
    ("H56-nul", request(b"X\0: a"), 400, "invalid_request"),
    ("H56-space", request(b"X Y: a"), 400, "invalid_request"),
    ("H56-letter", request("X\u00e9: a"), 400, "invalid_request"),
    ("H62-host-port", request(host="LOCALHOST:80"), 200, None),
    ("H62-host-v6", request(host="[::1]:80"), 200, None),
    ("H62-host-v4", request(host="127.9.9.9"), 200, None),
    (
        "H63",
        request("X-Forwarded-Host: evil", "X-Forwarded-Proto: x", "X-Forwarded-For: y"),
        200,
        None,
    ),
    ("H64-just-fits", request(*["X: y"] * 96, f"Y: {'y' * 30_000}"), 200, None),
    ("H68", request("Range: bytes=0-"), 200, None),
    ("H69", request("X-Request-Id: " + "\u20ac" * 3000), 200, None),
    ("H70", request("Accept: text/html"), 200, None),
]
