"""Tells whether failures are the requests' or the device's: then the worker must end."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)
_MAX_BAD_STEPS = 3


class DeviceLostError(Exception):
    """Nothing that is computed from here on can be trusted."""


class Soundness:
    """Counts steps that brought nothing; after some in a row, has the model compute something that
    always goes well. So requests that fail by their own fault cannot end a worker."""

    def __init__(self, probe: Callable[[], bool]) -> None:
        self._probe = probe
        self._num_bad_steps = 0

    def on_step(self, *, is_bad: bool) -> None:
        """Raises DeviceLostError when the model does not work any more."""
        self._num_bad_steps = self._num_bad_steps + 1 if is_bad else 0
        if self._num_bad_steps < _MAX_BAD_STEPS:
            return
        self._num_bad_steps = 0
        if not self._probe():
            raise DeviceLostError("The model does not compute any more.")
        logger.warning("%d steps failed one after another; the model is sound", _MAX_BAD_STEPS)
