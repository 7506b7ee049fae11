"""Carving in xfuser: its registered attention function, by a stand-in of its published interface, and by xfuser itself
with two gloo ranks where it is installed.
"""

import sys
import types

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("diffusers", "0.42", reason="diffusers 0.42 or newer is not installed (it needs Python 3.11)")

import diffusers_models as models
import diffusers_ranks
import xfuser_ranks
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from ranks import finish, start

from jenga import JengaConfig
from jenga.integrations import diffusers_private as private
from jenga.integrations.diffusers import apply
from jenga.runtime.settings import CarvingSettings

DENSE = CarvingSettings(JengaConfig(density=1.0), min_tokens=0)


class Processor(WanAttnProcessor):
    """As xfuser's, which call the registered function of the running backend."""

    __module__ = "xfuser.stand_in"

    def __init__(self, backend):
        super().__init__()
        self._attention_backend, self.attention_function = backend, "USP"


class StandIn:
    """xfuser in one process: padding rows behind the video, which are cut off the keys where it is told to."""

    def __init__(self, monkeypatch, padding: int = 0, trimmed: bool = False, ring: int = 1):
        self.registry: dict = {"SDPA": self.dense}
        self.state = types.SimpleNamespace(attention_backend="SDPA")
        self.padding, self.trimmed, self.dense_calls = padding, trimmed, 0
        distributed = types.ModuleType("xfuser.core.distributed")
        distributed.get_ring_parallel_world_size, distributed.get_runtime_state = lambda: ring, lambda: self.state
        backends = types.ModuleType("xfuser.core.distributed.attention_backend")
        backends.ATTENTION_FUNCTION_REGISTRY = self.registry
        backends.register_attention_function = lambda key: lambda function: self.registry.setdefault(key, function)
        for name, module in (
            ("xfuser", types.ModuleType("xfuser")),
            ("xfuser.core", types.ModuleType("xfuser.core")),
            ("xfuser.core.distributed", distributed),
            ("xfuser.core.distributed.attention_backend", backends),
        ):
            monkeypatch.setitem(sys.modules, name, module)

    def dense(self, q, k, v, dropout_p, is_causal, attention_kwargs=None):
        self.dense_calls += 1
        return F.scaled_dot_product_attention(q, k, v), None

    def attention(self, query, key, value):
        """In the library's layout [B, S, H, D]."""
        same = query.shape == key.shape
        padding = self.padding if same else 0
        q, k, v = (F.pad(x.transpose(1, 2), (0, 0, 0, padding)) for x in (query, key, value))
        if self.trimmed and padding:
            k, v = k[:, :, :-padding], v[:, :, :-padding]
        function = self.registry[self.state.attention_backend]
        out, _ = function(q, k, v, dropout_p=0.0, is_causal=False, attention_kwargs={"thw": None})
        return out[:, :, : query.shape[1]].transpose(1, 2)

    def pipeline(self, backend):
        pipeline, latents, arguments = models.make(models.wan)
        pipeline.transformer.set_attn_processor(Processor(backend))
        return pipeline, lambda: pipeline(latents, arguments)


@pytest.fixture
def backend():
    """A backend of diffusers' for the processors of the stand-in, whose function comes later."""
    functions: dict = {}

    def attention(query, key, value):
        return functions["attention"](query, key, value)

    member = private.register_backend("xfuser_stand_in", attention)
    yield member, functions
    private.unregister_backend(member)


@pytest.mark.parametrize(("padding", "trimmed"), [(0, False), (3, False), (3, True)])
def test_padding_rows_and_fewer_keys_than_queries(monkeypatch, backend, padding, trimmed):
    host = StandIn(monkeypatch, padding, trimmed)
    backend[1]["attention"] = host.attention
    pipeline, call = host.pipeline(backend[0])
    dense = call()
    with apply(pipeline, DENSE) as carving:
        host.dense_calls = 0
        assert (call() - dense).abs().max() < 1e-4
        assert host.dense_calls == 16  # cross-attention alone
        assert sum(carving.report.summary()["backends"].values()) == 16 and not carving.report.fallbacks
    with apply(pipeline, diffusers_ranks.ANCHORED):
        assert 1e-5 < (call() - dense).abs().max() < 0.1
    assert list(host.registry) == ["SDPA"] and host.state.attention_backend == "SDPA"
    assert torch.equal(call(), dense)


def test_a_ring_is_refused(monkeypatch, backend):
    host = StandIn(monkeypatch, ring=2)
    pipeline, _ = host.pipeline(backend[0])
    with pytest.raises(ValueError, match="ring_degree must be 1 with carving, got 2"):
        apply(pipeline, DENSE)
    assert "progress_bar" not in vars(pipeline)


def test_joint_sequences_are_refused(monkeypatch, backend):
    StandIn(monkeypatch)
    pipeline, _, _ = models.make(models.hunyuan_video)
    pipeline.transformer.set_attn_processor(Processor(backend[0]))
    with pytest.raises(ValueError, match="attend to the video alone under xfuser, got HunyuanVideoTransformer3DModel"):
        apply(pipeline, DENSE)
    assert "progress_bar" not in vars(pipeline)


def test_two_ranks_of_xfuser_itself(tmp_path):
    pytest.importorskip("xfuser", reason="xfuser is not installed")
    pytest.importorskip("yunchang", reason="yunchang is not installed")
    assert finish(start(xfuser_ranks.__file__, tmp_path, 2)) == [0, 0]
    pipeline, latents, arguments = models.make(models.wan)
    dense = pipeline(latents, arguments)
    with apply(pipeline, diffusers_ranks.ANCHORED):
        carved = pipeline(latents, arguments)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["dense"], dense, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found["carved"], carved, atol=1e-5, rtol=1e-5)
