"""A model that nobody has described: where its video is found, and what keeps it dense."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from jenga.carving.config import JengaConfig, TokenGrid
from jenga.report.report import Report
from jenga.runtime.call import ModelCall
from jenga.runtime.carved_call import CarvedCall
from jenga.runtime.find_layout import Search, find_layout
from jenga.runtime.run import Run, StageState
from jenga.runtime.session import attend
from jenga.runtime.settings import CarvingSettings

ROOT = Path(__file__).resolve().parent.parent.parent
LATENT = (1, 16, 4, 16, 24)
DIM = 64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values(latent, patch, before, behind, order=lambda x: x):
    """v [1, 2, S, 32] of a first layer: patches in raster order through two projections and a norm between them."""
    x = F.pad(
        latent[0],
        [pad for size, side in zip(latent.shape[:1:-1], patch[::-1], strict=True) for pad in (0, -size % side)],
    )
    c, t, h, w = x.shape
    x = x.reshape(c, t // patch[0], patch[0], h // patch[1], patch[1], w // patch[2], patch[2])
    x = order(x.permute(1, 3, 5, 2, 4, 6, 0).flatten(3)).flatten(0, 2)
    projection = draw(x.shape[1], DIM, seed=1) * torch.logspace(0, -1, x.shape[1])[:, None]  # unlike an isometry
    x = torch.cat([draw(before, DIM, seed=2), x @ projection + draw(DIM, seed=3), draw(behind, DIM, seed=4)])
    return (F.layer_norm(x, (DIM,)) @ draw(DIM, DIM, seed=5)).view(1, -1, 2, 32).transpose(1, 2)


@pytest.mark.parametrize(("before", "behind"), [(0, 0), (13, 0), (0, 13), (96, 13)])
@pytest.mark.parametrize("patch", [(1, 2, 2), (1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("said", [(), ((1, 4, 4),)])
def test_the_video_is_found_among_any_context(patch, before, behind, said):
    latent = draw(*LATENT)
    found = find_layout(Search(latent, said), (), values(latent, patch, before, behind))
    assert found.grid == TokenGrid(4 // patch[0], 16 // patch[1], 24 // patch[2])
    assert (found.before, found.width) == (before, DIM)


def test_a_patch_that_the_host_says_is_found_too():
    latent = draw(*LATENT)
    v = values(latent, (1, 4, 2), 7, 3)
    assert find_layout(Search(latent), (), v) is None
    expected = TokenGrid(4, 4, 12), 7
    for found in (find_layout(Search(latent, ((1, 4, 2),)), (), v), find_layout(Search(latent), ((1, 4, 2),), v)):
        assert (found.grid, found.before) == expected


def test_a_ragged_latent_is_found():
    latent = draw(1, 16, 3, 15, 23)
    found = find_layout(Search(latent), (), values(latent, (2, 2, 2), 5, 0))
    assert (found.grid, found.before) == (TokenGrid(2, 8, 12), 5)


@pytest.mark.parametrize(
    "v",
    [
        values(draw(*LATENT), (1, 2, 2), 5, 5, lambda x: x.transpose(1, 2)),  # not in raster order
        values(draw(*LATENT), (1, 2, 2), 5, 5, lambda x: x + 9 * draw(*x.shape, seed=6)),  # of other things too
        values(draw(*LATENT, seed=7), (1, 2, 2), 5, 5),  # another latent
        draw(1, 2, 384, 32, seed=8),
    ],
)
def test_tokens_that_are_not_the_latents_patches_are_not_taken_for_them(v):
    assert find_layout(Search(draw(*LATENT)), (), v) is None


def test_a_latent_without_noise_has_more_than_one_place():
    latent = F.interpolate(draw(1, 16, 2, 4, 6), LATENT[2:], mode="trilinear")
    assert find_layout(Search(latent), (), values(latent, (1, 2, 2), 50, 50)) is None


def test_the_video_is_found_behind_trained_weights():
    """The demo model's patch embedding, first norm and values: correlation 0.48, by chance 0.03."""
    weights = load_file(ROOT / "demo" / "weights" / "jenga_demo_dit.safetensors")
    weights = {name.removeprefix("model.diffusion_model."): value.float() for name, value in weights.items()}
    latent = draw(1, 16, 5, 24, 32)
    embedding = weights["patch_embedding.weight"], weights["patch_embedding.bias"]
    x = F.conv3d(latent, *embedding, stride=(1, 2, 2)).flatten(2).transpose(1, 2)
    shift, scale = weights["blocks.0.modulation"][0, :2]
    v = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
    v = F.linear(v, weights["blocks.0.self_attn.v.weight"], weights["blocks.0.self_attn.v.bias"])
    context = [v.std() * draw(1, count, v.shape[2], seed=count) for count in (40, 12)]
    v = torch.cat([context[0], v, context[1]], 1).unflatten(-1, (2, -1)).transpose(1, 2)
    found = find_layout(Search(latent), (), v)
    assert (found.grid, found.before) == (TokenGrid(5, 12, 16), 40)


