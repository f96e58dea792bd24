"""Walks over the parts of JPEG and PNG files, which Pillow would take byte by byte in Python."""

import struct

_MAX_JPEG_JUNK = 64 << 10  # bytes between segments, which decoders skip
_MAX_PARTS = 1 << 16
_START_OF_SCAN = 0xDA
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_PNG_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


class TooManyPartsError(Exception):
    """A header of more parts than any camera or program writes."""


def check_jpeg(data: bytes) -> None:
    """Up to the first scan. Raises TooManyPartsError."""
    at, num_junk, num_segments = 2, 0, 0
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF):
            at, num_junk = at + 1, num_junk + 1
        elif marker == _START_OF_SCAN:
            return
        else:
            at += 2 if marker in _ALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            num_segments += 1
        if num_junk > _MAX_JPEG_JUNK or num_segments > _MAX_PARTS:
            raise TooManyPartsError


def check_png(data: bytes) -> None:
    """Raises TooManyPartsError, or ValueError for a part without which it cannot be shown."""
    at, num_chunks = 8, 0
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        is_optional = bool(name[0] & 0x20)
        if not is_optional and name not in _PNG_CRITICAL:
            raise ValueError("unknown critical chunk")
        at, num_chunks = at + 12 + length, num_chunks + 1
        if num_chunks > _MAX_PARTS:
            raise TooManyPartsError
        if name == b"IEND":
            return
