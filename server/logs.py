"""The line that each request leaves in the log, for people or as JSON fields.

It has the request's id, route, model, counts, times and outcome; never content, a key, or a URL.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("server.access")


@dataclass(frozen=True, slots=True)
class RequestLine:
    """What is told of one request. `facts` are what its handler found out."""

    request_id: str
    method: str
    route: str  # the template, such as /v1/models/{model}: no text of the client's
    status: int
    duration_s: float
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        details = "".join(f" {name}={value}" for name, value in self.facts.items())
        return (
            f"{self.method} {self.route} {self.status} {self.duration_s:.3f}s "
            f"id={self.request_id}{details}"
        )

    def fields(self) -> dict[str, Any]:
        return {
            "event": "request",
            "id": self.request_id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "duration_s": round(self.duration_s, 3),
            **self.facts,
        }


def log_request(line: RequestLine) -> None:
    logger.info("%s", line, extra={"fields": line.fields()})
