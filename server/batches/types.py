"""What batches are made of: stored files, batches, lines and their results."""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
Ending = Literal["completed", "expired", "cancelled"]
UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    num_bytes: int
    created_at: int  # seconds since 1970, here and below
    filename: str  # the client's, shown and never used as a path
    purpose: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an input file cannot be run. `line` counts from 1; None: the file as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    id: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    status: Status = "validating"
    metadata: dict[str, str] | None = None
    times: dict[str, int] = field(default_factory=dict)  # status → when it began
    problems: list[Problem] = field(default_factory=list)
    total: int = 0  # lines
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None


class Line(msgspec.Struct, frozen=True):
    """One request of an input file; `body` is read when its turn comes."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What an endpoint said to a line's body."""

    status_code: int
    request_id: str
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class LineResult:
    """A line of the output file, or of the error file."""

    line: int  # place in the input file
    is_error: bool
    content: bytes  # JSON without a newline
