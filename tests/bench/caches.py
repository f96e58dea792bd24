"""What seeing something again is worth: time to first token, seen before / never seen.

The measured request always follows an unmeasured one, which leaves the processor equally warm.
For "seen" the two share an image or a beginning and nothing else; for "new" nothing at all.
"""

from collections.abc import Callable

from model_runtime.core import EngineCore
from model_runtime.protocol import AddRequest, TileSet
from tests.bench.method import Block
from tests.bench.ratios import RatioRow, compare_row
from tests.bench.workload import Setup, Workload, first_token_seconds

PREFIX_LEN = 1024
_SHORT_LEN = 16

_Couple = tuple[AddRequest, AddRequest]  # the earlier one, and the one that is measured
_MakeCouple = Callable[[Workload], _Couple]


def run(setup: Setup) -> list[RatioRow]:
    core, workload = setup.engine(), Workload(setup.shape)
    kinds: dict[str, _MakeCouple] = {
        "an image, in another prompt": _share_image,
        "an image and the text before it": _share_image_and_text,
        f"{PREFIX_LEN} tokens of text": _share_text,
    }
    return [
        compare_row(
            what,
            "s, seen/new",
            _block(core, workload, make_couple, is_seen=True),
            _block(core, workload, make_couple, is_seen=False),
            setup.effort.pairs,
        )
        for what, make_couple in kinds.items()
    ]


def _block(
    core: EngineCore, workload: Workload, make_couple: _MakeCouple, *, is_seen: bool
) -> Block:
    def first_token() -> float:
        earlier, measured = make_couple(workload)
        stranger, _ = make_couple(workload)
        first_token_seconds(core, earlier if is_seen else stranger)
        return first_token_seconds(core, measured)

    return first_token


def _share_image(workload: Workload) -> _Couple:
    """Different text from the first token on, so that only the image can be known."""
    one, other = workload.text(_SHORT_LEN), workload.text(_SHORT_LEN)
    image = workload.tiles(1)
    return _ask(workload, one, image), _ask(workload, other, image)


def _share_image_and_text(workload: Workload) -> _Couple:
    """A second question about the same picture."""
    before, image = workload.text(_SHORT_LEN), workload.tiles(1)
    return _ask(workload, before, image), _ask(workload, before, image)


def _ask(workload: Workload, before: list[int], image: TileSet) -> AddRequest:
    return workload.image_request(before, image, workload.text(_SHORT_LEN))


def _share_text(workload: Workload) -> _Couple:
    prefix = workload.text(PREFIX_LEN)
    earlier, measured = (
        workload.request(prefix + workload.text(_SHORT_LEN), max_tokens=1) for _ in range(2)
    )
    return earlier, measured
