"""Progress of what takes long: a bar at a terminal, a line in the log now and then elsewhere."""

import logging
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)
_LINE_EVERY_S = 10.0


class Progress:
    """Of `total` bytes. Short work leaves no trace in the log."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._told = time.monotonic()
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=what, total=total, unit="B", unit_scale=True, disable=not is_terminal, leave=False
        )

    def advance(self, amount: int) -> None:
        self._done += amount
        self._bar.update(amount)
        now = time.monotonic()
        if self._bar.disable and now - self._told >= _LINE_EVERY_S:
            self._told = now
            logger.info("%s: %.0f %%", self._what, 100 * self._done / self._total)

    def close(self) -> None:
        self._bar.close()
