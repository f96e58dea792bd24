"""Bytes of media that are inside at a time, under one bound for the whole process.

Taken as they arrive, given back together. Full means 503: who waits for room may wait for
somebody who waits for room himself.
"""

from types import TracebackType

from server.errors import OverloadedError


class ByteBudget:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    def loan(self) -> "ByteLoan":
        return ByteLoan(self)

    def take(self, num_bytes: int) -> None:
        """Raises OverloadedError."""
        if self.num_bytes + num_bytes > self._max_bytes:
            raise OverloadedError("The server is busy with large media. Try again soon.")
        self.num_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes


class ByteLoan:
    """What one request holds; given back when its block ends."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Raises OverloadedError."""
        self._budget.take(num_bytes)
        self.num_bytes += num_bytes

    def __enter__(self) -> "ByteLoan":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._budget.give_back(self.num_bytes)
        self.num_bytes = 0
