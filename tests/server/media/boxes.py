"""Surgery on video files: MP4 boxes, Matroska elements, AVI chunks that lie or hide something."""

import struct
import zlib
from collections.abc import Callable, Iterator

_HOLDERS = {
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"edts",
    b"dinf",
    b"mvex",
    b"moof",
    b"traf",
}
_OFFSETS = {b"stco": ">I", b"co64": ">Q"}
Change = Callable[[bytes], bytes]


def box(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content


def full_box(name: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(name, struct.pack(">B", version) + flags.to_bytes(3, "big") + content)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents on one level."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        size = size or len(data) - at
        yield name, data[at + 8 : at + size]
        at += max(size, 8)


def change(data: bytes, path: str, edit: Change) -> bytes:
    """The file with the content of each box at `path` (moov/trak/…) edited; sample offsets follow
    as long as the moov box stands at the end, as FFmpeg writes it."""
    name, _, rest = path.partition("/")
    out = b""
    for kind, content in boxes(data):
        if kind == name.encode():
            content = change(content, rest, edit) if rest else edit(content)
        out += box(kind, content)
    return out


def add_box(data: bytes, path: str, new: bytes) -> bytes:
    return change(data, path, lambda content: content + new)


def drop_box(data: bytes, path: str, name: bytes) -> bytes:
    def edit(content: bytes) -> bytes:
        return b"".join(box(kind, inner) for kind, inner in boxes(content) if kind != name)

    return change(data, path, edit)


STBL = "moov/trak/mdia/minf/stbl"


def time_to_sample(data: bytes, *entries: tuple[int, int]) -> bytes:
    table = struct.pack(">II", 0, len(entries)) + b"".join(struct.pack(">II", *e) for e in entries)
    return change(data, f"{STBL}/stts", lambda _: table)


def claims_entries(data: bytes, name: str, count: int) -> bytes:
    """A table that announces more entries than it has."""
    at = 8 if name == "stsz" else 4
    return change(data, f"{STBL}/{name}", lambda c: c[:at] + struct.pack(">I", count) + c[at + 4 :])


def constant_sizes(data: bytes, count: int) -> bytes:
    """All samples of one size, and very many of them."""
    data = change(data, f"{STBL}/stsz", lambda _: struct.pack(">III", 0, 100, count))
    return time_to_sample(data, (count, 1))


def described_size(data: bytes, width: int, height: int) -> bytes:
    """stsd's width and height, which stand 24 bytes into its first entry's content."""
    size = struct.pack(">HH", width, height)
    return change(data, f"{STBL}/stsd", lambda c: c[:40] + size + c[44:])


def with_edit_list(data: bytes, *entries: tuple[int, int]) -> bytes:
    """Entries of (duration in the movie's ticks, media time); replaces the one that is there."""
    table = struct.pack(">I", len(entries)) + b"".join(
        struct.pack(">IiI", duration, start, 1 << 16) for duration, start in entries
    )
    edits = box(b"edts", full_box(b"elst", table))

    def edit(trak: bytes) -> bytes:
        parts = [(kind, content) for kind, content in boxes(trak) if kind != b"edts"]
        kept = [box(kind, content) for kind, content in parts]
        return kept[0] + edits + b"".join(kept[1:])

    return change(data, "moov/trak", edit)


def timescale(data: bytes, value: int) -> bytes:
    return change(data, "moov/trak/mdia/mdhd", lambda c: c[:12] + struct.pack(">I", value) + c[16:])


def compressed_moov(num_bytes: int, claimed: int | None = None) -> bytes:
    """`cmov`: a zlib stream in the place of the moov box."""
    packed = zlib.compress(box(b"free", bytes(num_bytes)), 9)
    size = struct.pack(">I", claimed if claimed is not None else num_bytes + 8)
    cmov = box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", size + packed))
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", cmov)


def nested(depth: int) -> bytes:
    data = b""
    for level in range(depth):
        data = box(b"moov" if level == depth - 1 else b"trak", data)
    return box(b"ftyp", b"isom\0\0\2\0isom") + data


def many_tracks(data: bytes, count: int) -> bytes:
    """The first track again and again."""

    def edit(moov: bytes) -> bytes:
        (trak,) = [content for kind, content in boxes(moov) if kind == b"trak"]
        return moov + box(b"trak", trak) * (count - 1)

    return change(data, "moov", edit)


def external_data(data: bytes, location: bytes) -> bytes:
    """`dref` that says: the samples are in another file."""
    url = full_box(b"url ", location + b"\0")
    reference = full_box(b"alis", b"\0" * 142)
    content = struct.pack(">II", 0, 2) + url + reference
    return change(data, "moov/trak/mdia/minf/dinf/dref", lambda _: content)


def reference_movie(location: bytes) -> bytes:
    """QuickTime's `rmra`: the movie is elsewhere."""
    data_reference = full_box(
        b"rdrf", b"url " + struct.pack(">I", len(location) + 1) + location + b"\0"
    )
    movie = box(b"moov", box(b"rmra", box(b"rmda", data_reference)))
    return box(b"ftyp", b"qt  \0\0\2\0qt  ") + movie


def element(name: str, content: bytes, size: int | None = None) -> bytes:
    """Matroska: an id in hexadecimal, a size of eight bytes, the content."""
    length = len(content) if size is None else size
    return bytes.fromhex(name) + struct.pack(">Q", length | 1 << 56) + content


UNKNOWN_SIZE = (1 << 56) - 1


def matroska(*parts: bytes, size: int | None = None) -> bytes:
    head = element("1A45DFA3", element("4282", b"matroska") + element("4287", b"\4"))
    return head + element("18538067", b"".join(parts), size)


def matroska_track(encodings: bytes = b"") -> bytes:
    video = element("E0", element("B0", b"\0\x40") + element("BA", b"\0\x30"))
    entry = element("D7", b"\1") + element("73C5", b"\1") + element("83", b"\1")
    return element("1654AE6B", element("AE", entry + element("86", b"V_VP8") + video + encodings))


def matroska_bomb(num_bytes: int) -> bytes:
    """A block of zlib-compressed zeros."""
    compression = element("5034", element("4254", b"\0"))
    encoding = element("6D80", element("6240", element("5033", b"\0") + compression))
    block = element("A3", b"\x81\0\0\x80" + zlib.compress(bytes(num_bytes), 9))
    cluster = element("1F43B675", element("E7", b"\0") + block)
    return matroska(matroska_track(encoding), cluster)


def matroska_attachments(count: int) -> bytes:
    named = element("466E", b"a") + element("4660", b"font/ttf")
    one = element("61A7", named + element("465C", b"x") + element("46AE", b"\1"))
    return matroska(matroska_track(), element("1941A469", one * count))


def avi_with_subtitle(avi: bytes, playlist: bytes) -> bytes:
    """CVE-2017-9993: a GAB2 subtitle that holds a playlist; FFmpeg used to probe and follow it."""
    name = "x".encode("utf-16-le") + b"\0\0"
    text = b"GAB2\0\2\0" + struct.pack("<I", len(name)) + name + b"\4\0"
    packet = text + struct.pack("<I", len(playlist)) + playlist
    header = (
        b"txts\0\0\0\0" + bytes(12) + struct.pack("<IIIIIIIi", 1, 1, 0, 1, len(packet), 0, 0, 0)
    )
    strh = b"strh" + struct.pack("<I", 56) + header[:40].ljust(56, b"\0")
    listing = b"strl" + strh + b"strf" + struct.pack("<I", 0)
    stream = b"LIST" + struct.pack("<I", len(listing)) + listing
    at = avi.index(b"hdrl")
    (size,) = struct.unpack_from("<I", avi, at - 4)
    head_end = at + size
    movi = avi.index(b"movi") + 4
    chunk = b"01sb" + struct.pack("<I", len(packet)) + packet + b"\0" * (len(packet) % 2)
    data = avi[: at - 4] + struct.pack("<I", size + len(stream)) + avi[at:head_end] + stream
    return data + avi[head_end:movi] + chunk + avi[movi:]
