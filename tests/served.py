"""The product as its user starts it: a process of its own, seen from outside."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx
import psutil

_GAUGE = re.compile(r"^(internvl:\w+) (\S+)$", re.MULTILINE)
_URL = re.compile(r"try: curl (http://\S+)/v1/chat/completions")
_READY_TIMEOUT_S = 120.0
_EXIT_TIMEOUT_S = 60.0


class Served:
    """A server with the demo model on a free port of loopback, as a context. Logs to a file."""

    def __init__(self, log: Path, arguments: Sequence[str] = ()) -> None:
        self.log = log
        command = [sys.executable, "-m", "server", "serve", "--port", "0", *arguments]
        with log.open("wb") as lines:
            self._process = subprocess.Popen(command, stdout=lines, stderr=lines)
        self.url = ""

    def __enter__(self) -> "Served":
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not (found := _URL.search(self.said())):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self._process.kill()
                raise AssertionError(f"the server did not become ready:\n{self.said()}")
            time.sleep(0.05)
        self.url = found[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> int:
        """Ask it to end; the exit status. Raises TimeoutExpired."""
        self._process.terminate()
        return self._process.wait(_EXIT_TIMEOUT_S)

    @property
    def front(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def worker(self) -> psutil.Process | None:
        """The process that computes; None while there is none."""
        for child in self.front.children():
            try:
                if "model_runtime.worker" in child.cmdline():
                    return child
            except psutil.Error:
                continue
        return None

    def kill_worker(self) -> None:
        worker = self.worker()
        assert worker is not None, "there is no worker to kill"
        os.kill(worker.pid, signal.SIGKILL)

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200

    def gauges(self) -> dict[str, float]:
        """Samples without labels, by their names without the prefix."""
        text = httpx.get(f"{self.url}/metrics", timeout=10).text
        return {name.removeprefix("internvl:"): float(v) for name, v in _GAUGE.findall(text)}
