"""What the user asked for, read from the command line and from a pipe."""

import argparse
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clients.media import MAX_FILE_BYTES, Medium, open_medium, sniff
from clients.target import ClientError, add_target_arguments


@dataclass(frozen=True, slots=True)
class Options:
    base_url: str
    api_key: str | None
    model: str | None
    system: str | None
    num_frames: int | None
    sampling: dict[str, Any]  # what goes into every request besides model and messages
    prompt: str | None  # None: a conversation
    media: tuple[Medium, ...]


def read_options(argv: Sequence[str]) -> Options:
    """Raises SystemExit when the arguments make no sense, ClientError for unreadable files."""
    given = make_parser().parse_args(argv)
    media = [open_medium("image", source) for source in given.image]
    media += [open_medium("video", source) for source in given.video]
    piped, text = _read_pipe()
    prompt = "\n\n".join(part for part in (given.prompt, text) if part) or given.prompt
    if piped and prompt is None:
        raise ClientError(f"The pipe holds a {piped.kind}; ask about it with -p.")
    return Options(
        base_url=given.base_url,
        api_key=given.api_key,
        model=given.model,
        system=given.system,
        num_frames=given.num_frames,
        sampling=_sampling(given),
        prompt=prompt,
        media=(*([piped] if piped else []), *media),
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="internvl-server chat",
        description="Talk to a server. A picture, a video or text may come through a pipe.",
    )
    add_target_arguments(parser)
    parser.add_argument("-p", "--prompt", help="ask this one question and leave")
    parser.add_argument(
        "--image", action="append", default=[], metavar="PATH_OR_URL", help="picture; repeatable"
    )
    parser.add_argument(
        "--video", action="append", default=[], metavar="PATH_OR_URL", help="video; repeatable"
    )
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--temperature", type=float, help="0: always the likeliest token")
    parser.add_argument("--max-tokens", type=int, help="most tokens of an answer")
    parser.add_argument("--seed", type=int, help="the same seed gives the same answer")
    parser.add_argument("--num-frames", type=int, help="frames taken from each video")
    return parser


def _sampling(given: argparse.Namespace) -> dict[str, Any]:
    fields = {name: getattr(given, name) for name in ("temperature", "max_tokens", "seed")}
    return {name: value for name, value in fields.items() if value is not None}


def _read_pipe() -> tuple[Medium | None, str]:
    """What a pipe or a redirected file holds: a medium, or text. Raises ClientError."""
    mode = os.fstat(0).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None, ""  # a terminal, or nothing
    with open(0, "rb", closefd=False) as pipe:
        data = pipe.read(MAX_FILE_BYTES + 1)
    if medium := sniff(data):
        return medium, ""
    try:
        return None, data.decode().strip()
    except UnicodeDecodeError as error:
        raise ClientError("The pipe holds neither a known picture or video nor text.") from error
