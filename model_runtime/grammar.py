"""Grammars as token masks, by llguidance: a lazy parser over the tokenizer's bytes.

llguidance rather than xgrammar: one wheel for all Pythons that brings no torch (the front end
checks grammars with it too), and grammars are compiled while they are used, in milliseconds,
with limits on every step.
"""

import logging
from functools import cached_property
from pathlib import Path

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from model_runtime.checkpoint import Checkpoint
from model_runtime.logits_processing import Bitmask

logger = logging.getLogger(__name__)


# Of one step's work: what ends a hostile grammar within a tenth of a second. Everyday schemas
# need a hundredth of it.
_LIMITS = LLParserLimits(initial_lexer_fuel=200_000, step_lexer_fuel=50_000)


class GrammarMask:
    """Implements `model_runtime.logits_processing.TokenMask`. Any failure raises RuntimeError."""

    def __init__(self, tokenizer: LLTokenizer, grammar: str) -> None:
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)

    def bitmask(self) -> Bitmask:
        mask = self._matcher.compute_bitmask()
        self._check()
        return np.frombuffer(mask, dtype=np.int32)

    def accept(self, token_id: int) -> None:
        if not self._matcher.is_stopped():  # complete, and told to go on by ignore_eos
            self._matcher.consume_token(token_id)
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RuntimeError(self._matcher.get_error())


class GrammarCompiler:
    """Makes masks for one checkpoint's tokenizer."""

    def __init__(self, checkpoint_path: Path, eos_token_ids: tuple[int, ...]) -> None:
        self._file = checkpoint_path / "tokenizer.json"
        self._eos_token_ids = eos_token_ids

    def compile(self, grammar: str) -> GrammarMask:
        """`grammar`: as `LLMatcher.grammar_from_…` writes it."""
        return GrammarMask(self.tokenizer, grammar)

    def find_problem(self, grammar: str) -> str | None:
        """Why the grammar cannot be used."""
        try:
            self.compile(grammar).bitmask()
        except Exception as error:
            logger.info("a grammar was refused: %s", error)
            return "The grammar cannot be used, or is too complex."
        return None

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The vocabulary; reading it takes a part of a second."""
        content = self._file.read_text(encoding="utf-8")
        return LLTokenizer(content, eos_token=list(self._eos_token_ids))


def prepare_grammars(checkpoint: Checkpoint) -> GrammarCompiler:
    """A compiler that has read the vocabulary already, so that no request waits for it."""
    compiler = GrammarCompiler(checkpoint.path, checkpoint.generation.eos_token_ids)
    try:
        _ = compiler.tokenizer
    except Exception as error:
        logger.warning("structured outputs will fail: %s", error)
    return compiler
