"""What the endpoints work with, made once in the composition root."""

from dataclasses import dataclass

from model_runtime.checkpoint import Checkpoint
from server.admission import Admission
from server.engine.types import Engine
from server.media.loader import MediaLoader
from server.metrics import Metrics
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings
from server.tracing import Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    engine: Engine
    media: MediaLoader
    prompts: PromptBuilder
    checkpoint: Checkpoint
    settings: ServerSettings
    admission: Admission
    metrics: Metrics
    tracer: Tracer
    model_name: str

    @property
    def max_model_len(self) -> int:
        """The engine's when it is known: its memory may hold less than the checkpoint allows."""
        is_ready = self.engine.health().is_ready
        return self.engine.info.max_model_len if is_ready else self.checkpoint.context_len
