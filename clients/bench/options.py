"""What the user asked for, read from the command line. Names are vLLM's where it has them."""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"
WORKLOADS = ("text", "image", "multi-image", "video", "mixed")
LIMITABLE = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Load:
    """How requests arrive: by free places (closed loop), or by the clock (open loop).

    `rate` in requests per second, None: closed loop. `concurrency` caps what is under way.
    """

    concurrency: int | None
    rate: float | None = None
    burstiness: float = 1.0

    @property
    def label(self) -> str:
        if self.rate is None:
            return f"concurrency {self.concurrency}"
        cap = f", at most {self.concurrency} at once" if self.concurrency else ""
        return f"{self.rate:g} requests/s{cap}"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the requests look like."""

    workload: str
    input_len: int  # tokens of text, about
    images_per_prompt: int
    image_size: tuple[int, int]
    video_size: tuple[int, int]
    video_frames: int
    repeat_share: float
    seed: int


@dataclass(frozen=True, slots=True)
class Options:
    base_url: str
    api_key: str | None
    model: str | None
    compare: tuple[str, str] | None
    pairs: int
    shape: Shape
    loads: tuple[Load, ...]
    num_prompts: int
    duration: float | None  # seconds
    num_warmups: int
    output_len: int
    body: dict[str, Any]  # what goes into every request besides model, messages and length
    timeout: float  # seconds
    goodput: dict[str, float]  # limits in ms by figure
    json_file: str | None
    plot: Path | None


def read_options(argv: Sequence[str]) -> Options:
    """Raises SystemExit with a message when the arguments make no sense."""
    parser = make_parser()
    given = parser.parse_args(argv)
    if given.compare and (given.plot or given.sweep):
        parser.error("--compare goes without --plot and --sweep")
    if given.sweep_over == "rate" and not given.sweep:
        parser.error("--sweep-over needs --sweep")
    return Options(
        base_url=given.base_url,
        api_key=given.api_key,
        model=given.model,
        compare=tuple(given.compare) if given.compare else None,
        pairs=given.pairs,
        shape=_shape(given),
        loads=_loads(given),
        num_prompts=given.num_prompts,
        duration=given.duration,
        num_warmups=given.num_warmups,
        output_len=given.output_len,
        body=_body(given),
        timeout=given.timeout,
        goodput=dict(given.goodput),
        json_file=given.json,
        plot=given.plot,
    )


def _shape(given: argparse.Namespace) -> Shape:
    return Shape(
        workload=given.workload,
        input_len=given.input_len,
        images_per_prompt=given.images_per_prompt,
        image_size=given.image_size,
        video_size=given.video_size,
        video_frames=given.video_frames,
        repeat_share=given.repeat_share,
        seed=given.seed,
    )


def _loads(given: argparse.Namespace) -> tuple[Load, ...]:
    """One per level of the sweep; without a sweep a single one."""
    if given.sweep and given.sweep_over == "rate":
        return tuple(Load(given.max_concurrency, rate, given.burstiness) for rate in given.sweep)
    if given.sweep:
        return tuple(Load(max(1, round(level))) for level in given.sweep)
    if given.request_rate is not None:
        return (Load(given.max_concurrency, given.request_rate, given.burstiness),)
    return (Load(given.max_concurrency or 8),)


def _body(given: argparse.Namespace) -> dict[str, Any]:
    body: dict[str, Any] = {"temperature": given.temperature}
    if given.ignore_eos:
        body["ignore_eos"] = True
    body.update(given.extra_body)
    return body


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="internvl-server bench", description="Measure any OpenAI-compatible chat server."
    )
    _add_server(parser.add_argument_group("server"))
    _add_load(parser.add_argument_group("load"))
    _add_workload(parser.add_argument_group("workload"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_server(group: argparse._ArgumentGroup) -> None:
    base_url = os.environ.get("OPENAI_BASE_URL", DEFAULT_BASE_URL)
    key = os.environ.get("OPENAI_API_KEY")
    group.add_argument("--base-url", default=base_url, help=f"API root (default: {base_url})")
    group.add_argument("--api-key", default=key, help="key (default: OPENAI_API_KEY)")
    group.add_argument("--model", help="model name (default: the server's first)")
    group.add_argument(
        "--compare", nargs=2, metavar=("URL_A", "URL_B"), help="measure two servers in turns"
    )
    group.add_argument("--pairs", type=_count, default=5, help="of blocks, with --compare (5)")
    group.add_argument("--timeout", type=_positive, default=600, help="seconds a request (600)")


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-concurrency",
        "--concurrency",
        type=_count,
        help="requests under way at once (closed loop: 8; open loop: no bound)",
    )
    group.add_argument("--request-rate", type=_positive, help="per second: open loop (or inf)")
    group.add_argument(
        "--burstiness", type=_positive, default=1.0, help="1: Poisson; less: burstier (1)"
    )
    group.add_argument("--sweep", type=_levels, metavar="1,2,4,8", help="one run per level")
    group.add_argument("--sweep-over", choices=("concurrency", "rate"), default="concurrency")
    group.add_argument("--num-prompts", type=_count, default=100, help="a level (100)")
    group.add_argument("--duration", type=_positive, help="seconds; send nothing new after that")
    group.add_argument("--num-warmups", type=_natural, default=2, help="before each level (2)")


def _add_workload(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--workload", choices=WORKLOADS, default="text")
    group.add_argument("--input-len", type=_count, default=128, help="tokens of text (128)")
    group.add_argument("--output-len", type=_count, default=128, help="max_tokens (128)")
    group.add_argument("--ignore-eos", action="store_true", help="always --output-len tokens")
    group.add_argument("--images-per-prompt", type=_count, default=3, help="multi-image (3)")
    group.add_argument("--image-size", type=_size, default=(448, 448), help="JPEGs (448x448)")
    group.add_argument("--video-size", type=_size, default=(640, 360), help="(640x360)")
    group.add_argument("--video-frames", type=_count, default=48, help="at 24 a second (48)")
    group.add_argument(
        "--repeat-share", type=_share, default=0.0, help="of media seen before (text: of texts)"
    )
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--temperature", type=float, default=0.0, help="(0)")
    group.add_argument("--extra-body", type=_object, default={}, help="JSON object to send along")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--goodput",
        nargs="+",
        type=_limit,
        default=[],
        metavar="FIGURE:MS",
        help="limits, as ttft:500 tpot:50 e2e:2000",
    )
    group.add_argument("--json", metavar="FILE|-", help="append a JSON line a level; -: print it")
    group.add_argument("--plot", type=_page, metavar="FILE.html", help="write charts")


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def _natural(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return int(text)


def _positive(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return float(text)


def _share(text: str) -> float:
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 0 and less than 1")
    return float(text)


def _levels(text: str) -> tuple[float, ...]:
    return tuple(_positive(level) for level in text.split(","))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if min(int(width), int(height)) < 16 or int(width) % 2 or int(height) % 2:
        raise argparse.ArgumentTypeError("must be WIDTHxHEIGHT, even numbers from 16 on")
    return int(width), int(height)


def _limit(text: str) -> tuple[str, float]:
    name, _, limit = text.partition(":")
    name = {"e2el": "e2e"}.get(name, name)
    if name not in LIMITABLE:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(LIMITABLE)}, as ttft:500")
    return name, _positive(limit)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _page(text: str) -> Path:
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError("must end with .html")
    return Path(text)
