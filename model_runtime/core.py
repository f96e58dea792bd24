"""The engine's heart: schedule → run → sample → commit, one step at a time.

Single-threaded, no asyncio, no sockets. Nothing that a request contains can end the loop:
a bad request is answered with an error, a failed step fails the sequences that were in it.
"""

import logging
import time

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
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_tiles_per_step=config.max_tiles_per_step,
            is_encoded=vision.is_encoded,
        )
        self._sequences: dict[str, Sequence] = {}
        self._refused: list[SequenceOutput] = []
        self._is_report_due = False  # an abort changed the state; tell even when nothing runs
        self._num_arrived = 0
        self._num_steps = 0

    @property
    def has_work(self) -> bool:
        return bool(self._refused) or self._is_report_due or self._scheduler.has_work

    def handle(self, message: ToWorker) -> None:
        """Apply a message from the front end. Takes effect in the next step."""
        if isinstance(message, AbortRequest):
            if sequence := self._sequences.get(message.request_id):
                self._forget(sequence)
                self._is_report_due = True
        elif problem := self._problem_with(message):
            self._refused.append(SequenceOutput(message.request_id, [], "error", problem))
        else:
            self._add(message)

    def step(self) -> StepOutput:
        """Compute one step and say what it brought to whom."""
        started = time.monotonic()
        step = self._scheduler.schedule()
        outputs = self._take_refused()
        self._is_report_due = False
        try:
            outputs += self._run_and_commit(step)
        except Exception:
            logger.exception("a step failed; its sequences are ended")
            outputs += self._fail(step)
        self._num_steps += 1
        return StepOutput(outputs, self._stats(step, time.monotonic() - started))

    def check(self) -> None:
        """Assert that blocks and embeddings belong to live sequences and nobody else."""
        self._pool.check(sequence.block_table for sequence in self._scheduler.sequences())
        self._vision.check()
        assert set(self._sequences) == {s.request_id for s in self._scheduler.sequences()}

    # ------------------------------------------------------------------ one step

    def _run_and_commit(self, step: ScheduledStep) -> list[SequenceOutput]:
        if not step.sequences:
            return []
        logits = self._runner.run(step)
        sampling = [chunk.sequence for chunk in step.sequences if chunk.samples]
        token_ids = self._sampler.sample(logits, sampling) if sampling else []
        for chunk in step.sequences:
            chunk.sequence.num_computed_tokens = chunk.end
        return [
            self._commit(sequence, token_id)
            for sequence, token_id in zip(sampling, token_ids, strict=True)
        ]

    def _commit(self, sequence: Sequence, token_id: int) -> SequenceOutput:
        if token_id == INVALID:
            self._forget(sequence)
            return SequenceOutput(
                sequence.request_id, [], "error", "The model produced a value that is not finite."
            )
        sequence.append(token_id)
        reason = self._finish_reason(sequence, token_id)
        if reason is not None:
            self._forget(sequence)
        return SequenceOutput(sequence.request_id, [token_id], reason)

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
        outputs = []
        for chunk in step.sequences:
            self._forget(chunk.sequence)
            outputs.append(
                SequenceOutput(
                    chunk.sequence.request_id, [], "error", "The request failed in the engine."
                )
            )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return outputs

    # ------------------------------------------------------------------ requests

    def _add(self, request: AddRequest) -> None:
        sequence = Sequence(request, arrival=self._num_arrived)
        self._num_arrived += 1
        self._sequences[request.request_id] = sequence
        self._vision.retain(span.content_hash for span in sequence.spans)
        self._sampler.add(sequence)
        self._scheduler.add(sequence)

    def _forget(self, sequence: Sequence) -> None:
        del self._sequences[sequence.request_id]
        self._scheduler.remove(sequence)
        self._sampler.forget(sequence.request_id)
        self._vision.release(span.content_hash for span in sequence.spans)

    def _take_refused(self) -> list[SequenceOutput]:
        refused, self._refused = self._refused, []
        return refused

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
        hashes = {tiles.content_hash for tiles in request.tiles}
        if any(span.content_hash not in hashes for span in request.spans):
            return "A media span has no tiles."
        return None

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
