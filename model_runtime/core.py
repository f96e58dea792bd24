"""The engine's heart: schedule → run → sample → commit, one step at a time.

Single-threaded, no asyncio, no sockets. Nothing that a request contains can end the loop:
a bad request is answered with an error, a failed step is done again in parts until only the
request that fails is left. What ends it is a device that does not compute any more.

On a GPU the host runs one step ahead: it schedules and launches step N + 1 while the device
computes step N, whose tokens never leave the device on their way into step N + 1.
"""

import logging
import time
from collections.abc import Callable

import torch

from model_runtime.answers import Grammars, LiveAnswers
from model_runtime.block_pool import BlockPool
from model_runtime.failures import FAILED, NO_MEMORY, NO_TOKEN_ALLOWED, NOT_FINITE, Failure
from model_runtime.flight import Flight, sequence_output
from model_runtime.protocol import (
    AbortRequest,
    EngineConfig,
    FinishReason,
    SequenceOutput,
    StepOutput,
    StepStats,
    ToWorker,
)
from model_runtime.recovery import divide, without_finished
from model_runtime.runner import ModelRunner
from model_runtime.sampler import INVALID, NOTHING_ALLOWED, Sampled, Sampler, needs_processing
from model_runtime.scheduler import ScheduledSequence, ScheduledStep, Scheduler
from model_runtime.sequence import NONE_TRUSTED, UNKNOWN
from model_runtime.soundness import Soundness
from model_runtime.vision import VisionEncoder

OnLaunch = Callable[[list[str]], None]

logger = logging.getLogger(__name__)


