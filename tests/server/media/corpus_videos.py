"""Table V of bad input: video bytes, and what they must end with. Made when they are needed.

Limits are low in the loader under test, so that what is too much stays small.
"""

import struct
from collections.abc import Callable
from functools import partial

from tests.server.media import boxes as b
from tests.server.media.canary import Canaries
from tests.server.media.clips import Clip, growing, sound_only, swapped_packets, with_sound
from tests.server.media.gate import (
    CODEC,
    COMPLEX,
    DECODE,
    INVALID,
    LARGE,
    LONG,
    OK,
    SIZE,
    TYPE,
    rows,
    table,
)
from tests.server.media.makers import encoded, photo, rotated

MAX_VIDEO_FRAMES = 400
MAX_VIDEO_BYTES = 4 << 20
Bytes = Callable[[], bytes]

_CLIP = Clip(num_frames=24)
_NO_B = Clip(num_frames=24, options={"bf": "0"})
_MKV = Clip(num_frames=24, container="matroska")
_HUGE = Clip(1, size=(4128, 4128), options={"preset": "ultrafast", "qp": "51"})
_FTYP = b.box(b"ftyp", b"isom\0\0\2\0isom")
_KEY = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}  # fmt: skip


def playlists(canaries: Canaries) -> list[bytes]:
    """What makes FFmpeg read files or open sockets when it may choose the format itself."""
    file, host = str(canaries.file), canaries.tcp_address
    lists = [
        "ffconcat version 1.0\nfile canary.txt\n",
        f"ffconcat version 1.0\nfile '{file}'\n",
        "ffconcat version 1.0\nfile ../canary.txt\n",
        f"ffconcat version 1.0\nfile http://{host}/x\n",
        *(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
            for target in (f"http://{host}/x.ts", f"file://{file}", file,
                           "data:video/mp2t;base64,AAAA", f"concat:{file}|{file}")
        ),
        f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://{host}/key"\n#EXTINF:1,\nx.ts\n',
        f'#EXTM3U\n#EXT-X-MAP:URI="http://{host}/map"\n#EXTINF:1,\nx.mp4\n',
        f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://{host}/inner.m3u8\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {canaries.udp_port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        f'<?xml version="1.0"?><MPD><BaseURL>http://{host}/</BaseURL></MPD>',
        f'<asx version="3.0"><entry><ref href="http://{host}/"/></entry></asx>',
        f"[playlist]\nFile1=http://{host}/\n",
        f"rtsp://{host}/x\n",
        f'<smil><body><video src="http://{host}/"/></body></smil>',
        f'<playlist version="1"><trackList><track><location>http://{host}/</location></track>'
        "</trackList></playlist>",
    ]  # fmt: skip
    return [text.encode() for text in lists]


def followed(canaries: Canaries) -> list[tuple[str, tuple[str, ...], bytes]]:
    """V07 to V09: real containers that point to something else."""
    file, host = str(canaries.file).encode(), canaries.tcp_address.encode()
    hls = b"#EXTM3U\n#EXTINF:1,\nhttp://" + host + b"/x\n"
    avi = Clip(12, codec="mpeg4", container="avi")()
    concat = b"ffconcat version 1.0\nfile '" + file + b"'\n"
    return [
        ("V07.dref", (OK, DECODE), b.external_data(_CLIP(), b"file://" + file)),
        ("V07.dref-http", (OK, DECODE), b.external_data(_CLIP(), b"http://" + host + b"/x")),
        ("V07.rmra", (DECODE,), b.reference_movie(b"file://" + file)),
        ("V07.rmra-http", (DECODE,), b.reference_movie(b"http://" + host + b"/x")),
        ("V08", (OK, DECODE), b.avi_with_subtitle(avi, hls)),
        ("V08.file", (OK, DECODE), b.avi_with_subtitle(avi, hls.replace(b"http://" + host, file))),
        ("V09.concat", (DECODE,), _FTYP + concat),
        ("V09.hls", (DECODE,), _FTYP + hls),
        ("V09.free", (DECODE,), b.box(b"free", concat)),
    ]


