"""Listeners and files that nobody may touch."""

import os
import socket
from pathlib import Path

from tests.server.media.resolver import FORBIDDEN


class Canaries:
    """TCP and UDP sockets on an address that is not to be reached, and a file not to be read."""

    def __init__(self, folder: Path) -> None:
        self.tcp = socket.create_server((FORBIDDEN, 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((FORBIDDEN, 0))
        self.tcp.setblocking(False)
        self.udp.setblocking(False)
        self.file = folder / "canary.txt"
        self.file.write_text("secret")
        os.utime(self.file, ns=(0, self.file.stat().st_mtime_ns))
        self._accessed = self.file.stat().st_atime_ns

    @property
    def tcp_address(self) -> str:
        return "{}:{}".format(*self.tcp.getsockname())

    @property
    def udp_port(self) -> int:
        return int(self.udp.getsockname()[1])

    def check_untouched(self) -> None:
        for read in (self.tcp.accept, lambda: self.udp.recv(1)):
            try:
                read()
            except BlockingIOError:
                continue
            raise AssertionError("a canary heard something")
        assert self.file.stat().st_atime_ns == self._accessed, "the canary file was read"

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()
