"""How late the event loop is, the first sign that something blocks it; and how much is on it."""

import asyncio

from prometheus_client import CollectorRegistry, Gauge, Histogram

PERIOD_S = 0.5
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class LoopLag:
    """A task that sleeps and looks how much later than asked it wakes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Histogram(
            "internvl:event_loop_lag_seconds",
            "How much later than due the event loop runs a timer",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._num_tasks = Gauge(
            "internvl:event_loop_tasks", "Tasks of the event loop", registry=registry
        )

    async def measure(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            self._lag.observe(max(0.0, loop.time() - due))
            self._num_tasks.set(len(asyncio.all_tasks()))
