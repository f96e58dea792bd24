"""Samples to token documents, and documents to packed rows with a mask that keeps them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from model_runtime.demo.training.questions import Turn
from model_runtime.demo.training.samples import Sample
from model_runtime.demo.training.tiles import TOKENS_PER_TILE, Labels, Pixels
from model_runtime.demo.training.visual_words import pixel_values

HIDDEN = -1e9
ROW_TOKENS = 384
ENDING_TOKENS = 2
ENDING_WEIGHT = 0.3


@dataclass(slots=True)
class Answer:
    """Where one answer lies in its document: `[start, end)`."""

    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Document:
    """Token ids of a prefix and its branches; the prefix is branch 0."""

    family: str
    ids: list[int]
    weights: list[float]
    branches: list[int]
    positions: list[int]
    answers: list[Answer]
    tiles: list[Pixels]
    labels: Labels

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class Batch:
    """Packed rows: `[rows, length]` tensors, an additive mask `[rows, 1, length, length]`."""

    ids: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    pixels: torch.Tensor | None
    labels: Labels
    rows: list[list[Document]]


class Encoder:
    """Turns samples into documents exactly as the chat template and the processor would."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        ids = tokenizer.convert_tokens_to_ids(["<img>", "</img>", "<IMG_CONTEXT>", "<|endoftext|>"])
        self._start, self._end, self._context, self.pad_id = ids
        self._encode = lru_cache(100_000)(
            lambda text: tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()
        )

    def document(self, sample: Sample) -> Document:
        ids, tiles = self._prefix(sample)
        num = len(ids)
        doc = Document(sample.family, ids, [0.0] * num, [0] * num, list(range(num)), [], tiles,
                       sample.labels)  # fmt: skip
        for index, turns in enumerate(sample.branches):
            self._append_branch(doc, turns, index + 1, num)
        return doc

    def _prefix(self, sample: Sample) -> tuple[list[int], list[Pixels]]:
        ids: list[int] = []
        tiles: list[Pixels] = []
        for piece in sample.prefix:
            if isinstance(piece, str):
                ids += self._encode(piece)
            else:
                context = [self._context] * (TOKENS_PER_TILE * len(piece))
                ids += [self._start, *context, self._end]
                tiles.append(piece)
        return ids, tiles

    def _append_branch(
        self, doc: Document, turns: tuple[Turn, ...], branch: int, prefix_len: int
    ) -> None:
        start = len(doc)
        for index, (question, answer, kind) in enumerate(turns):
            opening = "\n<|im_start|>user\n" if index else ""
            asked = self._encode(f"{opening}{question}<|im_end|>\n<|im_start|>assistant\n")
            said = self._encode(f"{answer}<|im_end|>")
            doc.answers.append(Answer(kind, len(doc) + len(asked), len(doc) + len(asked + said)))
            doc.weights += [0.0] * len(asked) + answer_weights(len(said))
            doc.ids += asked + said
        num_new = len(doc.ids) - start
        doc.branches += [branch] * num_new
        doc.positions += range(prefix_len, prefix_len + num_new)


def answer_weights(num_tokens: int) -> list[float]:
    """Long answers count more than short ones, but less per token; where they end counts fully."""
    weight = num_tokens**-0.5
    ending = min(num_tokens, ENDING_TOKENS)
    return [weight] * (num_tokens - ending) + [max(weight, ENDING_WEIGHT)] * ending


def pack(docs: Sequence[Document], micro_tokens: int) -> list[list[list[Document]]]:
    """First fit into rows, then rows of like length into micro-batches of `micro_tokens`."""
    rows: list[list[Document]] = []
    for doc in sorted(docs, key=len, reverse=True):
        fitting = (row for row in rows if _length(row) + len(doc) <= max(ROW_TOKENS, len(row[0])))
        row = next(fitting, None)
        if row is None:
            rows.append([doc])
        else:
            row.append(doc)
    micro: list[list[list[Document]]] = []
    for row in sorted(rows, key=_length):
        if micro and _length(row) * (len(micro[-1]) + 1) <= micro_tokens:
            micro[-1].append(row)
        else:
            micro.append([row])
    return micro


def _length(row: list[Document]) -> int:
    return sum(len(doc) for doc in row)


def collate(rows: list[list[Document]], pad_id: int) -> Batch:
    shape = (len(rows), max(_length(row) for row in rows))
    ids, positions = np.full(shape, pad_id), np.zeros(shape, np.int64)
    weights, owners = np.zeros(shape, np.float32), np.full(shape, -1)
    branches = np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        start = 0
        for owner, doc in enumerate(row):
            span = (index, slice(start, start + len(doc)))
            ids[span], weights[span], positions[span] = doc.ids, doc.weights, doc.positions
            branches[span], owners[span] = doc.branches, owner
            start += len(doc)
    docs = [doc for row in rows for doc in row]
    tiles = [tiles for doc in docs for tiles in doc.tiles]
    return Batch(
        ids=torch.from_numpy(ids),
        weights=torch.from_numpy(weights),
        positions=torch.from_numpy(positions),
        mask=attention_mask(torch.from_numpy(owners), torch.from_numpy(branches)),
        pixels=pixel_values(np.concatenate(tiles)) if tiles else None,
        labels=np.concatenate([doc.labels for doc in docs]),
        rows=rows,
    )


def attention_mask(owners: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
    """Additive `[rows, 1, length, length]`: a token sees its document's prefix and its branch."""
    same_owner = owners[:, :, None] == owners[:, None, :]
    same_branch = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    length = owners.shape[1]
    visible = same_owner & same_branch & torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(visible.shape, dtype=torch.bfloat16)
    return mask.masked_fill_(~visible, HIDDEN)[:, None]
