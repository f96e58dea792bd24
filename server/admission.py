"""Permits: how many requests may be inside at once, and whose. Owned by the event loop."""

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.errors import ApiError, OverloadedError, RateLimitError

NEAR_FULL = 0.8  # of the house: from here on, no key gets more than its share
MEDIA_SHARE = 0.75  # of the house: so many may wait for pictures; texts have the rest
_WINDOW_S = 60.0


class Permit:
    """The right to be inside. Released once, however often `release` is called."""

    def __init__(self, house: "Admission", key: str) -> None:
        self._house: Admission | None = house
        self._key = key
        self._num_tokens = 0

    def reserve(self, num_tokens: int) -> None:
        """Room for what the request will hold in the engine. Raises OverloadedError."""
        assert self._house is not None, "the permit was released. This is a bug."
        self._house.take_tokens(num_tokens)
        self._num_tokens += num_tokens

    def release(self) -> None:
        house, self._house = self._house, None
        if house is not None:
            house.leave(self._key, self._num_tokens)


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """What one key may do. None is no limit."""

    requests_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    num_keys: int = 1  # that share the house


class Admission:
    """Refuses at once, before any work: when the house is full, when a key has had its due, and
    when the house is nearly full and a key has more of it than its share.

    Full is counted in requests and in tokens: what is inside, queued or computed, may become so
    many. The share is that of all keys there are, not of those inside: so there is room for the
    next key before it comes. `key` is any text that tells one key from another.
    """

    def __init__(
        self,
        max_requests: int,
        quotas: Quotas | None = None,
        on_refusal: Callable[[str], None] = lambda reason: None,
        max_tokens: Callable[[], float] = lambda: math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_refusal` is told the reason: full, tokens, media, fair_share, concurrency or rate.

        `max_tokens` may be infinite, as long as the engine does not know its memory.
        """
        self._max_requests = max_requests
        self._quotas = quotas or Quotas()
        self._on_refusal = on_refusal
        self._max_tokens = max_tokens
        self._clock = clock
        self._share = max(1, max_requests // max(1, self._quotas.num_keys))
        self._num_inside: Counter[str] = Counter()
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)  # of the last minute
        self._num_loading = 0
        self.num_inside = 0
        self.num_tokens = 0  # reserved

    def knock(self, key: str = "") -> None:
        """Before a request's body is read; counts against the key's rate. Raises ApiError."""
        self._check_room(key)
        self._check_rate(key)

    def admit(self, key: str = "") -> Permit:
        """Before a request's work begins. Raises ApiError."""
        self._check_room(key)
        self.num_inside += 1
        self._num_inside[key] += 1
        return Permit(self, key)

    def take_tokens(self, num_tokens: int) -> None:
        """A request that is alone is always let in. Raises OverloadedError."""
        if self.num_tokens and self.num_tokens + num_tokens > self._max_tokens():
            raise self._full_of_tokens()
        self.num_tokens += num_tokens

    def leave(self, key: str, num_tokens: int) -> None:
        self.num_inside -= 1
        self.num_tokens -= num_tokens
        self._num_inside[key] -= 1
        if not self._num_inside[key]:
            del self._num_inside[key]

    @contextmanager
    def loading_media(self) -> Iterator[None]:
        """While a request's media are fetched and decoded. Raises OverloadedError."""
        if self._num_loading >= max(1, MEDIA_SHARE * self._max_requests):
            message = "Too many requests wait for their images and videos. Try again soon."
            raise self._refusal("media", OverloadedError(message))
        self._num_loading += 1
        try:
            yield
        finally:
            self._num_loading -= 1

    def _check_room(self, key: str) -> None:
        if self.num_inside >= self._max_requests:
            message = f"The server is working on {self.num_inside} requests already."
            raise self._refusal("full", OverloadedError(f"{message} Try again soon."))
        if self.num_tokens >= self._max_tokens():
            raise self._full_of_tokens()
        allowed = self._quotas.max_concurrent_requests
        if allowed is not None and self._num_inside[key] >= allowed:
            message = f"This key has {allowed} requests under way, which is its limit."
            raise self._refusal("concurrency", RateLimitError(message))
        is_near_full = self.num_inside >= NEAR_FULL * self._max_requests
        if is_near_full and self._num_inside[key] >= self._share:
            message = "The server is nearly full, and this key has its share of it."
            raise self._refusal("fair_share", OverloadedError(f"{message} Try again soon."))

    def _check_rate(self, key: str) -> None:
        """No minute, wherever it begins, has more than the quota."""
        allowed = self._quotas.requests_per_minute
        if allowed is None:
            return
        times, now = self._times[key], self._clock()
        while times and times[0] <= now - _WINDOW_S:
            times.popleft()
        if len(times) >= allowed:
            message = f"This key may send {allowed} requests a minute."
            wait = math.ceil(times[0] + _WINDOW_S - now)
            raise self._refusal("rate", RateLimitError(message, retry_after_s=wait))
        times.append(now)

    def _full_of_tokens(self) -> ApiError:
        message = "The server has as many tokens to compute as it takes on. Try again soon."
        return self._refusal("tokens", OverloadedError(message))

    def _refusal(self, reason: str, error: ApiError) -> ApiError:
        self._on_refusal(reason)
        return error
