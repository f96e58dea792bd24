"""Dense supervision: the visual token under a shape's centre must say the shape's words.

Trained through a language model alone, a vision tower this small hardly learns shapes.
"""

import torch
import torch.nn.functional as F

from model_runtime.demo.training.architecture import VISION_WORDS
from model_runtime.demo.training.scenes import COLORS, SHAPES
from model_runtime.demo.training.tiles import LABEL_KINDS, NO_LABEL, Labels, Pixels

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
GROUPS = {
    "shape": SHAPES,
    "color": COLORS,
    "row": ("top", "middle", "bottom"),
    "column": ("left", "center", "right"),
}
PRESENCE_WEIGHT = 2.0


def pixel_values(tiles: Pixels) -> torch.Tensor:
    """uint8 `[n, 112, 112, 3]` to normalised bfloat16 `[n, 3, 112, 112]`."""
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div_(255)
    return pixels.sub_(MEAN).div_(STD).bfloat16()


def word_loss(
    features: torch.Tensor, labels: Labels, codebook: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss and accuracies of what visual tokens say.

    `features` `[n, 16, width]` come out of the projector, `labels` `[n, 16, 4]` out of
    `label_tiles`; `codebook` `[len(VISION_WORDS), width]` embeds the words.
    """
    unit = features.float()
    unit = unit * torch.rsqrt(unit.pow(2).mean(-1, keepdim=True) + 1e-6)
    scores = unit @ codebook.float().T
    targets = torch.from_numpy(labels)
    absent = (targets[..., 0] == NO_LABEL).long()
    presence = scores[..., _columns(("shape", "background"))]
    loss = PRESENCE_WEIGHT * F.cross_entropy(presence.flatten(0, 1), absent.flatten())
    right = {"presence": _accuracy(presence, absent)}
    for index, kind in enumerate(LABEL_KINDS):
        known = targets[..., index] != NO_LABEL
        if known.any():
            said, wanted = scores[known][:, _columns(GROUPS[kind])], targets[known][:, index]
            loss = loss + F.cross_entropy(said, wanted)
            right[kind] = _accuracy(said, wanted)
    return loss, right


def _columns(words: tuple[str, ...]) -> list[int]:
    return [VISION_WORDS.index(word) for word in words]


def _accuracy(scores: torch.Tensor, targets: torch.Tensor) -> float:
    return float((scores.argmax(-1) == targets).float().mean())
