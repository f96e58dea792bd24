"""What ties a child process to its parent: it ends with it, whatever it is doing."""

import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_GRACE_S = 1.0


def die_with_parent() -> None:
    """Linux kills this process when the thread that started it ends, even when it is stopped.

    Elsewhere, and when the parent was gone before, the closed link must do. Ctrl-C and SIGTERM to
    the whole group are the parent's to act on: it may have requests to finish.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def exit_soon() -> None:
    """For a thread: end the process, also when its loop is in a long step or still loading."""
    time.sleep(_GRACE_S)
    os._exit(1)
