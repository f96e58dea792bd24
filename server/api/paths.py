"""Errors in the client's own words: our paths of a translated request back to the client's."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from server.errors import ApiError

_MESSAGE = re.compile(r"messages\[([0-9]+)\](.*)")
_LAST_STEP = re.compile(r"(?:\.[^.\[\]]+|\[[0-9]+\])$")

Names = Mapping[str, str]  # our path → the client's


@dataclass(frozen=True, slots=True)
class ClientPaths:
    """`fields`: of the request; `turns`: of each message, relative to it (`.content[0]`)."""

    fields: Names
    turns: Sequence[Names]

    def of(self, param: str) -> str:
        """The longest beginning that has a name decides; what has none keeps its own."""
        match = _MESSAGE.fullmatch(param)
        if match and int(match[1]) < len(self.turns):
            return _renamed(match[2], self.turns[int(match[1])]) or param
        return _renamed(param, self.fields) or param

    @contextmanager
    def restored(self) -> Iterator[None]:
        """ApiErrors leave with the client's path."""
        try:
            yield
        except ApiError as error:
            if error.param is not None:
                error.param = self.of(error.param)
            raise


def _renamed(path: str, names: Names) -> str:
    """Empty when no beginning of it is known."""
    known = path
    while known not in names:
        shorter = _LAST_STEP.sub("", known)
        if shorter == known:
            return ""
        known = shorter
    return names[known] + path[len(known) :]
