"""A decoder process: hostile bytes in, pixels out, under limits of its own.

    python -m server.media.decoder MEMORY_BYTES

Frames come on stdin and leave on stdout. The process can open no file and no socket once it
is warm; a crafted file can at worst end this process. Never imports torch.
"""

import importlib
import io
import os
import pkgutil
import resource
import struct
import sys
from typing import BinaryIO

import av
import msgspec
from PIL import Image, features

from model_runtime.lifeline import die_with_parent
from server.media.image import (
    decode_frame_list,
    decode_image,
    measure_frame_list,
    measure_image,
)
from server.media.jobs import DecodeRefusal, Job, JobResult, MeasureJob, MediaRefused
from server.media.video import decode_video, measure_video

HEADER = struct.Struct("!Q")
_CPU_SECONDS_PER_JOB = 30
_NICENESS = 19  # who streams a text goes first where processors are few
_MEASURERS = {"image": measure_image, "video": measure_video, "frames": measure_frame_list}
_DECODERS = {"image": decode_image, "video": decode_video, "frames": decode_frame_list}

_AVIF = ("AVIF",) if features.check("avif") else ()


def main(memory_bytes: int) -> None:
    die_with_parent()
    warm_up()
    limit(memory_bytes)
    decoder = msgspec.msgpack.Decoder(Job)
    encoder = msgspec.msgpack.Encoder()
    while (payload := _read_frame(sys.stdin.buffer)) is not None:
        _allow_cpu(_CPU_SECONDS_PER_JOB)
        result = encoder.encode(answer(decoder.decode(payload)))
        sys.stdout.buffer.write(HEADER.pack(len(result)))
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()


def answer(job: Job) -> JobResult:
    """The media's fault becomes a refusal; memory past the limit does too."""
    try:
        if isinstance(job, MeasureJob):
            return _MEASURERS[job.source.kind](job.source)
        return _DECODERS[job.source.kind](job)
    except MediaRefused as refusal:
        return DecodeRefusal(refusal.code, refusal.message)
    except MemoryError:
        return DecodeRefusal("media_too_complex", "Decoding the media takes too much memory.")
    except Exception:  # a decoder library's surprise is the media's fault, never ours to echo
        return DecodeRefusal("media_decode_failed", "The media is damaged or cannot be decoded.")


def warm_up() -> None:
    """Import what the libraries would import later, when files can no longer be opened."""
    Image.init()
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", *_AVIF):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, form)
        Image.open(buffer).load()
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name != "av.__main__":
            importlib.import_module(module.name)
    av.VideoFrame(16, 16, "yuv420p").to_ndarray(format="rgb24")


def limit(memory_bytes: int) -> None:
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def _allow_cpu(seconds: int) -> None:
    """The limit counts from the start of the process: raise it by one job's share."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _read_frame(stream: BinaryIO) -> bytes | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    payload = stream.read(length)
    return payload if len(payload) == length else None


if __name__ == "__main__":
    main(int(sys.argv[1]))
