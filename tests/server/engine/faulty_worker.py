"""The worker, with faults that the names of requests choose: `die in prefill`, `die in decode`,
`sleep 3 in prefill`, ... For tests: they have the engine start this module in the worker's place.

The variable FAULT_IN_LOADING holds seconds that loading takes longer.
"""

import os
import signal
import sys
import time
from typing import Any

from model_runtime import worker
from model_runtime.runner import ModelRunner, RunnerOutput
from model_runtime.scheduler import ScheduledStep

VARIABLE = "FAULT_IN_LOADING"


def _suffer(request_id: str, phase: str) -> None:
    fault, _, when = request_id.partition(" in ")
    if when.split("#")[0] != phase:
        return
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.startswith("sleep "):
        time.sleep(float(fault.removeprefix("sleep ")))


def _install() -> None:
    import model_runtime.loader as loader

    run, load = ModelRunner.run, loader.load_engine

    def faulty_run(self: ModelRunner, step: ScheduledStep, last_tokens: Any) -> RunnerOutput:
        for phase, chunks in (("prefill", step.prefills), ("decode", step.decodes)):
            for chunk in chunks:
                _suffer(chunk.sequence.request_id, phase)
        return run(self, step, last_tokens)

    def slow_load(*args: Any, **options: Any) -> Any:
        time.sleep(float(os.environ.get(VARIABLE, "0")))
        return load(*args, **options)

    ModelRunner.run = faulty_run  # type: ignore[method-assign]
    loader.load_engine = slow_load


if __name__ == "__main__":
    _install()
    sys.exit(worker.main(int(sys.argv[1]), int(sys.argv[2])))