def _lasting(seconds: int) -> bytes:
    """Two frames, so far apart."""
    return b.time_to_sample(Clip(2, options={"bf": "0"})(), (2, seconds * 12288))


def _jumping() -> bytes:
    entries = [(1, 512), (1, 2**30), (1, 1), (1, 2**31 - 1), (20, 512)]
    return b.time_to_sample(_NO_B(), *entries)


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _in(codec: str, container: str, pix_fmt: str) -> Bytes:
    return Clip(3, codec=codec, container=container, pix_fmt=pix_fmt)


def _with_cover(mp4: bytes) -> bytes:
    cover = b.full_box(b"data", bytes(4) + encoded(photo(16, 16), "JPEG"), flags=13)
    tags = b.box(b"ilst", b.box(b"covr", cover))
    handler = b.full_box(b"hdlr", bytes(4) + b"mdirappl" + bytes(9))
    meta = b.full_box(b"meta", handler + tags)
    return b.add_box(mp4, "moov", b.box(b"udta", meta))


BOMBS = table(
    rows("V10", SIZE, _HUGE),
    rows("V11.small-says-large", (OK, SIZE), lambda: b.described_size(_CLIP(), 65_535, 65_535)),
    rows("V11.large-says-small", SIZE, lambda: b.described_size(_HUGE(), 64, 48)),
    rows("V12", SIZE, partial(growing, (64, 48), (4096, 4352), 2)),
    rows("V13", COMPLEX, Clip(500, size=(16, 16))),
    rows("V14", (COMPLEX, DECODE), lambda: b.many_tracks(_CLIP(), 900),
         lambda: b.many_tracks(Clip(1)(), 2000)),
    rows("V15", DECODE, lambda: b.claims_entries(_CLIP(), "stts", 2**31)),
    rows("V15.rest", (OK, DECODE), lambda: b.claims_entries(_CLIP(), "stsz", 2**28),
         lambda: b.claims_entries(_CLIP(), "ctts", 2**31),
         lambda: b.claims_entries(_CLIP(), "stsc", 2**31),
         lambda: b.claims_entries(_CLIP(), "stco", 2**31)),
    rows("V16", DECODE, lambda: b.constant_sizes(_NO_B(), 2**28)),
    rows("V17", LONG, partial(_lasting, 315_360)),
    rows("V17.rest", (OK, LONG, DECODE), lambda: b.timescale(_CLIP(), 0),
         lambda: b.timescale(_CLIP(), 1),
         lambda: b.with_edit_list(_CLIP(), (1000, -1)), lambda: b.timescale(_CLIP(), 2**32 - 1),
         lambda: b.with_edit_list(_CLIP(), (2**32 - 1, -(2**31)))),
    rows("V18", COMPLEX, Clip(420, size=(16, 16), gop=1000)),
    rows("V19", DECODE, partial(b.compressed_moov, 64 << 20),
         partial(b.compressed_moov, 1000, 2**31 - 1), partial(b.compressed_moov, 1000, 2**32 - 1)),
    rows("V20", DECODE, partial(b.nested, 3_000),
         lambda: _FTYP + struct.pack(">I4s", 0, b"moov"),
         lambda: _FTYP + struct.pack(">I4sQ", 1, b"moov", 2**63 - 1),
         lambda: _FTYP + struct.pack(">I4s", 7, b"moov") * 20_000),
    rows("V21", (DECODE, COMPLEX), partial(b.matroska_bomb, 512 << 20),
         partial(b.matroska_attachments, 10_000),
         lambda: b.matroska(b.matroska_track(), size=b.UNKNOWN_SIZE),
         lambda: b.matroska(b.element("EC", bytes(1 << 20)), size=b.UNKNOWN_SIZE)),
    rows("V22", COMPLEX, Clip(420, size=(16, 16),
                              muxing={"movflags": "frag_every_frame+empty_moov"})),
    rows("V36", LARGE, lambda: _CLIP() + bytes(MAX_VIDEO_BYTES)),
)  # fmt: skip

