"""Picture files by hand: headers that lie, chunks and segments that nobody needs."""

import struct
import zlib
from collections.abc import Sequence

from tests.server.media.makers import chunk_of, encoded, photo

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = chunk_of(b"IEND", b"")
JPEG = encoded(photo(120, 80), "JPEG", quality=90)
PNG = encoded(photo(120, 80))


def png(
    width: int,
    height: int,
    rows: bytes = b"",
    *,
    bits: int = 8,
    colour: int = 2,
    interlaced: bool = False,
    before: Sequence[bytes] = (),
) -> bytes:
    """`rows`: filter bytes and samples, uncompressed."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    chunks = [chunk_of(b"IHDR", header), *before, chunk_of(b"IDAT", zlib.compress(rows, 9))]
    return PNG_SIGNATURE + b"".join(chunks) + PNG_END


def with_chunks(*chunks: bytes) -> bytes:
    """The good PNG with more chunks behind its header."""
    at = len(PNG_SIGNATURE) + 25
    return PNG[:at] + b"".join(chunks) + PNG[at:]


def text_bomb(num_bytes: int) -> bytes:
    return chunk_of(b"zTXt", b"k\0\0" + zlib.compress(bytes(num_bytes), 9))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(*segments: bytes, data: bytes = JPEG) -> bytes:
    """The JPEG with more segments behind its first marker."""
    return data[:2] + b"".join(segments) + data[2:]


def frame_header_at(data: bytes) -> int:
    """Where the JPEG's SOF marker is."""
    return min(
        data.index(bytes([0xFF, kind])) for kind in (0xC0, 0xC2) if bytes([0xFF, kind]) in data
    )


def jpeg_of_size(width: int, height: int) -> bytes:
    """Announces a size; has the pixels of a small one."""
    at = frame_header_at(JPEG) + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def jpeg_of_kind(marker: int, bits: int = 8) -> bytes:
    """Announces another process: 0xC3 lossless, 0xC9 arithmetic; or 12 bits."""
    at = frame_header_at(JPEG)
    return JPEG[: at + 1] + bytes([marker]) + JPEG[at + 2 : at + 4] + bytes([bits]) + JPEG[at + 5 :]


def jpeg_of_components(count: int) -> bytes:
    at = frame_header_at(JPEG)
    return JPEG[: at + 9] + bytes([count]) + JPEG[at + 10 :]


def many_scans(count: int) -> bytes:
    """A legal progressive JPEG of many scans: its last one again and again."""
    data = encoded(photo(512, 512), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def ycck(cmyk: bytes) -> bytes:
    """Pillow writes CMYK; Adobe's marker can say that the same values are YCCK."""
    at = cmyk.index(b"Adobe") + 11
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


def without_adobe(cmyk: bytes) -> bytes:
    """Four components that are not inverted, as nobody says that they are."""
    at = cmyk.index(b"Adobe") - 4
    return cmyk[:at] + cmyk[at + 16 :]


def webp_of_size(width: int, height: int) -> bytes:
    """34 bytes, lossless: 16383x5400 costs 1.4 GB to decode."""
    pixels = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    body = b"WEBPVP8L" + struct.pack("<I", 13) + pixels + b"\x07\x10\x11\x11\x88\x88\xfe\x07"
    return b"RIFF" + struct.pack("<I", len(body) + 1) + body + b"\0"


def webp_lossy_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo(64, 64), "WEBP"))
    at = data.index(b"\x9d\x01\x2a") + 3
    data[at : at + 4] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_extended(width: int, height: int, flags: int = 0, *chunks: bytes) -> bytes:
    """VP8X that announces a canvas, whatever the picture inside is."""
    inside = encoded(photo(64, 64), "WEBP")[12:]
    canvas = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little")
    head = b"VP8X" + struct.pack("<I", 10) + canvas + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + head + b"".join(chunks) + inside
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def gif(width: int, height: int, frames: Sequence[tuple[int, int, int, int]]) -> bytes:
    """A screen, and frames of one colour each (x, y, width, height; small)."""
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    for x, y, across, down in frames:
        data += b"\x2c" + struct.pack("<HHHHB", x, y, across, down, 0)
        data += b"\x02\x02\x4c\x01\x00"  # one pixel: clear, 1, end
    return data + b"\x3b"


def bmp_header(width: int, height: int, bits: int = 8, compression: int = 1) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 54 + 1024) + info + bytes(1024) + b"\0\1" * 8


def exif(orientation: int, *, little_endian: bool = True) -> bytes:
    order, mark = ("<", b"II") if little_endian else (">", b"MM")
    head = mark + struct.pack(f"{order}HI", 42, 8)
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", 1) + entry + bytes(4)


def exif_in_circles() -> bytes:
    """The next directory is this directory, and so is the one for GPS."""
    head = b"II" + struct.pack("<HI", 42, 8)
    entry = struct.pack("<HHII", 0x8825, 4, 1, 8)
    return b"Exif\0\0" + head + struct.pack("<H", 1) + entry + struct.pack("<I", 8)


def exif_that_lies() -> bytes:
    """Entries of four billion values, far beyond the end."""
    head = b"II" + struct.pack("<HI", 42, 8)
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 0xFFFFFFFF, 0xFFFFFF00)
        for tag, kind in ((0x0112, 3), (0x010E, 2), (0x8769, 4), (0x011A, 5), (0x927C, 7))
    )
    return b"Exif\0\0" + head + struct.pack("<H", 5) + entries + bytes(4)