class EngineCore:
    """Wires scheduler, runner, sampler and vision together, and turns their crank."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        pool: BlockPool,
        runner: ModelRunner,
        vision: VisionEncoder,
        grammars: Grammars,
        eos_token_ids: tuple[int, ...],
        vocab_size: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        max_tiles_per_step: int,
        runs_ahead: bool,
        on_launch: OnLaunch,
    ) -> None:
        """`on_launch`: told before each step whose prompts and pictures are being computed."""
        self._pool = pool
        self._runner = runner
        self._vision = vision
        self._eos_token_ids = frozenset(eos_token_ids)
        self._runs_ahead = runs_ahead
        self._on_launch = on_launch
        self._sampler = Sampler(eos_token_ids, config.seed)
        self._scheduler = Scheduler(
            pool,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_tiles_per_step=max_tiles_per_step,
            num_encoded_tokens=vision.num_encoded_tokens,
            scrub=runner.scrub,
        )
        self._answers = LiveAnswers(
            self._scheduler, vision, self._sampler, grammars, max_model_len, vocab_size
        )
        self._soundness = Soundness(runner.is_sound)
        self._in_flight: Flight | None = None  # launched, not settled
        self._refused: list[SequenceOutput] = []
        self._missing_tiles: list[str] = []
        self._is_report_due = False  # an abort changed the state; tell even when nothing runs
        self._num_steps = 0

    @property
    def has_work(self) -> bool:
        has_news = bool(self._refused or self._missing_tiles or self._is_report_due)
        return has_news or self._scheduler.has_work or self._in_flight is not None

    def handle(self, message: ToWorker) -> None:
        """Apply a message from the front end. Takes effect in the next step."""
        if isinstance(message, AbortRequest):
            self._abort(message)
        elif problem := self._answers.find_problem(message):
            self._refused.append(Failure("refusal", problem).of(message.request_id))
        elif self._answers.lacks_tiles(message):
            self._missing_tiles.append(message.request_id)
        else:
            self._answers.add(message)

    def step(self) -> StepOutput:
        """Schedule and launch a step; settle it, or the one before when running ahead."""
        started = time.monotonic()
        outputs = self._settle_what_is_needed()
        step = self._scheduler.schedule()
        launched = self._launch(step)
        before, self._in_flight = self._in_flight, None
        outputs += self._settle(before)
        if self._runs_ahead and launched is not None and launched.failure is None:
            self._in_flight = launched
        else:
            outputs += self._settle(launched)
        self._num_steps += 1
        return self._report(outputs, self._stats(step, time.monotonic() - started))

    def check(self) -> None:
        """Assert that blocks and embeddings belong to live sequences and nobody else."""
        self._pool.check(sequence.block_table for sequence in self._scheduler.sequences())
        self._vision.check()
        self._answers.check()

    # ------------------------------------------------------------------ one step

    def _settle_what_is_needed(self) -> list[SequenceOutput]:
        """Logits that are changed by what was said before wait until that is known."""
        flight = self._in_flight
        if flight is None or not any(needs_processing(c.sequence) for c in flight.sampling):
            return []
        self._in_flight = None
        return self._settle(flight)

    def _launch(self, step: ScheduledStep) -> Flight | None:
        """Run and sample. The tokens may stay on the device; the host keeps their places."""
        if not step.sequences and not step.tiles:
            return None
        sampling = [chunk for chunk in step.sequences if chunk.samples]
        flight = Flight(step, sampling, self._beginning(step))
        before = self._in_flight.beginning if self._in_flight is not None else set()
        self._on_launch([*flight.beginning, *before])
        try:
            self._compute(flight)
        except torch.AcceleratorError:  # the device's memory may be anything now
            raise
        except Exception as error:
            flight.failure = error
            return flight
        self._scheduler.advance(step)
        for row, chunk in enumerate(flight.sampling):
            chunk.sequence.append(UNKNOWN)
            chunk.sequence.sampled_row = row
        return flight

    def _compute(self, flight: Flight) -> None:
        last_tokens = self._in_flight.token_ids if self._in_flight is not None else None
        output = self._runner.run(flight.step, last_tokens)
        flight.prompt_logprobs = output.prompt_logprobs
        if flight.sampling:
            sequences = [chunk.sequence for chunk in flight.sampling]
            flight.sampled = self._sampler.sample(output.logits, sequences)
        self._drop_encoded_pixels(flight.step)

    def _settle(self, flight: Flight | None) -> list[SequenceOutput]:
        """Take in what a launched step brought: tokens, ends, blocks to share."""
        if flight is None:
            return []
        if flight.failure is not None:
            return self._do_again(flight.step, flight.failure)
        try:
            sampled = flight.fetch()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # a device reports its errors late
            return self._fail(flight.step, error)
        self._soundness.on_step(is_bad={one.token_id for one in sampled} == {INVALID})
        for chunk in flight.step.sequences:
            self._scheduler.publish(chunk)
            if scores := flight.prompt_logprobs.get(chunk.sequence.request_id):
                chunk.sequence.prompt_logprobs[chunk.start :] = scores
        return [
            self._commit(chunk, one)
            for chunk, one in zip(flight.sampling, sampled, strict=True)
            if not chunk.sequence.is_finished
        ]

    def _commit(self, chunk: ScheduledSequence, sampled: Sampled) -> SequenceOutput:
        sequence, token_id = chunk.sequence, sampled.token_id
        if token_id == INVALID:
            sequence.num_trusted_tokens = NONE_TRUSTED
            return self._end(sequence.request_id, NOT_FINITE)
        if token_id == NOTHING_ALLOWED:
            return self._end(sequence.request_id, NO_TOKEN_ALLOWED)
        sequence.token_ids[chunk.end] = token_id
        sequence.num_trusted_tokens = chunk.end
        if not sequence.obeys_grammar(token_id):
            return self._end(sequence.request_id, NO_TOKEN_ALLOWED)
        self._answers.add_siblings(sequence.request_id)
        reason = self._finish_reason(chunk, token_id)
        if reason is not None:
            self._answers.finish(sequence)
        return sequence_output(chunk, sampled, reason)

    def _finish_reason(self, chunk: ScheduledSequence, token_id: int) -> FinishReason | None:
        sequence, params = chunk.sequence, chunk.sequence.sampling
        if token_id in self._eos_token_ids and not params.ignore_eos:
            return "stop"
        if token_id in params.stop_token_ids:
            return "stop"
        return "length" if chunk.end + 1 >= sequence.max_num_tokens else None

    def _do_again(self, step: ScheduledStep, failure: Exception) -> list[SequenceOutput]:
        """A step could not be launched: in parts, down to the request that cannot be done."""
        is_for_memory = isinstance(failure, torch.OutOfMemoryError | MemoryError)
        if is_for_memory:
            self._vision.drop_unused()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        parts = divide(step, for_memory=is_for_memory)
        if not parts:
            return self._fail(step, failure, NO_MEMORY if is_for_memory else FAILED)
        logger.warning("a step failed (%s) and is done in parts", type(failure).__name__)
        return [o for part in parts for o in self._settle(self._launch(without_finished(part)))]

    def _fail(
        self, step: ScheduledStep, failure: Exception, told: Failure = FAILED
    ) -> list[SequenceOutput]:
        """End every request that had to do with the step; what it wrote is not trusted."""
        logger.error("a step failed; its requests are ended", exc_info=failure)
        self._scheduler.advance(step)
        for chunk in step.sequences:
            chunk.sequence.num_trusted_tokens = NONE_TRUSTED
        decoding = {chunk.sequence.request_id for chunk in step.decodes}
        ended = [r for r in decoding | self._beginning(step) if r in self._answers]
        outputs = [self._end(request_id, told) for request_id in ended]
        self._soundness.on_step(is_bad=True)
        return outputs

    def _beginning(self, step: ScheduledStep) -> set[str]:
        """Whose prompts or pictures the step computes."""
        request_ids = {chunk.sequence.request_id for chunk in step.prefills}
        if step.tiles:
            for sequence in self._scheduler.sequences():
                if any(span.content_hash in step.tiles for span in sequence.spans):
                    request_ids.add(sequence.request_id)
        return request_ids

    def _drop_encoded_pixels(self, step: ScheduledStep) -> None:
        """A complete embedding outlives every sequence that refers to it; its pixels need not."""
        complete = [h for h, part in step.tiles.items() if part.end == part.tiles.num_tiles]
        for sequence in self._scheduler.sequences():
            for content_hash in complete:
                sequence.tiles.pop(content_hash, None)

    # ------------------------------------------------------------------ requests

    def _abort(self, message: AbortRequest) -> None:
        if message.request_id in self._answers:
            self._answers.drop(message.request_id, message.index)
            self._is_report_due = True

    def _end(self, request_id: str, failure: Failure) -> SequenceOutput:
        self._answers.drop(request_id)
        return failure.of(request_id)

    # ------------------------------------------------------------------ reports

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