TIMES = table(
    rows("V23", OK, Clip(24, rate=10_000), lambda: b.time_to_sample(_NO_B(), (24, 0))),
    rows("V23.jumps", (OK, LONG), _jumping),
    rows("V24.end", OK, _CLIP),
    rows("V24.missing", DECODE, lambda: b"".join(
        b.box(*part) for part in b.boxes(_CLIP()) if part[0] != b"moov")),
    rows("V24.cut", (OK, DECODE), *(lambda d=d, s=s: _cut(d(), s) for s in (0.1, 0.5, 0.99)
                                    for d in (_CLIP, _MKV, Clip(muxing={"movflags": "frag_keyframe+"
                                                                        "empty_moov"})))),
    rows("V30", OK, Clip(1), Clip(2), Clip(5)),
    rows("V31", OK, Clip(4, size=(63, 47), pix_fmt="yuv444p"), lambda: rotated(_CLIP()),
         Clip(2, codec="libvpx-vp9", container="webm", size=(1, 1)),
         Clip(4, options={"x264-params": "sar=4\\:3"})),
    rows("V34", OK, lambda: swapped_packets(Clip(48, gop=12)(), "matroska", lambda p: p[5:]),
         lambda: b.drop_box(Clip(48, options={"bf": "3"})(), "moov/trak", b"edts"),
         lambda: swapped_packets(Clip(48, gop=24)(), "matroska", lambda p: p[:7] + p[9:])),
    rows("V37.cover", OK, lambda: _with_cover(_CLIP())),
    rows("V37", OK, lambda: with_sound(_CLIP, num_sounds=0, num_videos=2),
         lambda: with_sound(_CLIP, num_sounds=5)),
)  # fmt: skip

CODECS = table(
    rows("V25", CODEC, _in("png", "mov", "rgb24"), _in("tiff", "mov", "rgb24"),
         _in("jpeg2000", "mov", "rgb24"), _in("qtrle", "mov", "rgb24"),
         _in("ffv1", "matroska", "yuv420p"), _in("prores", "mov", "yuv422p10le"),
         _in("mjpeg", "avi", "yuvj420p"), _in("msmpeg4", "avi", "yuv420p"),
         _in("rawvideo", "avi", "yuv420p"),
         _in("mpeg2video", "mp4", "yuv420p")),
    rows("V26", TYPE, Clip(4, container="mpegts"), Clip(4, container="flv"),
         Clip(4, codec="msmpeg4", container="asf"),
         Clip(4, container="h264"),
         Clip(4, codec="gif", container="gif", pix_fmt="rgb8"),
         lambda: b".RMF\0\0\0\x12" + bytes(99),
         Clip(4, codec="apng", container="apng", pix_fmt="rgb24"),
         lambda: b"YUV4MPEG2 W16 H16 F25:1\nFRAME\n" + bytes(384), lambda: b"OggS" + bytes(99)),
    rows("V27", DECODE, Clip(24, muxing=_KEY)),
    rows("V28", DECODE, sound_only, lambda: _with_cover(sound_only())),
    rows("V32", OK, Clip(6, pix_fmt="yuv420p10le"), Clip(6, pix_fmt="yuv444p"),
         Clip(6, pix_fmt="yuvj420p"), Clip(6, codec="libx265", pix_fmt="yuv420p10le", options={
             "x265-params": "log-level=none:pools=1:colorprim=bt2020:transfer=smpte2084"}),
         Clip(6, codec="libvpx-vp9", container="webm", pix_fmt="yuva420p")),
    rows("V33", OK, *(Clip(12, codec=codec, container=container) for codec, container in
                      (("libsvtav1", "mp4"), ("libvpx", "webm"), ("libvpx-vp9", "webm"),
                       ("libx265", "mp4"), ("mpeg4", "avi"), ("mpeg4", "mp4")))),
    rows("V35", TYPE, lambda: encoded(photo(64, 64), "JPEG"), lambda: encoded(photo(64, 64)),
         lambda: encoded(photo(64, 64), "WEBP"), lambda: encoded(photo(64, 64), "AVIF")),
    rows("V35.nothing", (INVALID, TYPE), lambda: b"", lambda: b"\0", lambda: bytes(100),
         lambda: b"<html></html>"),
)  # fmt: skip
