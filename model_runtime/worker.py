"""The worker process: one loop between the socket and the engine. Started by the front end.

    python -m model_runtime.worker FD

FD is the inherited socket. The first frame is the EngineConfig. The worker ends when the
front end is gone; it never outlives it.
"""

import logging
import os
import signal
import socket
import sys

import msgspec

from model_runtime.link import LinkClosed, WorkerLink, receive_one
from model_runtime.logs import set_up_logging
from model_runtime.protocol import EngineConfig, ToWorker, WorkerFailed

logger = logging.getLogger("model_runtime.worker")


def main(fd: int) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the front end's; it closes the link
    connection = socket.socket(fileno=fd)
    try:
        config = receive_one(connection, EngineConfig)
        set_up_logging(config.log_level, config.log_format)
        _limit_threads(config)
        serve(config, WorkerLink(connection, ToWorker))
    except LinkClosed:
        logger.info("the front end closed the link")
    return 0


def serve(config: EngineConfig, link: WorkerLink[ToWorker]) -> None:
    """Load, report, then step for ever. Raises LinkClosed when the front end is gone."""
    from model_runtime.checkpoint import CheckpointError
    from model_runtime.loader import load_engine  # imports torch: after the threads are set

    try:
        core, ready = load_engine(config)
    except CheckpointError as error:  # the user's to mend; the message says how
        link.send(WorkerFailed(str(error)))
        return
    except Exception as error:
        logger.exception("loading failed")
        link.send(WorkerFailed(f"{type(error).__name__}: {error}"))
        return
    link.send(ready)
    while True:
        if not core.has_work and logger.isEnabledFor(logging.DEBUG):
            core.check()
        for message in link.receive(wait=not core.has_work):
            core.handle(message)
        if core.has_work:
            link.send(core.step())


def _limit_threads(config: EngineConfig) -> None:
    """Leave a core to the front end; spinning threads would steal it back."""
    threads = config.num_threads or max(1, (os.cpu_count() or 2) - 1)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OMP_NUM_THREADS"] = str(threads)


if __name__ == "__main__":
    try:
        sys.exit(main(int(sys.argv[1])))
    except (IndexError, ValueError, msgspec.DecodeError):
        sys.exit("model_runtime.worker is started by internvl-server, not by hand")