class Unknown:
    """A run of a model without a layout. attention: what its own function computes of q, k, v."""

    def __init__(self, attention=F.scaled_dot_product_attention, **config):
        self.attention, self.run, self.dense_calls = attention, Run(Report()), 0
        config = JengaConfig(density=0.3, backend="reference", **config)
        self.settings = CarvingSettings(config, min_tokens=0)
        self.latent = draw(*LATENT)

    def call(self, v=None, layers=2):
        self.run.begin_evaluation()
        call = ModelCall((("a", 0),), self.run.evaluation, None, torch.tensor(1.0), 8)
        carved = CarvedCall.begin(self, self.settings, StageState(self.run), call, search=Search(self.latent))
        v = values(self.latent, (1, 2, 2), 96, 13) if v is None else v
        q, k = draw(*v.shape, seed=9), draw(*v.shape, seed=10)

        def dense():
            self.dense_calls += 1
            return self.attention(q, k, v)

        outs = []
        for _ in range(layers):
            carved.find_layout(v, ())
            outs.append(attend(carved, None, q, k, v, None, None, dense))
        return outs, carved


def test_it_is_carved_and_compared_once():
    model = Unknown()
    for _ in range(2):
        outs, _ = model.call()
        assert all(out is not None for out in outs)
    assert model.dense_calls == 1
    model.run.close()
    assert model.run.listener.fallbacks == {}
    assert all(share < 0.5 for row in model.run.listener.kept_share_map() for share in row if share is not None)


@pytest.mark.parametrize(
    "attention",
    [
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.5),
    ],
)
def test_attention_of_another_kind_stays_dense_and_says_so(attention):
    model = Unknown(attention)
    (first, second), _ = model.call()
    assert torch.equal(first, second) and torch.equal(first, model.attention(*qkv_of(model)))
    (reason,) = model.run.listener.fallbacks
    assert reason.startswith("dense attention: this model's attention is not that of its tokens alone")
    with pytest.raises(RuntimeError, match="strict must not meet a fallback"):
        Unknown(attention, strict=True).call()


def qkv_of(model):
    v = values(model.latent, (1, 2, 2), 96, 13)
    return draw(*v.shape, seed=9), draw(*v.shape, seed=10), v


def test_what_is_not_found_is_looked_for_once_and_has_a_reason(monkeypatch):
    model, looked = Unknown(), []
    monkeypatch.setattr(
        "jenga.runtime.carved_call.find_layout", lambda *args: looked.append(args) or find_layout(*args)
    )
    for _ in range(2):
        outs, carved = model.call(draw(1, 2, 500, 32))
        assert outs == [None, None] and not carved.attended
    assert len(looked) == 1
    assert carved.unseen == "no self-attention call of this model has the video of its latent in it, patch after patch"
