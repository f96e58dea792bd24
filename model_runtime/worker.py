"""The worker process: one loop between the socket and the engine. Started by the front end.

    python -m model_runtime.worker SOCKET_FD PULSE_FD

Both descriptors are inherited. The first frame on the socket is the EngineConfig. The worker ends
when the front end is gone; it never outlives it.
"""

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from model_runtime.lifeline import die_with_parent, exit_soon
from model_runtime.link import LinkClosed, WorkerLink, receive_one
from model_runtime.logs import set_up_logging
from model_runtime.protocol import EngineConfig, StepStats, ToWorker, WorkerFailed
from model_runtime.pulse import IDLE_BEAT_S, Pulse

if TYPE_CHECKING:
    from model_runtime.core import EngineCore

logger = logging.getLogger("model_runtime.worker")


def main(socket_fd: int, pulse_fd: int) -> int:
    die_with_parent()
    connection = socket.socket(fileno=socket_fd)
    connection.set_inheritable(False)  # no child of ours may hold the link open
    pulse = Pulse(pulse_fd)
    os.close(pulse_fd)
    try:
        config = receive_one(connection, EngineConfig)
        set_up_logging(config.log_level, config.log_format)
        _limit_threads(config)
        serve(config, WorkerLink(connection, ToWorker, on_closed=exit_soon), pulse)
    except LinkClosed:
        logger.info("the front end closed the link")
    except Exception:
        logger.exception("the worker ends")
        logging.shutdown()
        os._exit(1)  # a device that is lost could hold up an orderly end
    return 0


def serve(config: EngineConfig, link: WorkerLink[ToWorker], pulse: Pulse) -> None:
    """Load, report, then step for ever. Raises LinkClosed when the front end is gone."""
    from model_runtime.checkpoint import CheckpointError
    from model_runtime.loader import load_engine  # imports torch: after the threads are set

    try:
        core, ready = load_engine(config, on_launch=pulse.blame)
    except CheckpointError as error:  # the user's to mend; the message says how
        link.send(WorkerFailed(str(error)))
        return
    except Exception as error:
        logger.exception("loading failed")
        link.send(WorkerFailed(f"{type(error).__name__}: {error}"))
        return
    link.send(ready)
    link.send(core.step())  # nothing yet: tells how much room there is
    while True:
        turn(core, link, pulse)


def turn(core: "EngineCore", link: WorkerLink[ToWorker], pulse: Pulse) -> None:
    """Take in what has arrived, make a step, report it. A turn that brings nothing is no beat."""
    if not core.has_work:
        if logger.isEnabledFor(logging.DEBUG):
            core.check()
        pulse.rest(True)
        pulse.beat()
    messages = link.receive(wait=not core.has_work, timeout_s=IDLE_BEAT_S)
    if messages:
        pulse.rest(False)
    for message in messages:
        pulse.blame([message.request_id])
        core.handle(message)
    if core.has_work:
        report = core.step()
        link.send(report)
        if report.outputs or _has_computed(report.stats):
            pulse.beat()


def _has_computed(stats: StepStats) -> bool:
    return stats.num_prefill_tokens + stats.num_decode_tokens + stats.num_tiles > 0


def _limit_threads(config: EngineConfig) -> None:
    """Leave a core to the front end; spinning threads would steal it back."""
    threads = config.num_threads or max(1, (os.cpu_count() or 2) - 1)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OMP_NUM_THREADS"] = str(threads)


if __name__ == "__main__":
    try:
        sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
    except (IndexError, ValueError, msgspec.DecodeError):
        sys.exit("model_runtime.worker is started by internvl-server, not by hand")
