"""The wire type of POST /v1/batches."""

from typing import Any, Literal

from server.api.schemas import Wire

BatchEndpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses"]
MAX_METADATA, MAX_KEY_CHARS, MAX_VALUE_CHARS = 16, 64, 512


class BatchRequest(Wire):
    input_file_id: str
    endpoint: BatchEndpoint
    completion_window: Literal["24h"]
    metadata: dict[str, Any] | None = None

    @property
    def has_fine_metadata(self) -> bool:
        pairs = (self.metadata or {}).items()
        return len(pairs) <= MAX_METADATA and all(
            len(key) <= MAX_KEY_CHARS and isinstance(value, str) and len(value) <= MAX_VALUE_CHARS
            for key, value in pairs
        )
