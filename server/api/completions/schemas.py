"""The wire type of POST /v1/completions: prompts as text or as token ids."""

from typing import Annotated, Any

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from server.api.schemas import MAX_CHOICES, MAX_LOGPROBS, MAX_TOKENS, SamplingFields

MAX_PROMPTS = 256
MAX_ALL_CHOICES = 1024  # of all prompts together
DEFAULT_MAX_TOKENS = 16  # OpenAI's

Prompt = str | list[int]


def _prompts(value: Any) -> list[Prompt]:
    """The four shapes as one: a list of prompts, all texts or all lists of token ids."""
    if isinstance(value, str) or _are_all(value, int):
        value = [value]
    if not isinstance(value, list) or not value or len(value) > MAX_PROMPTS:
        raise _shape_error() if not isinstance(value, list) else _count_error()
    are_ids = all(_are_all(prompt, int) and len(prompt) <= MAX_TOKENS for prompt in value)
    if not (_are_all(value, str) or are_ids):
        raise _shape_error()
    return value


def _are_all(value: Any, kind: type) -> bool:
    """A list with something in it, all of it exactly this type: true is no 1."""
    return isinstance(value, list) and bool(value) and all(type(item) is kind for item in value)


def _shape_error() -> PydanticCustomError:
    return PydanticCustomError(
        "prompt_type",
        "Input should be a string, a list of strings, a list of token ids or a list of such lists",
    )


def _count_error() -> PydanticCustomError:
    return PydanticCustomError(
        "prompt_count", "There should be 1 to {limit} prompts", {"limit": MAX_PROMPTS}
    )


Prompts = Annotated[
    list[Prompt],
    PlainValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


class CompletionRequest(SamplingFields):
    """POST /v1/completions."""

    prompt: Prompts
    max_tokens: int | None = Field(None, ge=0)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES)
    add_special_tokens: bool | None = None

    @property
    def num_wanted_tokens(self) -> int:
        """At least 1: the engine has no other way to read a prompt."""
        return max(1, DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens)

    @property
    def is_prompt_only(self) -> bool:
        """The answer is wanted for the prompt that it echoes."""
        return self.max_tokens == 0

    @property
    def num_top_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def num_top_prompt_logprobs(self) -> int | None:
        """An echoed prompt has the same log-probabilities as the answer."""
        wishes = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return max((wish for wish in wishes if wish is not None), default=None)
