"""Tells what bytes are by their first bytes alone; names and Content-Type are not believed."""

from typing import Literal

ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"]
VideoFormat = Literal["mp4", "matroska", "avi"]

_IMAGES: list[tuple[bytes, ImageFormat]] = [
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
]
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
_STILL_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"jxl ")


def sniff_image(data: bytes) -> ImageFormat | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return next((name for magic, name in _IMAGES if data.startswith(magic)), None)


def sniff_video(data: bytes) -> VideoFormat | None:
    if data[4:8] in _MP4_BOXES and data[8:12] not in _STILL_BRANDS:
        return "mp4"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    return None
