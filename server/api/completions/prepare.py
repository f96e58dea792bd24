"""From a text completion request to the engine: everything that can be refused is refused here."""

import asyncio

from server.api.answer import Answer
from server.api.completions.joined import JoinedStream
from server.api.completions.schemas import CompletionRequest, Prompt
from server.api.generation import generation_request, grammar_of, room_for_answer
from server.api.parts import Parts
from server.api.translate import check_token_ids
from server.engine.types import CompletionStream, GenerationRequest
from server.errors import InvalidRequestError
from server.prompt.types import PreparedPrompt


class CompletionPreparation:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def begin(self, request: CompletionRequest, answer: Answer) -> None:
        """All prompts are known to fit before the first goes to the engine."""
        check_token_ids(request, self._parts.checkpoint.vocab_size)
        grammar = await grammar_of(request, self._parts)
        wanted = [
            await self._wanted(request, place, answer, grammar)
            for place in range(len(request.prompt))
        ]
        answer.permit.reserve(sum(each.num_expected_tokens for each in wanted))
        streams = [self._parts.engine.submit(each) for each in wanted]
        stream: CompletionStream = streams[0]
        n = request.n or 1
        if len(streams) > 1 or request.is_prompt_only:
            stream = JoinedStream(streams, n, without_answers=request.is_prompt_only)
        answer.begin([each.prompt for each in wanted], n * len(streams), stream)

    async def _wanted(
        self, request: CompletionRequest, place: int, answer: Answer, grammar: str
    ) -> GenerationRequest:
        """What the engine is asked for one of the prompts."""
        await asyncio.sleep(0)  # between two prompts it is everybody else's turn
        is_alone = len(request.prompt) == 1
        path = "prompt" if is_alone else f"prompt[{place}]"
        token_ids = await self._token_ids(request.prompt[place], path)
        return generation_request(
            request,
            self._parts,
            request_id=answer.request_id if is_alone else f"{answer.request_id}-{place}",
            deadline_s=answer.deadline_s,
            prompt=PreparedPrompt(token_ids=token_ids),
            room=room_for_answer(len(token_ids), self._parts, path),
            grammar=grammar,
        )

    async def _token_ids(self, prompt: Prompt, path: str) -> list[int]:
        if not isinstance(prompt, str):
            room_for_answer(len(prompt), self._parts, path)
            self._check_ids(prompt, path)
            return prompt
        prompts = self._parts.prompts
        room_for_answer(prompts.least_tokens(len(prompt)), self._parts, path)
        if not (token_ids := await prompts.plain(prompt)):
            raise InvalidRequestError("The prompt is empty.", param=path, code="invalid_value")
        return token_ids

    def _check_ids(self, token_ids: list[int], path: str) -> None:
        """Other control tokens are what one sends ids for; a placeholder has no picture."""
        checkpoint = self._parts.checkpoint
        for index, token_id in enumerate(token_ids):
            if not 0 <= token_id < checkpoint.vocab_size:
                problem = f"Token ids lie between 0 and {checkpoint.vocab_size - 1}."
            elif token_id == checkpoint.image_token_id:
                problem = "This token stands for a picture, and a text prompt has none."
            else:
                continue
            raise InvalidRequestError(problem, param=f"{path}[{index}]", code="invalid_value")
