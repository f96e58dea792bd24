"""A byte-level BPE of about 800 tokens in the form of InternVL's tokenizer.

python -m model_runtime.demo.training.tokenizer model_runtime/demo/checkpoint
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from model_runtime.demo.training import questions, smalltalk, videos
from model_runtime.demo.training.samples import SYSTEM_MESSAGES
from model_runtime.demo.training.scenes import random_scene
from model_runtime.demo.training.unknown import UNKNOWN

BASE_VOCAB_SIZE = 800
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>",
    "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<video>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}"
    "{{ message['content'] }}"
    "{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'video' %}"
    "{{ '<video>\n' }}"
    "{% elif content['type'] == 'text' %}"
    "{{ content['text'] }}"
    "{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "{{'<|im_end|>\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{'<|im_start|>assistant\n' }}"
    "{% endif %}"
)


def corpus(num_rounds: int = 3000, seed: int = 7) -> Iterator[str]:
    """What is said in training: questions, answers and the words around them."""
    rng = Random(seed)
    yield from ("system\n", "user\n", "assistant\n", UNKNOWN, *SYSTEM_MESSAGES)
    for _ in range(num_rounds):
        scenes = [random_scene(rng) for _ in range(2)]
        turns = questions.picture_turns(rng, scenes[0]) + questions.several_turns(rng, scenes)
        turns += videos.clip_turns(rng, videos.random_clip(rng, 1))
        turns += [smalltalk.random_turn(rng) for _ in range(4)]
        for question, answer, _ in turns:
            yield question
            yield answer
        yield f"Frame{rng.randint(1, 16)}: "


def train_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges, with the splitting rules of Qwen2."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCAB_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    model = json.loads(bpe.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def build_tokenizer() -> Qwen2Tokenizer:
    vocab, merges = train_bpe()
    added = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
        added_tokens_decoder={len(vocab) + i: token for i, token in enumerate(added)},
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        additional_special_tokens=list(SPECIAL[1:]),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    ids = tokenizer.convert_tokens_to_ids(list(SPECIAL))
    assert ids == [len(vocab) + i for i in range(len(SPECIAL))], ids
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    build_tokenizer().save_pretrained(parser.parse_args().folder)


if __name__ == "__main__":
    main()
