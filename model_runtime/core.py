"""The engine's heart: schedule → run → sample → commit, one step at a time.

Single-threaded, no asyncio, no sockets. Nothing that a request contains can end the loop:
a bad request is answered with an error, a failed step fails the sequences that were in it.
"""

import logging
import time

import msgspec
import torch

from model_runtime.block_pool import BlockPool
from model_runtime.protocol import (
    AbortRequest,
    AddRequest,
    EngineConfig,
    FinishReason,
    SequenceOutput,
    StepOutput,
    StepStats,
    ToWorker,
)
from model_runtime.runner import ModelRunner
from model_runtime.sampler import INVALID, Sampler
from model_runtime.scheduler import ScheduledStep, Scheduler
from model_runtime.sequence import Sequence
from model_runtime.vision import VisionEncoder

logger = logging.getLogger(__name__)


class EngineCore:
    """Owns the live sequences by id; wires scheduler, runner, sampler and vision together."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        pool: BlockPool,
        runner: ModelRunner,
        vision: VisionEncoder,
        eos_token_ids: tuple[int, ...],
        vocab_size: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        max_tiles_per_step: int,
    ) -> None:
        self._pool = pool
        self._runner = runner
        self._vision = vision
        self._eos_token_ids = frozenset(eos_token_ids)
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._sampler = Sampler(eos_token_ids, config.seed)
        self._scheduler = Scheduler(
            pool,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_tiles_per_step=max_tiles_per_step,
            num_encoded_tokens=vision.num_encoded_tokens,
        )
        self._sequences: dict[str, list[Sequence]] = {}  # live answers by request
        self._awaited_siblings: dict[str, AddRequest] = {}  # until the prompt is computed once
        self._refused: list[SequenceOutput] = []
        self._missing_tiles: list[str] = []
        self._is_report_due = False  # an abort changed the state; tell even when nothing runs
        self._num_arrived = 0
        self._num_steps = 0

    @property
    def has_work(self) -> bool:
        has_news = self._refused or self._missing_tiles or self._is_report_due
        return bool(has_news) or self._scheduler.has_work

    def handle(self, message: ToWorker) -> None:
        """Apply a message from the front end. Takes effect in the next step."""
        if isinstance(message, AbortRequest):
            self._abort(message.request_id)
        elif problem := self._problem_with(message):
            self._refused.append(SequenceOutput(message.request_id, [], "error", problem))
        elif self._lacks_tiles(message):
            self._missing_tiles.append(message.request_id)
        else:
            self._add(message)

    def step(self) -> StepOutput:
        """Compute one step and say what it brought to whom."""
        started = time.monotonic()
        step = self._scheduler.schedule()
        try:
            outputs = self._run_and_commit(step)
        except Exception:
            logger.exception("a step failed; its sequences are ended")
            outputs = self._fail(step)
        self._num_steps += 1
        return self._report(outputs, self._stats(step, time.monotonic() - started))

    def check(self) -> None:
        """Assert that blocks and embeddings belong to live sequences and nobody else."""
        live = list(self._scheduler.sequences())
        self._pool.check(sequence.block_table for sequence in live)
        self._vision.check()
        owned = [sequence for answers in self._sequences.values() for sequence in answers]
        assert {id(sequence) for sequence in owned} == {id(sequence) for sequence in live}
        assert set(self._awaited_siblings) <= set(self._sequences)

    # ------------------------------------------------------------------ one step

    def _run_and_commit(self, step: ScheduledStep) -> list[SequenceOutput]:
        if not step.sequences and not step.tiles:
            return []
        logits = self._runner.run(step)
        self._drop_encoded_pixels(step)
        sampling = [chunk.sequence for chunk in step.sequences if chunk.samples]
        sampled = self._sampler.sample(logits, sampling) if sampling else []
        self._scheduler.mark_computed(step)
        return [
            self._commit(sequence, one) for sequence, one in zip(sampling, sampled, strict=True)
        ]

    def _commit(self, sequence: Sequence, token_id: int) -> SequenceOutput:
        if token_id == INVALID:
            return self._end_with_error(
                sequence.request_id, "The model produced a value that is not finite."
            )
        sequence.append(token_id)
        reason = self._finish_reason(sequence, token_id)
        self._add_siblings(sequence.request_id)
        if reason is not None:
            self._forget(sequence)
        return SequenceOutput(
            sequence.request_id,
            [token_id],
            reason,
            index=sequence.index,
            num_cached_tokens=sequence.num_cached_tokens,
        )

    def _drop_encoded_pixels(self, step: ScheduledStep) -> None:
        """A complete embedding outlives every sequence that refers to it; its pixels need not."""
        complete = [h for h, part in step.tiles.items() if part.end == part.tiles.num_tiles]
        for sequence in self._scheduler.sequences():
            for content_hash in complete:
                sequence.tiles.pop(content_hash, None)

    def _finish_reason(self, sequence: Sequence, token_id: int) -> FinishReason | None:
        params = sequence.sampling
        if token_id in self._eos_token_ids and not params.ignore_eos:
            return "stop"
        if token_id in params.stop_token_ids:
            return "stop"
        if sequence.num_completion_tokens >= params.max_tokens:
            return "length"
        if sequence.num_tokens >= self._max_model_len:
            return "length"
        return None

    def _fail(self, step: ScheduledStep) -> list[SequenceOutput]:
        request_ids = {chunk.sequence.request_id for chunk in step.sequences}
        for sequence in self._scheduler.sequences():
            if any(span.content_hash in step.tiles for span in sequence.spans):
                request_ids.add(sequence.request_id)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return [
            self._end_with_error(request_id, "The request failed in the engine.")
            for request_id in request_ids
            if request_id in self._sequences
        ]

    # ------------------------------------------------------------------ requests

    def _add(self, request: AddRequest) -> None:
        self._sequences[request.request_id] = []
        self._add_sequence(Sequence(request, self._num_arrived))
        self._num_arrived += 1
        if request.n > 1:
            self._awaited_siblings[request.request_id] = msgspec.structs.replace(request, tiles=[])

    def _add_siblings(self, request_id: str) -> None:
        """The first answer has computed the prompt: the others take it from the prefix cache."""
        if request := self._awaited_siblings.pop(request_id, None):
            _, arrival, _ = self._sequences[request_id][0].rank
            for index in range(1, request.n):
                self._add_sequence(Sequence(request, arrival, index))

    def _add_sequence(self, sequence: Sequence) -> None:
        self._sequences[sequence.request_id].append(sequence)
        self._vision.retain(sequence.spans)
        self._sampler.add(sequence)
        self._scheduler.add(sequence)

    def _forget(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._sampler.forget(sequence)
        self._vision.release(sequence.spans)
        answers = self._sequences[sequence.request_id]
        answers.remove(sequence)
        if not answers:
            del self._sequences[sequence.request_id]

    def _forget_request(self, request_id: str) -> None:
        self._awaited_siblings.pop(request_id, None)
        for sequence in list(self._sequences[request_id]):
            self._forget(sequence)

    def _abort(self, request_id: str) -> None:
        if request_id in self._sequences:
            self._forget_request(request_id)
            self._is_report_due = True

    def _end_with_error(self, request_id: str, message: str) -> SequenceOutput:
        self._forget_request(request_id)
        return SequenceOutput(request_id, [], "error", message)

    def _lacks_tiles(self, request: AddRequest) -> bool:
        """It counts on embeddings that have been dropped in the meantime."""
        sent = {tiles.content_hash for tiles in request.tiles}
        return any(
            self._vision.num_encoded_tokens(span.content_hash) < span.num_tokens
            for span in request.spans
            if span.content_hash not in sent
        )

    def _problem_with(self, request: AddRequest) -> str | None:
        """Why the request can never run. The front end has checked all of it before."""
        num_tokens = len(request.token_ids)
        if request.request_id in self._sequences:
            return "The request id is in use."
        if not 0 < num_tokens < self._max_model_len:
            return f"The prompt has {num_tokens} tokens; the limit is {self._max_model_len - 1}."
        if not 0 <= min(request.token_ids) <= max(request.token_ids) < self._vocab_size:
            return "The prompt holds a token id outside the vocabulary."
        if request.spans and request.spans[-1].end > num_tokens:
            return "A media span lies outside the prompt."
        return None

    def _report(self, outputs: list[SequenceOutput], stats: StepStats) -> StepOutput:
        """Everything that the front end has not been told yet."""
        encoded, evicted = self._vision.take_news()
        report = StepOutput(
            self._refused + outputs, stats, encoded, evicted, missing_tiles=self._missing_tiles
        )
        self._refused, self._missing_tiles, self._is_report_due = [], [], False
        return report

    def _stats(self, step: ScheduledStep, step_time_s: float) -> StepStats:
        return StepStats(
            step=self._num_steps,
            num_running=len(self._scheduler.running),
            num_waiting=len(self._scheduler.waiting),
            num_free_blocks=self._pool.num_free,
            num_blocks=self._pool.num_blocks,
            num_preemptions=self._scheduler.num_preemptions,
            num_prefill_tokens=sum(chunk.num_tokens for chunk in step.prefills),
            num_decode_tokens=len(step.decodes),
            num_tiles=step.num_tiles,
            step_time_s=step_time_s,
        )
