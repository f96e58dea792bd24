"""Tables U and D: nothing private is reached, nothing local is read, everything ends in time."""

import asyncio
import base64
import gc
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from server.errors import MediaError
from server.media import dialer
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from tests.server.media import corpus_urls as corpus
from tests.server.media.canary import Canaries
from tests.server.media.conftest import PROCESSING, load_all
from tests.server.media.gate import BLOCKED, FETCH, OK, Row, check, ids, media, outcome
from tests.server.media.hostile_site import HostileSite
from tests.server.media.resolver import SITE, FakeResolver
from tests.server.media.tls import Authority

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETTINGS = MediaSettings(
    allowed_media_networks=(f"{SITE}/32",),
    image_fetch_timeout_s=corpus.FETCH_TIMEOUT_S,
    max_image_bytes=corpus.MAX_IMAGE_BYTES,
    dns_timeout_s=0.5,
    num_decoders=1,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def site(authority: Authority) -> Iterator[HostileSite]:
    site = HostileSite(authority.contexts())
    yield site
    site.close()


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    canaries = Canaries(tmp_path_factory.mktemp("canaries"))
    yield canaries
    canaries.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    resolver = FakeResolver()
    monkeypatch.setattr(dialer, "lookup", resolver.lookup)
    return resolver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(authority: Authority) -> AsyncIterator[MediaLoader]:
    """As shipped, except that the site's address is allowed and limits are low."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.file))
        loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


async def settle(site: HostileSite) -> None:
    """Connections are closed on our side when the answer is there; the site sees it soon."""
    for _ in range(100):
        if not site.num_open:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a connection is still open")


@pytest.mark.parametrize(
    "row", [*corpus.SYNTAX, *corpus.ADDRESSES, *corpus.REDIRECTS, *corpus.ANSWERS], ids=ids
)
async def test_urls(
    gate: MediaLoader, site: HostileSite, canaries: Canaries, resolver: FakeResolver, row: Row
) -> None:
    url = row.value.replace("GOOD.{site}", f"GOOD.Example:{site.ports['http']}")
    url = url.replace("{site}", f"good.example:{site.ports['http']}")
    await check(gate, row, media("image", url), corpus.FETCH_TIMEOUT_S)
    canaries.check_untouched()
    await settle(site)


@pytest.mark.parametrize("row", corpus.DATA_IMAGES, ids=ids)
async def test_data_urls_of_images(gate: MediaLoader, row: Row) -> None:
    await check(gate, row, media("image", row.value))


@pytest.mark.parametrize("row", corpus.DATA_VIDEOS, ids=ids)
async def test_data_urls_of_videos(gate: MediaLoader, row: Row) -> None:
    await check(gate, row, media("video", row.value))


async def test_d15_is_refused_before_base64_is_decoded(
    gate: MediaLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = [row for row in corpus.DATA_IMAGES if row.id == "D15"]
    monkeypatch.setattr(base64, "b64decode", lambda *_, **__: pytest.fail("decoded"))
    await check(gate, row, media("image", row.value))


async def test_u06_paths_are_encoded_once(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    before = site.paths.copy()
    for path in ("/图片.png?q=é", "/a%20b.png", "/ok.png#frag", "/%0d%0aX:%20y"):
        assert (await outcome(gate, media("image", site.url(path)))).code == OK
    seen = ["/%E5%9B%BE%E7%89%87.png?q=%C3%A9", "/a%20b.png", "/ok.png", "/%0d%0aX:%20y"]
    assert site.paths - before == dict.fromkeys(seen, 1)
    assert b"\r\nX: y" not in site.requests[-1]


async def test_u25_to_u60_say_the_same(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    """A private name, no name, a closed port, a hanging host, a bad certificate: one answer."""
    urls = [
        "http://private.example/",
        "http://mixed.example/",
        "http://nowhere.example/",
        "http://localhost/",
        site.url("/hang-before"),
        site.url("/status-404"),
        site.url("/to-metadata"),
        site.url("/ok.png", host="wrong-name.example", port="tls"),
    ]
    found = [await outcome(gate, media("image", url)) for url in urls]
    assert {(each.code, each.message) for each in found} == {(FETCH, found[0].message)}


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("evilgood.example", False),
        ("good.example.evil", False),
        ("other.example", False),
        ("good.example.", True),
        ("GOOD.example", True),
    ],
)
async def test_u39_an_allow_list_of_hosts(
    site: HostileSite, resolver: FakeResolver, host: str, is_allowed: bool
) -> None:
    loader = MediaLoader(replace(SETTINGS, allowed_media_domains=("good.example",)), PROCESSING)
    await loader.start()
    try:
        found = await outcome(loader, media("image", site.url("/ok.png", host)))
        assert found.code == (OK if is_allowed else BLOCKED)
        assert bool(resolver.asked) == is_allowed
    finally:
        await loader.stop()


@pytest.mark.parametrize(
    ("name", "host", "path", "code"),
    [
        ("good", "good.example", "/ok.png", OK),
        ("U60-wrong-name", "wrong-name.example", "/ok.png", FETCH),
        ("U60-expired", "expired.example", "/ok.png", FETCH),
        ("U44-downgrade", "good.example", "/tls-down", FETCH),
    ],
)
async def test_tls(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver, name: str, host: str, path: str,
    code: str,
) -> None:  # fmt: skip
    port = "expired" if name == "U60-expired" else "tls"
    heard = site.paths.total()
    assert (await outcome(gate, media("image", site.url(path, host, port)))).code == code
    assert site.paths.total() - heard == (0 if name.startswith("U60") else 1)


async def test_u70_no_cookie_is_kept(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    for _ in range(2):
        assert (await outcome(gate, media("image", site.url("/cookies")))).code == OK
    sent = {line.split(b":")[0].lower() for line in site.requests[-1].split(b"\r\n")[1:-2]}
    assert sent == {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"}


async def test_u71_a_url_sixteen_times_in_a_request_is_fetched_once(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    before = site.paths["/ok.png"]
    wanted = [media("image", site.url("/ok.png")) for _ in range(16)]
    assert len(await load_all(gate, wanted)) == 16
    assert site.paths["/ok.png"] == before + 1


async def test_names_are_resolved_once_for_each_hop(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    """So a name cannot answer one address to the check and another to the connection."""
    assert (await outcome(gate, media("image", site.url("/hop2")))).code == OK
    assert resolver.asked == {"good.example": 3}


async def test_proxies_of_the_environment_are_not_used(
    site: HostileSite, canaries: Canaries, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{canaries.tcp_address}")
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    try:
        assert (await outcome(loader, media("image", site.url("/ok.png")))).code == OK
    finally:
        await loader.stop()
    canaries.check_untouched()


async def test_a_host_gets_eight_connections_at_most(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    urls = [site.url(f"/hang-before?{n}") for n in range(16)]
    site.answers |= {f"/hang-before?{n}": site.answers["/hang-before"] for n in range(16)}
    work = asyncio.gather(*(outcome(gate, media("image", url)) for url in urls))
    await asyncio.sleep(0.5)
    assert site.num_open == SETTINGS.max_connections_per_host
    assert {each.code for each in await work} == {FETCH}
    gc.collect()  # what failed may hold on to its frames in a circle
    assert not gate._reader._fetcher._slots  # no host is remembered for ever


async def test_slow_names_hold_up_nothing_else(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    slow = [media("image", f"http://slow{n}.example/") for n in range(8)]
    waiting = asyncio.gather(*(outcome(gate, each) for each in slow))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    for url in (site.url("/ok.png"), corpus.DATA_IMAGES[0].value):
        assert (await outcome(gate, media("image", url))).code == OK
    assert time.monotonic() - started < 0.4
    assert {each.code for each in await waiting} == {FETCH}


async def test_the_first_failure_ends_the_others(
    gate: MediaLoader, site: HostileSite, resolver: FakeResolver
) -> None:
    hanging, bad = media("image", site.url("/hang-after")), media("image", "x")
    started = time.monotonic()
    with pytest.raises(MediaError) as caught:
        await load_all(gate, [hanging, bad])
    assert caught.value.code == "media_url_scheme"
    assert time.monotonic() - started < corpus.FETCH_TIMEOUT_S / 2
    await settle(site)


async def test_nothing_is_left_of_any_fetch(gate: MediaLoader) -> None:
    assert gate._reader._fetcher._pool.connections == []
    assert gate.budget.num_bytes == 0


async def test_the_tables_are_whole() -> None:
    """U50 to U58 are in test_local_files.py."""
    elsewhere = {"U39", "U44", "U70", "U71", *(f"U{n}" for n in range(50, 59))}
    tables = (corpus.SYNTAX, corpus.ADDRESSES, corpus.REDIRECTS, corpus.ANSWERS)
    there = {row.id.split(".")[0] for group in tables for row in group} | elsewhere
    numbers = [*range(1, 7), *range(10, 29), *range(30, 45), *range(50, 59), *range(60, 72)]
    assert there == {f"U{n:02}" for n in numbers}
    data = {row.id.split(".")[0] for row in (*corpus.DATA_IMAGES, *corpus.DATA_VIDEOS)}
    assert data == {f"D{n:02}" for n in range(1, 18)}  # D18 is U41
