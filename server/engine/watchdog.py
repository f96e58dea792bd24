"""Tells a worker that is stuck from one that is busy, by its pulse.

Silence is counted by the front end's own looks, not read off a clock: time in which the front end
did not run either (a suspended machine, a stopped container, a blocked loop) counts for nothing.
"""

import time

from model_runtime.pulse import Pulse

LOOK_INTERVAL_S = 0.5
IDLE_SILENCE_S = 10.0  # a waiting worker beats every second
_STEPS_OF_PATIENCE = 4


class Watchdog:
    """Over one worker, from when it is ready."""

    def __init__(self, pulse: Pulse, stall_timeout_s: float) -> None:
        self._pulse = pulse
        self._stall_timeout_s = stall_timeout_s
        self._longest_step_s = 0.0
        self._num_turns = pulse.num_turns
        self._last_look = time.monotonic()
        self._silence_s = 0.0

    def look(self) -> None:
        """To be called every `LOOK_INTERVAL_S`."""
        now = time.monotonic()
        elapsed, self._last_look = now - self._last_look, now
        if self._pulse.num_turns == self._num_turns:
            self._silence_s += min(elapsed, 2 * LOOK_INTERVAL_S)
        else:
            self._num_turns, self._silence_s = self._pulse.num_turns, 0.0

    def on_step(self, step_time_s: float) -> None:
        self._longest_step_s = max(self._longest_step_s, step_time_s)

    @property
    def silence_s(self) -> float:
        """Since the last beat, as far as looks have shown."""
        return self._silence_s if self._pulse.num_turns == self._num_turns else 0.0

    @property
    def is_stalled(self) -> bool:
        """It must be replaced. A long step is no stall: the limit grows with what was seen."""
        limit = max(self._stall_timeout_s, _STEPS_OF_PATIENCE * self._longest_step_s)
        return self.silence_s > limit

    @property
    def is_doubtful(self) -> bool:
        """Nothing should be sent to it for now: it should be waiting, and does not show it."""
        return self.is_stalled or (self._pulse.is_idle and self.silence_s > IDLE_SILENCE_S)
