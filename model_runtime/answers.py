"""Owns the live sequences: which answers each request still expects.

An answer joins and leaves the scheduler, the vision encoder and the sampler here and nowhere
else, so that none of them can be forgotten.
"""

from typing import Protocol

import msgspec

from model_runtime.logits_processing import TokenMask
from model_runtime.protocol import AddRequest
from model_runtime.request_check import find_problem
from model_runtime.sampler import Sampler
from model_runtime.scheduler import Scheduler
from model_runtime.sequence import Sequence
from model_runtime.vision import VisionEncoder


class Grammars(Protocol):
    """Turns a request's grammar into the masks of one answer."""

    def find_problem(self, grammar: str) -> str | None: ...

    def compile(self, grammar: str) -> TokenMask: ...


class LiveAnswers:
    """The sequences by request, and the siblings (`n` > 1) that wait for the prompt's KV."""

    def __init__(
        self,
        scheduler: Scheduler,
        vision: VisionEncoder,
        sampler: Sampler,
        grammars: Grammars,
        max_model_len: int,
        vocab_size: int,
    ) -> None:
        self._scheduler = scheduler
        self._vision = vision
        self._sampler = sampler
        self._grammars = grammars
        self._max_model_len = max_model_len
        self._vocab_size = vocab_size
        self._sequences: dict[str, list[Sequence]] = {}
        self._awaited_siblings: dict[str, AddRequest] = {}
        self._num_arrived = 0

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._sequences

    def find_problem(self, request: AddRequest) -> str | None:
        """Why it cannot be added, in words for the client."""
        if request.request_id in self:
            return "The request id is in use."
        if problem := find_problem(request, self._vocab_size, self._max_model_len):
            return problem
        return self._grammars.find_problem(request.grammar) if request.grammar else None

    def lacks_tiles(self, request: AddRequest) -> bool:
        """It counts on embeddings that have been dropped in the meantime."""
        sent = {tiles.content_hash for tiles in request.tiles}
        return any(
            self._vision.num_encoded_tokens(span.content_hash) < span.num_tokens
            for span in request.spans
            if span.content_hash not in sent
        )

    def add(self, request: AddRequest) -> None:
        """The first answer; the others follow when it has computed the prompt."""
        self._sequences[request.request_id] = []
        self._join(request, self._num_arrived, 0)
        self._num_arrived += 1
        if request.n > 1:
            self._awaited_siblings[request.request_id] = msgspec.structs.replace(request, tiles=[])

    def add_siblings(self, request_id: str) -> None:
        """The prompt is computed: the other answers take it from the prefix cache."""
        if request := self._awaited_siblings.pop(request_id, None):
            _, arrival, _ = self._sequences[request_id][0].rank
            for index in range(1, request.n):
                self._join(request, arrival, index)

    def finish(self, sequence: Sequence) -> None:
        """An answer is complete: everything that it held goes back."""
        sequence.is_finished = True
        self._scheduler.remove(sequence)
        self._sampler.forget(sequence)
        self._vision.release(sequence.spans)
        answers = self._sequences[sequence.request_id]
        answers.remove(sequence)
        if not answers:
            del self._sequences[sequence.request_id]

    def drop(self, request_id: str, index: int | None = None) -> None:
        """End one answer of a request; None: all, those that have not begun too."""
        if index is None:
            self._awaited_siblings.pop(request_id, None)
        elif request_id in self._awaited_siblings:
            return  # they need the first answer's prompt; a client cannot have seen any text yet
        for sequence in list(self._sequences[request_id]):
            if index in (None, sequence.index):
                self.finish(sequence)

    def check(self) -> None:
        """Assert that exactly these sequences are scheduled."""
        owned = {id(sequence) for answers in self._sequences.values() for sequence in answers}
        assert owned == {id(sequence) for sequence in self._scheduler.sequences()}
        assert set(self._awaited_siblings) <= set(self._sequences)

    def _join(self, request: AddRequest, arrival: int, index: int) -> None:
        sequence = Sequence(request, arrival, index, self._max_model_len)
        if request.grammar:
            sequence.grammar = self._grammars.compile(request.grammar)
        self._sequences[sequence.request_id].append(sequence)
        self._vision.retain(sequence.spans)
        self._sampler.add(sequence)
        self._scheduler.add(sequence)
