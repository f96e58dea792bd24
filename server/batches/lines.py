"""The input files of batches: JSON lines, each a request under a name of the client's."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from server.batches.types import Line, LineAnswer, LineResult, Problem

MAX_LINES = 50_000
MAX_CUSTOM_ID_CHARS = 512
_MAX_PROBLEMS = 100
_DECODER = msgspec.json.Decoder(Line)


class LineTooLongError(Exception):
    """`place` is the line's."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def raw_lines(path: Path, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its place. Raises LineTooLongError."""
    with path.open("rb") as file:
        for place, raw in enumerate(iter(lambda: file.readline(max_line_bytes + 1), b"")):
            if len(raw) > max_line_bytes:
                raise LineTooLongError(place)
            if raw.strip():
                yield place, raw


def find_problems(path: Path, endpoint: str, max_line_bytes: int) -> tuple[list[Problem], int]:
    """What is wrong with a file, the first hundred of it; and how many lines it has.

    The bodies are not looked into: what is wrong with one ends its own line only.
    """
    problems: list[Problem] = []
    names: set[str] = set()
    num_lines = 0
    try:
        for place, raw in raw_lines(path, max_line_bytes):
            num_lines += 1
            if num_lines > MAX_LINES:
                message = f"The file has more than {MAX_LINES} lines."
                return [Problem("too_many_lines", message)], num_lines
            if problem := _problem(place + 1, raw, endpoint, names):
                problems.append(problem)
            if len(problems) == _MAX_PROBLEMS:
                break
    except LineTooLongError as error:
        message = f"A line has at most {max_line_bytes} bytes."
        problems.append(Problem("line_too_long", message, error.place + 1))
    if not num_lines and not problems:
        problems.append(Problem("empty_file", "The file has no lines."))
    return problems, num_lines


def _problem(number: int, raw: bytes, endpoint: str, names: set[str]) -> Problem | None:
    """`names`: the custom_ids so far; the line's is added."""
    try:
        line = read_line(raw)
    except msgspec.ValidationError:
        message = "A line needs custom_id, method and url as strings, and body."
        return Problem("invalid_line", message, number)
    except msgspec.DecodeError:
        return Problem("invalid_json_line", "This line is not valid JSON.", number)
    if not 1 <= len(line.custom_id) <= MAX_CUSTOM_ID_CHARS:
        message = f"custom_id has 1 to {MAX_CUSTOM_ID_CHARS} characters."
        return Problem("invalid_custom_id", message, number, "custom_id")
    if line.custom_id in names:
        message = "This custom_id was used by an earlier line."
        return Problem("duplicate_custom_id", message, number, "custom_id")
    names.add(line.custom_id)
    if line.method != "POST":
        return Problem("invalid_method", "method must be POST.", number, "method")
    if line.url != endpoint:
        return Problem("invalid_url", "url must be the batch's endpoint.", number, "url")
    return None


def read_line(raw: bytes) -> Line:
    """Raises msgspec.DecodeError, or its ValidationError."""
    return _DECODER.decode(raw)


def answered(place: int, line: Line, answer: LineAnswer) -> LineResult:
    """A line that was run, whether the endpoint took it or not."""
    response = {
        "status_code": answer.status_code,
        "request_id": answer.request_id,
        "body": answer.body,
    }
    return _result(place, line, answer.status_code != 200, response, None)


def not_run(place: int, line: Line, code: str, message: str) -> LineResult:
    return _result(place, line, True, None, {"code": code, "message": message})


def _result(
    place: int,
    line: Line,
    is_error: bool,
    response: dict[str, object] | None,
    error: dict[str, str] | None,
) -> LineResult:
    content = {
        "id": f"batch_req_{uuid.uuid4().hex}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    return LineResult(place, is_error, msgspec.json.encode(content))
