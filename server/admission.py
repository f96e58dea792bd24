"""Permits: how many requests may be inside at once. Owned by the event loop."""

from collections.abc import Callable

from server.errors import OverloadedError


class Permit:
    """The right to be inside. Released once, however often `release` is called."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Admission:
    """Refuses at once, before any work, when the house is full."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self.num_inside = 0
        self.num_refused = 0

    def admit(self) -> Permit:
        """Raises OverloadedError."""
        if self.num_inside >= self._max_requests:
            self.num_refused += 1
            raise OverloadedError(
                f"The server is working on {self.num_inside} requests already. Try again soon."
            )
        self.num_inside += 1
        return Permit(self._leave)

    def _leave(self) -> None:
        self.num_inside -= 1
