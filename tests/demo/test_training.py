"""Packing keeps conversations apart; training learns, resumes and exports exactly."""

from pathlib import Path
from random import Random

import pytest
import torch

from model_runtime.demo.training import samples
from model_runtime.demo.training.architecture import TEXT, VISION_WORDS
from model_runtime.demo.training.evaluate import answer_logits
from model_runtime.demo.training.export import export, exported_model
from model_runtime.demo.training.measure import Answerer, conversations, sample_tiles
from model_runtime.demo.training.packing import Document, Encoder, attention_mask, collate
from model_runtime.demo.training.settings import LiveSettings, read_settings
from model_runtime.demo.training.train import Trainer, load_tokenizer, new_model

TOKENIZER = load_tokenizer()
ENCODER = Encoder(TOKENIZER)


def make_documents(seed: int = 1) -> list[Document]:
    rng = Random(seed)
    return [ENCODER.document(make(rng)) for make in (samples.single, samples.text, samples.tiled)]


def make_trainer() -> Trainer:
    codebook = torch.zeros(len(VISION_WORDS), TEXT["hidden_size"])
    return Trainer(new_model(TOKENIZER), codebook, ENCODER.pad_id)


def test_a_token_sees_its_prefix_and_its_own_branch_only() -> None:
    owners = torch.tensor([[0, 0, 0, 0, 1, 1, -1]])
    branches = torch.tensor([[0, 1, 1, 2, 0, 1, 0]])
    visible = attention_mask(owners, branches)[0, 0] == 0
    assert visible[2].tolist() == [True, True, True, False, False, False, False]
    assert visible[3].tolist() == [True, False, False, True, False, False, False]
    assert visible[5].tolist() == [False, False, False, False, True, True, False]


def test_packed_documents_answer_as_they_do_alone() -> None:
    model = new_model(TOKENIZER).float().eval()
    docs = make_documents()
    with torch.no_grad():
        together, *_ = answer_logits(model, _float(collate([docs], ENCODER.pad_id)))
        alone = [answer_logits(model, _float(collate([[d]], ENCODER.pad_id)))[0] for d in docs]
    assert torch.allclose(together, torch.cat(alone), atol=1e-3)


def _float(batch):  # type: ignore[no-untyped-def]
    batch.pixels = None if batch.pixels is None else batch.pixels.float()
    return batch


def test_the_ids_are_those_of_the_rendered_prompt() -> None:
    for make in (samples.tiled, samples.several, samples.video, samples.text, samples.later):
        sample = make(Random(2))
        doc = ENCODER.document(sample)
        prompt, (_, answer, _) = next(conversations(sample))
        ids = TOKENIZER.encode(prompt + answer + "<|im_end|>", add_special_tokens=False)
        assert doc.ids[: doc.answers[0].end] == ids


def test_a_training_step_lowers_the_loss() -> None:
    trainer, docs = make_trainer(), make_documents()
    losses = [trainer.step(docs, 1e-3) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_resuming_continues_exactly(tmp_path: Path) -> None:
    trainer, docs = make_trainer(), make_documents()
    trainer.step(docs, 1e-3)
    trainer.save(tmp_path / "train.pt")
    trainer.step(docs, 1e-3)
    resumed = make_trainer()
    resumed.load_state_dict(torch.load(tmp_path / "train.pt"))
    resumed.step(docs, 1e-3)
    assert resumed.num_steps == trainer.num_steps == 2
    for name, weight in trainer.optimizer.masters().items():
        assert torch.equal(weight, resumed.optimizer.masters()[name]), name


def test_an_export_generates_what_teacher_forcing_says(tmp_path: Path) -> None:
    model = new_model(TOKENIZER)
    masters = {name: p.detach().clone() for name, p in model.named_parameters()}
    export(masters, tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    answerer = Answerer(tmp_path)
    sample = samples.single(Random(4))
    prompt, _ = next(conversations(sample))
    answer = answerer.answer(prompt, sample_tiles(sample))
    assert answer, "an untrained model runs on to the token limit"
    exported = dict(exported_model(masters).named_parameters())
    assert all(torch.equal(exported[name], p) for name, p in answerer.model.named_parameters())


def test_settings_survive_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"minutes": 3')
    assert read_settings(path, LiveSettings()) == LiveSettings()
    path.write_text('{"minutes": 3}')
    assert read_settings(path, LiveSettings()).minutes == pytest.approx(3)
