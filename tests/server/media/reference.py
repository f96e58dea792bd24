"""What transformers and a plain full decode make of media: the judges of ours."""

import io

import av
import numpy as np
from PIL import Image, ImageOps
from transformers import GotOcr2ImageProcessorPil

from model_runtime.tiling import sample_frame_indices

PROCESSOR = GotOcr2ImageProcessorPil(
    size={"height": 56, "width": 56}, do_rescale=False, do_normalize=False, crop_to_patches=True
)


def reference_tiles(image: Image.Image) -> np.ndarray:
    """uint8 `[tiles, 56, 56, 3]` of an RGB picture."""
    pixels = PROCESSOR(image, return_tensors="np")["pixel_values"]
    return np.asarray(pixels).transpose(0, 2, 3, 1).astype(np.uint8)


def upright_rgb(data: bytes) -> Image.Image:
    """Written apart from the product's rule: EXIF's orientation, 16 bits scaled, alpha on white."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        grey = np.round(np.asarray(upright, np.float64) / 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if "A" in upright.mode or "transparency" in upright.info:
        rgba = np.asarray(upright.convert("RGBA"), np.float64)
        share = rgba[..., 3:] / 255
        on_white = rgba[..., :3] * share + 255 * (1 - share)
        return Image.fromarray(np.round(on_white).astype(np.uint8))
    return upright.convert("RGB")


def reference_frames(data: bytes, num_frames: int) -> np.ndarray:
    """Every frame decoded and counted, the wanted ones turned upright and resized by Pillow."""
    with av.open(io.BytesIO(data)) as container:
        shown = [_upright(frame) for frame in container.decode(video=0)]
    wanted = sample_frame_indices(len(shown), num_frames)
    return np.stack(
        [np.asarray(shown[i].resize((56, 56), Image.Resampling.BICUBIC)) for i in wanted]
    )


def _upright(frame: av.VideoFrame) -> Image.Image:
    return frame.to_image().rotate(round(frame.rotation / 90) * 90, expand=True)
