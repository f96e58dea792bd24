"""How a failed step is done again: in smaller parts, down to what cannot be done. No tensors."""

from model_runtime.scheduler import ScheduledSequence, ScheduledStep, ScheduledTiles

_LEAST_CHUNK = 32  # tokens; smaller ones need hardly less memory


def divide(step: ScheduledStep, *, for_memory: bool) -> list[ScheduledStep]:
    """The same work in two parts, to be done in this order; none when it is a single request's.

    `for_memory`: a single request's work is divided too, as far as that helps.
    """
    if step.tiles and step.sequences:
        return [ScheduledStep(tiles=step.tiles), ScheduledStep(step.prefills, step.decodes)]
    if step.tiles:
        return [ScheduledStep(tiles=half) for half in _divide_tiles(step.tiles, for_memory)]
    if len(step.sequences) > 1:
        half, num_prefills = len(step.sequences) // 2, len(step.prefills)
        cut = max(0, half - num_prefills)
        return [
            ScheduledStep(step.prefills[:half], step.decodes[:cut]),
            ScheduledStep(step.prefills[half:], step.decodes[cut:]),
        ]
    if for_memory and step.prefills:
        return [ScheduledStep([half]) for half in _divide_chunk(step.prefills[0])]
    return []


def without_finished(step: ScheduledStep) -> ScheduledStep:
    """What of it is still wanted; pictures are, for whoever comes next."""
    return ScheduledStep(
        [chunk for chunk in step.prefills if not chunk.sequence.is_finished],
        [chunk for chunk in step.decodes if not chunk.sequence.is_finished],
        step.tiles,
    )


def _divide_tiles(
    tiles: dict[bytes, ScheduledTiles], for_memory: bool
) -> list[dict[bytes, ScheduledTiles]]:
    items = list(tiles.items())
    if len(items) > 1:
        half = len(items) // 2
        return [dict(items[:half]), dict(items[half:])]
    content_hash, part = items[0]
    if not for_memory or part.end - part.start == 1:
        return []
    middle = (part.start + part.end) // 2
    halves = (part.start, middle), (middle, part.end)
    return [{content_hash: ScheduledTiles(part.tiles, start, end)} for start, end in halves]


def _divide_chunk(chunk: ScheduledSequence) -> list[ScheduledSequence]:
    half = chunk.num_tokens // 2
    if half < _LEAST_CHUNK:
        return []
    return [
        ScheduledSequence(chunk.sequence, chunk.start, half, samples=False),
        ScheduledSequence(
            chunk.sequence, chunk.start + half, chunk.num_tokens - half, chunk.samples
        ),
    ]
