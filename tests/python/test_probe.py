"""The probe: its file, its input at any size, and that it finds what clips show, soft ones too."""

import pytest
import torch

from demo import probe, scenes, train_probe
from demo.probe import FRAMES, HEIGHT, WIDTH, Probe
from demo.prompts import SLOTS, WORDS


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2_000_003)  # clips that training never made


@pytest.fixture(scope="module")
def shipped() -> Probe:
    return probe.load("cpu")


def test_the_file_is_small():
    assert probe.WEIGHTS.stat().st_size < 2 * 2**20


@pytest.mark.parametrize(("frames", "height", "width"), [(49, 320, 512), (49, 240, 384), (33, 160, 256), (17, 40, 64)])
def test_clips_of_any_size_are_prepared_to_one(frames, height, width):
    clips = torch.linspace(0, 1, frames).view(1, 1, -1, 1, 1).expand(2, 3, frames, height, width)
    small = probe.prepare(clips)
    assert small.shape == (2, 3, FRAMES, HEIGHT, WIDTH)
    torch.testing.assert_close(small[0, 0, :, 0, 0], torch.linspace(0, 1, FRAMES), atol=0.02, rtol=0)
    assert small[:, :, 0].eq(0).all() and small[:, :, -1].eq(1).all()


def test_what_training_renders_is_what_a_whole_clip_is_prepared_to(generator):
    scene = scenes.sample(2, generator, "cpu")
    sparse = scenes.render(scene, 80, 128, every=train_probe.EVERY)
    assert sparse.shape[2] == FRAMES
    assert torch.equal(probe.prepare(sparse), probe.prepare(scenes.render(scene, 80, 128)))


def test_logits_are_split_by_slot():
    logits = torch.arange(len(WORDS)).float().repeat(2, 1)
    parts = Probe.by_slot(logits)
    assert {slot: part.shape[1] for slot, part in parts.items()} == {slot: len(words) for slot, words in SLOTS.items()}
    assert {slot: int(words[0]) for slot, words in Probe.words(logits).items()} == {
        slot: len(words) - 1 for slot, words in SLOTS.items()
    }


def found(shipped: Probe, clips: torch.Tensor, words: torch.Tensor) -> float:
    return float((torch.stack(list(Probe.words(shipped(clips)[0]).values()), 1) == words).float().mean())


def test_words_are_found_in_clips_never_seen_and_in_soft_ones(shipped, generator):
    torch.manual_seed(0)
    clips, words = train_probe.rendered(48, (80, 128), generator)
    clips = clips.float()
    assert found(shipped, clips, words) > 0.98
    assert found(shipped, train_probe.augment(clips), words) > 0.97
    noise = torch.rand(clips.shape, generator=generator)
    assert found(shipped, noise, words) < 0.4  # it does not find what is not there


def test_augmented_clips_are_clips_that_differ(generator):
    torch.manual_seed(1)
    clips = torch.rand(64, 3, FRAMES, HEIGHT, WIDTH, generator=generator)
    changed = train_probe.augment(clips)
    assert changed.shape == clips.shape and changed.min() >= 0 and changed.max() <= 1
    difference = (changed - clips).abs().amax((1, 2, 3, 4))
    assert difference.max() > 0.1


def test_an_eighth_of_a_batch_went_through_the_vae(generator):
    torch.manual_seed(0)
    plain, soft = (train_probe.ClipPool("cpu") for _ in range(2))
    soft.add((torch.ones(2, 3, FRAMES, HEIGHT, WIDTH).half(), torch.full((2, len(SLOTS)), -1)))
    clips, words = next(train_probe.batches(plain, soft, 8, generator))
    assert clips.shape == (8, 3, FRAMES, HEIGHT, WIDTH)
    assert (words == -1).all(1).sum() == 1
