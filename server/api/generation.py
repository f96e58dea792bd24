"""What a prompt of any kind needs on its way to the engine: room, a grammar, a request."""

import asyncio

from server.api.parts import Parts
from server.api.schemas import SamplingFields
from server.api.structured import find_grammar, is_structured
from server.api.translate import sampling_params
from server.engine.types import GenerationRequest
from server.errors import ContextLengthError
from server.prompt.tools import CALL_BEGIN
from server.prompt.types import PreparedPrompt


def room_for_answer(num_prompt_tokens: int, parts: Parts, param: str) -> int:
    """Tokens. The engine's context may be smaller than the checkpoint's, by its memory.

    Raises ContextLengthError that names `param`.
    """
    room = parts.max_model_len - num_prompt_tokens
    if room < 1:
        raise ContextLengthError(
            f"The prompt has {num_prompt_tokens} tokens, but the context holds "
            f"{parts.max_model_len} including the answer.",
            param=param,
        )
    return room


async def grammar_of(request: SamplingFields, parts: Parts) -> str:
    """What the answer must obey; empty for nothing. Raises InvalidRequestError."""
    if not is_structured(request):
        return ""
    marks_are_tokens = parts.prompts.has_token(CALL_BEGIN)
    return await asyncio.to_thread(find_grammar, request, marks_are_tokens)


def generation_request(
    request: SamplingFields,
    parts: Parts,
    *,
    request_id: str,
    deadline_s: float | None,
    prompt: PreparedPrompt,
    room: int,
    grammar: str,
) -> GenerationRequest:
    defaults, bad_word_ids = parts.checkpoint.generation, parts.prompts.bad_word_ids
    return GenerationRequest(
        request_id=request_id,
        deadline_s=deadline_s,
        prompt=prompt,
        sampling=sampling_params(request, defaults, room, bad_word_ids),
        stop=tuple(request.stop or ()),
        priority=request.priority or 0,
        n=request.n or 1,
        include_stop_str_in_output=bool(request.include_stop_str_in_output),
        skip_special_tokens=request.skip_special_tokens is not False,
        grammar=grammar,
        cache_salt=request.cache_salt or "",
    )
