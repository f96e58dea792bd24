"""A resolver without a network: names answer what a test says, and every question is counted."""

import ipaddress
import socket
import time
from collections import Counter

SITE = "127.77.7.7"  # the only address that the loaders under test may reach beyond public ones
FORBIDDEN = "127.77.7.8"  # where canaries listen


class FakeResolver:
    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {
            "good.example": [SITE],
            "other.example": [SITE],
            "wrong-name.example": [SITE],
            "expired.example": [SITE],
            "private.example": ["10.0.0.1"],
            "mixed.example": ["93.184.216.34", "169.254.169.254"],
            "forbidden.example": [FORBIDDEN],
            "public.example": ["93.184.216.34"],
        }
        self.asked: Counter[str] = Counter()

    def lookup(self, host: str, port: int) -> list[str]:
        """Takes the place of `server.media.dialer.lookup`. Raises OSError."""
        self.asked[host] += 1
        name = host.rstrip(".").lower()
        if name in self.answers:
            return self.answers[name]
        if name.startswith("slow"):
            time.sleep(3)
        if name.endswith("localhost") or _is_number(host):
            name = "127.0.0.1" if name.endswith("localhost") else host
            infos = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(info[4][0]) for info in infos))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _is_number(host: str) -> bool:
    """An address in any of the spellings that a C library reads."""
    try:
        ipaddress.ip_address(host)
        return True
    except ValueError:
        return all(part[:1].isdigit() for part in host.split("."))
