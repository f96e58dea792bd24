"""Does the way of a picture work: decoder processes start, are limited, and decode."""

import asyncio
import base64
import io
from dataclasses import replace

from PIL import Image

from model_runtime.checkpoint import DEMO_CHECKPOINT, load_checkpoint
from server.doctor.report import Finding
from server.media.loader import MediaLoader
from server.media.types import MediaRequest
from server.settings import ServerSettings

_TIMEOUT_S = 60.0


def check_decoder(settings: ServerSettings) -> Finding:
    try:
        asyncio.run(asyncio.wait_for(_decode_one(settings), _TIMEOUT_S))
    except Exception as error:
        found = f"a tiny picture could not be decoded ({type(error).__name__})"
        advice = "see that processes may be started and that Pillow and PyAV are installed whole"
        return Finding("decoder", "problem", found, advice)
    return Finding("decoder", "ok", "a limited process decodes pictures")


async def _decode_one(settings: ServerSettings) -> None:
    tiles = load_checkpoint(DEMO_CHECKPOINT, "demo").tiles
    loader = MediaLoader(replace(settings.media_settings(), num_decoders=1), tiles)
    await loader.start()
    try:
        async with loader.open([MediaRequest("image", _picture(), "picture")]) as media:
            await media.load()
    finally:
        await loader.stop()


def _picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
