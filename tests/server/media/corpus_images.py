"""Table I of bad input: picture bytes, and what they must end with. Made when they are needed."""

import io
import random
import struct
import zlib
from functools import partial
from typing import Any

from PIL import Image

from tests.server.media import pictures as p
from tests.server.media.gate import COMPLEX, DECODE, INVALID, OK, SIZE, TYPE, rows, table
from tests.server.media.makers import chunk_of, encoded, photo, png_header

_NOISE = random.Random(7)


def _animation(form: str, **options: Any) -> bytes:
    frames = [photo(64, 64, seed=n) for n in range(4)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)


def _written(form: str, mode: str = "RGB", **options: Any) -> bytes:
    return encoded(photo(64, 64, mode), form, **options)


def _zeros(width: int, height: int) -> bytes:
    return p.png(width, height, bytes((width + 1) * height), colour=0)


def _adam7_zeros(side: int) -> bytes:
    """Seven passes over the picture."""
    passes = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2),
              (0, 1, 1, 2)]  # fmt: skip
    sizes = [(-(-(side - x) // dx), -(-(side - y) // dy)) for x, dx, y, dy in passes]
    return p.png(side, side, bytes(sum((w * 3 + 1) * h for w, h in sizes)), interlaced=True)


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _with_exif_thumbnail() -> bytes:
    head = b"II" + struct.pack("<HI", 42, 8) + struct.pack("<HI", 0, 14)
    thumbnail = encoded(photo(16, 16), "JPEG")
    entries = struct.pack("<HHIIHHII", 0x0201, 4, 1, 44, 0x0202, 4, 1, len(thumbnail))
    block = b"Exif\0\0" + head + struct.pack("<H", 2) + entries + bytes(4) + thumbnail
    return p.with_segments(p.segment(0xE1, block))


def _broken_apng() -> bytes:
    data = _animation("PNG")
    at = data.index(b"fcTL") - 4
    return data[:at] + chunk_of(b"fcTL", b"\xff" * 26) + data[at + 38 :]


def _random_profile(num_bytes: int) -> bytes:
    return _NOISE.randbytes(num_bytes)


_XMP = b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x>" + b" " * (5 << 20) + b"</x>"
_HTML = b"<!DOCTYPE html><html><script>alert(1)</script></html>"

SIZES = table(
    rows("I01", SIZE, lambda: png_header(15_000, 15_000)),
    rows("I02", SIZE, lambda: png_header(13_300, 13_300)),
    rows("I03", SIZE, lambda: png_header(2**31 - 1, 2**31 - 1), lambda: png_header(1, 2**31 - 1)),
    rows("I04", SIZE, partial(p.jpeg_of_size, 65_535, 65_535)),
    rows("I05", SIZE, partial(p.jpeg_of_size, 13_000, 13_000)),
    rows("I06", SIZE, partial(p.webp_of_size, 16_383, 5_400)),
    rows("I07", SIZE, lambda: png_header(1, 80_000_000), partial(_zeros, 16_384, 1),
         partial(_zeros, 100_000, 1)),
    rows("I08", COMPLEX, partial(p.many_scans, 500)),
    rows("I09", OK, partial(_adam7_zeros, 6000)),
    rows("I10", SIZE, partial(p.bmp_header, 30_000, 30_000)),
    rows("I12", (OK, DECODE), lambda: p.png(64, 64, bytes(50 << 20)),
         lambda: p.png(64, 64, bytes(100))),
    rows("I13", SIZE, lambda: p.gif(9000, 9000, [(0, 0, 1, 1)] * 200)),
    rows("I30", OK, *(partial(_zeros, *size) for size in ((1, 1), (1, 2), (2, 1), (3, 3)))),
    rows("I31", (DECODE, SIZE), lambda: png_header(0, 0), lambda: png_header(0, 5),
         partial(p.jpeg_of_size, 0, 0), lambda: p.gif(0, 0, []), partial(p.bmp_header, 0, 5)),
    rows("I32", OK, *(lambda s=s: encoded(photo(*s)) for s in
                      ((447, 449), (448, 448), (449, 447), (27, 5400)))),
    rows("I33.limit", OK, partial(_zeros, 1, 200), partial(_zeros, 200, 1)),
    rows("I33.beyond", SIZE, partial(_zeros, 1, 201), partial(_zeros, 201, 1)),
)  # fmt: skip

METADATA = table(
    rows("I16", DECODE, lambda: p.with_chunks(p.text_bomb(64 << 20)),
         lambda: p.with_chunks(chunk_of(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(64 << 20))))),
    rows("I16.profile", (OK, DECODE), lambda: p.with_chunks(
         chunk_of(b"iCCP", b"k\0\0" + zlib.compress(bytes(64 << 20), 9)))),
    rows("I17", DECODE, lambda: p.with_chunks(*[p.text_bomb(900 << 10)] * 100)),
    # Pillow reads a megabyte of a PNG's profile at most.
    rows("I18.profile", (OK, DECODE), lambda: encoded(photo(64, 64),
                                                      icc_profile=_random_profile(10 << 20))),
    rows("I18", OK,
         lambda: encoded(photo(64, 64), icc_profile=_random_profile(900 << 10)),
         lambda: encoded(photo(64, 64), "JPEG", icc_profile=_random_profile(5000)),
         lambda: p.with_segments(p.segment(0xE1, p.exif_in_circles())),
         lambda: p.with_segments(p.segment(0xE1, p.exif_that_lies())),
         lambda: p.with_segments(p.segment(0xE1, b"Exif\0\0II")),
         lambda: p.with_segments(p.segment(0xE1, b"Exif\0\0" + b"\xff" * 60_000)),
         lambda: p.with_chunks(chunk_of(b"eXIf", b"II*\0\xff\xff\xff\xff")),
         lambda: p.with_chunks(chunk_of(b"iTXt", _XMP)),
         lambda: p.with_chunks(chunk_of(b"prVt", bytes(8 << 20)))),
    rows("I19.ignored", OK, *(lambda n=n: p.with_segments(p.segment(0xE1, p.exif(n)))
                              for n in (0, 9, 99, 65_535))),
    rows("I27", DECODE, lambda: p.with_chunks(chunk_of(b"ABCD", b"x"))),
    rows("I27.apng", (DECODE, OK), _broken_apng),
)  # fmt: skip

_BY_NAME = {
    "TIFF": b"II*\0\x08\0\0\0", "TIFF-big": b"MM\0*\0\0\0\x08",
    "JP2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "J2K": b"\xff\x4f\xff\x51\0\x29",
    "ICO": b"\0\0\1\0\1\0\x10\x10", "CUR": b"\0\0\2\0\1\0\x10\x10",
    "PSD": b"8BPS\0\1", "FITS": b"SIMPLE  =                    T", "PCX": b"\x0a\5\1\x08",
    "TGA": b"\0\0\2\0\0\0\0\0", "XBM": b"#define x_width 8\n#define x_height 8\n",
    "XPM": b"/* XPM */\nstatic char *x[] = {", "DDS": b"DDS \x7c\0\0\0", "ICNS": b"icns\0\0\0\x10",
    "QOI": b"qoif\0\0\0\x01\0\0\0\x01\3\0", "PPM": b"P6 1 1 255\n\xff\xff\xff", "PFM": b"PF\n1 1\n",
    "SGI": b"\x01\xda\0\1\0\3", "MPO-less": b"\xff\xd7\xff\xe0", "FLI": b"\0\0\0\0\x11\xaf",
}  # fmt: skip
_NOT_PICTURES = {
    "MP4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "MKV": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
    "MP3": b"ID3\3\0\0\0\0\0\0", "ZIP": b"PK\3\4\x14\0", "ELF": b"\x7fELF\2\1\1\0",
    "PDF": b"%PDF-1.7\n", "AVI": b"RIFF\x20\0\0\0AVI LIST", "WAV": b"RIFF\x24\0\0\0WAVEfmt ",
}  # fmt: skip


def _padded(magic: bytes) -> bytes:
    return magic + bytes(100)


KINDS = table(
    rows("I14", OK, partial(_animation, "GIF"), partial(_animation, "PNG"),
         partial(_animation, "WEBP")),
    rows("I15", DECODE, lambda: p.gif(64, 64, [])),
    rows("I15.outside", (DECODE, SIZE), lambda: p.gif(8, 8, [(60_000, 60_000, 1, 1)]),
         lambda: p.gif(8, 8, [(4, 4, 60_000, 60_000)])),
    rows("I15.larger", OK, lambda: p.gif(0, 0, [(0, 0, 1, 1)])),  # browsers show it too
    rows("I20", TYPE, partial(_written, "EPS"), partial(_written, "PDF"),
         lambda: b"%!PS\n(x) run\nshowpage"),
    rows("I21", TYPE, lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", lambda: _HTML,
         lambda: b"hello", lambda: b'{"a": 1}', lambda: b"<?xml version='1.0'?><svg/>"),
    rows("I22", TYPE, *(partial(_padded, magic) for magic in _BY_NAME.values()),
         *(partial(_written, form) for form in ("TIFF", "ICO", "PPM", "TGA", "PCX", "DDS",
                                                "JPEG2000", "ICNS"))),
    rows("I23", TYPE, *(partial(_padded, b"\0\0\0\x18ftyp" + brand) for brand in
                        (b"heic", b"mif1", b"avif", b"avis", b"jxl ")),
         lambda: _padded(b"\xff\x0a"), lambda: _padded(b"\0\0\0\x0cJXL \r\n\x87\n"),
         partial(_written, "AVIF")),
    rows("I24", TYPE, *(partial(_padded, magic) for magic in _NOT_PICTURES.values())),
    rows("I25", OK, lambda: _written("GIF") + _HTML, lambda: p.JPEG + b"PK\3\4" + bytes(50),
         lambda: p.with_chunks(chunk_of(b"tEXt", b"c\0" + _HTML)), lambda: p.PNG + _HTML),
    rows("I26", DECODE, lambda: b"BM" + _NOISE.randbytes(200), lambda: b"GIF89a",
         lambda: b"RIFF\x20\0\0\0WEBP", lambda: p.PNG_SIGNATURE, lambda: b"\xff\xd8\xff"),
    rows("I49.empty", INVALID, lambda: b""),
    rows("I49", TYPE, lambda: b"\xff", lambda: b"0123456789", lambda: bytes(10)),
)  # fmt: skip

DAMAGE = table(
    rows("I40", DECODE, *(partial(_cut, data, share) for share in (0.1, 0.5, 0.99)
                          for data in (p.JPEG, p.PNG, _written("WEBP"), _written("GIF"),
                                       encoded(photo(120, 80), "JPEG", progressive=True),
                                       _written("WEBP", lossless=True), _written("BMP")))),
    rows("I45", (OK, DECODE), partial(p.jpeg_of_components, 2), partial(p.jpeg_of_components, 4),
         partial(p.jpeg_of_components, 0), partial(p.jpeg_of_components, 255),
         partial(p.jpeg_of_kind, 0xC9), partial(p.jpeg_of_kind, 0xC3),
         partial(p.jpeg_of_kind, 0xC5),
         partial(p.jpeg_of_kind, 0xC1, 12), partial(p.jpeg_of_kind, 0xC0, 12)),
    rows("I46", (OK, DECODE, COMPLEX),
         lambda: p.JPEG.replace(b"\xff\xda", p.segment(0xDD, b"\0\1") + b"\xff\xda")[:-2]
         + b"\xff\xd0\xff\xd1" * 100_000 + b"\xff\xd9",
         lambda: p.with_segments(p.segment(0xFE, b"") * 65_535),
         lambda: p.with_segments(p.segment(0xC4, b"\0" * 17) * 65_535),
         lambda: b"\xff\xd8" + b"\xff" * (20_000_000) + p.JPEG[2:],
         lambda: p.JPEG + b"\xff" * 20_000_000,
         lambda: p.JPEG[:20] + bytes(20_000_000) + p.JPEG[20:],
         lambda: p.with_chunks(chunk_of(b"prVt", b"") * 1_600_000)),
    rows("I47", (OK, DECODE, SIZE),
         lambda: p.webp_extended(64, 64, 0x10, p.riff_chunk(b"ALPH", b"\0" * 20)),
         lambda: p.webp_extended(64, 64, 8, p.riff_chunk(b"EXIF", p.exif(6)[6:])),
         lambda: p.webp_extended(100, 100), lambda: p.webp_extended(64, 64, 0x02)),
    rows("I47.size", SIZE, partial(p.webp_lossy_of_size, 16_383, 16_383),
         lambda: p.webp_extended(16_000_000, 64), lambda: p.webp_extended(2**24, 2**24)),
    rows("I48", OK, lambda: p.JPEG + encoded(photo(300, 20), "JPEG"), _with_exif_thumbnail),
)  # fmt: skip


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image
