"""Other packs' attention, compilers and cards that are full: the run says what became of it."""

from contextlib import contextmanager

import pytest
import torch
from comfy_host import PromptFailed

from workflows import carved, dial, node, report, samples, staged, stock_sampler, workflow

ANCHORED = {"quality": "custom", "anchor_distance": "3", "residual_bits": "4", "density": 0.15}


def stranger(sparse: bool, chain: bool, block: int = 0, sigma: float = 100.0) -> tuple[str, dict]:
    settings = {"sparse": sparse, "chain": chain, "block": block, "sigma": sigma, "keyword": ""}
    return "JengaTestStranger", settings


def run(host, *patches, **settings):
    return host.run(workflow(patches, **settings))


def said(host, node_id: str, *words: str) -> bool:
    return any(name == node_id and all(word in text for word in words) for name, text in host.status)


# --- attention overrides ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("patch", [carved(), carved(**ANCHORED)])
def test_an_override_behind_ours_that_takes_the_calls_is_said_with_the_remedy(host, chain, patch):
    """It calls none before it, or calls ours with half of the keys."""
    other = stranger(sparse=True, chain=chain)
    stock = samples(run(host, other))
    outputs = run(host, patch, other)
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    words = ("another node's attention override", "put Jenga")
    assert any(all(word in reason for word in words) for reason in report(outputs)["fallbacks"])
    assert said(host, "p0", *words)
    with pytest.raises(PromptFailed, match="strict must not meet a fallback"):
        run(host, (patch[0], {**patch[1], "strict": True}), other)


@pytest.mark.parametrize("late", [{}, {"block": 1}, {"sigma": 0.96}])
def test_a_sparse_override_before_ours_is_no_exact_attention_of_an_anchor(host, late):
    """Also one that leaves the first block, or the first steps, as they are."""
    stock = samples(run(host, steps=7))
    alone = run(host, carved(**ANCHORED), steps=7)
    outputs = run(host, stranger(sparse=True, chain=False, **late), carved(**ANCHORED), steps=7)
    assert (samples(outputs) - stock).norm() < 1.2 * (samples(alone) - stock).norm()
    assert any("is not exact" in note for note in report(outputs)["notes"])
    assert said(host, "p1", "is not exact")


def test_an_exact_override_before_ours_is_used_and_not_spoken_of(host):
    outputs = run(host, ("JengaTestOverride", {"tag": "other"}), carved(**ANCHORED), steps=7)
    assert outputs["capture"]["override_calls"][0]["other"] > 0
    assert not any("exact" in note for note in report(outputs)["notes"])


@pytest.mark.parametrize("order", ["before", "behind"])
@pytest.mark.parametrize("patch", [{}, ANCHORED])
def test_an_override_that_puts_itself_back_at_every_step(host, order, patch):
    other = "JengaTestReinstalled", {}

    def prompt(**changes):
        ours = carved(**{**patch, **changes})
        return run(host, *((other, ours) if order == "before" else (ours, other)), steps=4)

    stock = samples(run(host, other, steps=4))
    torch.testing.assert_close(samples(prompt(density=1.0)), stock, rtol=0, atol=1e-4)
    outputs = prompt(density=0.15)
    assert report(outputs)["fallbacks"] == {} and report(outputs)["kept_share"] < 0.9
    assert not torch.equal(samples(outputs), stock)


@pytest.mark.parametrize("name", ["ModelAttentionBackend", "BlockSparseAttention"])
def test_comfyui_s_own_attention_nodes(host, name):
    """Where this version has them: at their default settings, in front of ours."""
    import nodes

    if name not in nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {name}")
    required = nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()["required"]
    given = {key: one[1].get("default", one[0][0]) for key, one in required.items() if key != "model"}
    stock = samples(run(host, (name, given), steps=4))
    outputs = run(host, (name, given), carved(density=1.0), steps=4)
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    assert report(outputs)["fallbacks"] == {}


def test_attention_that_was_never_seen_is_said(host):
    """A pack with a forward of its own hides its attention from every override."""
    stock = samples(run(host, ("JengaTestDirect", {})))
    for patch in (carved(), dial("base", step_reuse="off")):
        outputs = host.run(stock_sampler(workflow([("JengaTestDirect", {}), patch])))
        torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
        assert any("no self-attention call that Jenga can see" in reason for reason in report(outputs)["fallbacks"])
        assert said(host, "p1", "no self-attention call that Jenga can see")
        with pytest.raises(PromptFailed, match="strict must not meet a fallback"):
            host.run(stock_sampler(workflow([("JengaTestDirect", {}), (patch[0], {**patch[1], "strict": True})])))


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_model_that_stays_dense_is_not_one_without_jenga_attention(host):
    outputs = run(host, carved(), checkpoint="wan_causal", **staged())
    notes = report(outputs)["notes"]
    assert any("CausalWanModel runs dense" in note for note in notes)
    assert not any("no Jenga Attention on the model" in note for note in notes)
    assert any("no Jenga Attention on the model" in note for note in report(run(host, **staged()))["notes"])


def test_two_branches_of_one_patched_model_have_reports_of_their_own(host):
    """Two samplers behind one node, both before the reports; one branch has a node of its own between."""
    prompt = workflow([carved()], steps=3)
    prompt["shift"] = node("ModelSamplingSD3", model=["p0", 0], shift=3.0)
    first, second = prompt["sampler"]["inputs"], dict(prompt["sampler"]["inputs"])
    prompt["sigmas 5"] = node("BasicScheduler", model=["shift", 0], scheduler="simple", steps=5, denoise=1.0)
    prompt["guider 5"] = {**prompt["guider"], "inputs": {**prompt["guider"]["inputs"], "model": ["shift", 0]}}
    prompt["sampler 5"] = {"class_type": "SamplerCustomAdvanced", "inputs": second}
    second |= {"sigmas": ["sigmas 5", 0], "guider": ["guider 5", 0]}
    prompt["both"] = node("LatentAdd", samples1=["sampler", 0], samples2=["sampler 5", 0])
    prompt["report"] = node("JengaReport", model=["p0", 0], latent=["both", 0])
    prompt["report 5"] = node("JengaReport", model=["shift", 0], latent=["both", 0])
    outputs = host.run(prompt)
    assert first["sigmas"] == ["sigmas", 0]
    counts = [outputs[name]["jenga_report"][0]["model_calls_computed"] for name in ("report", "report 5")]
    assert counts == [3, 5]


# --- backends, memory, compilers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [carved(), carved(**ANCHORED), dial("few-step")])
def test_a_backend_that_fails_gives_way_to_the_next_once(host, monkeypatch, patch):
    import jenga.carving.ops

    calls = []

    def fail(*args, **kwargs):
        calls.append(None)
        raise RuntimeError("no kernel image is available\nfor a reason")

    with monkeypatch.context() as broken:
        broken.setattr(jenga.carving.ops, "block_sparse_attention", fail)
        host.forget()
        outputs = run(host, patch, steps=4)
        assert len(calls) == 1
        reasons = list(report(outputs)["fallbacks"])
        assert reasons == ["native_cpu: failed with RuntimeError: no kernel image is available"]
        assert set(report(outputs)["backends"]) <= {"reference", "dense"} and report(outputs)["kept_share"] < 1
        assert said(host, "p0", "no kernel image is available")
        with pytest.raises(PromptFailed, match="strict must not meet a fallback, got native_cpu: failed"):
            run(host, (patch[0], {**patch[1], "strict": True}), steps=4)


def test_where_every_backend_fails_the_run_is_dense_and_says_why(host, monkeypatch):
    import jenga.carving.ops
    import jenga.carving.reference

    stock = samples(run(host))

    def fail(*args, **kwargs):
        raise RuntimeError("broken")

    with monkeypatch.context() as broken:
        for module in (jenga.carving.ops, jenga.carving.reference):
            broken.setattr(module, "block_sparse_attention", fail)
        host.forget()
        for patch in (carved(), carved(**ANCHORED)):
            outputs = run(host, patch)
            torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
            assert any("dense attention" in reason and "broken" in reason for reason in report(outputs)["fallbacks"])
            with pytest.raises(PromptFailed, match="strict must not meet a fallback"):
                run(host, (patch[0], {**patch[1], "strict": True}))


@pytest.mark.parametrize("limit", [0, 1])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_out_of_memory_beside_anchors_drops_them_and_repeats_the_step(host, limit, cfg):
    settings = {"steps": 7, "cfg": cfg}
    with pytest.raises(PromptFailed, match="made by this test"):
        run(host, ("JengaTestScarce", {"limit": -1}), carved(**ANCHORED), **settings)
    outputs = run(host, ("JengaTestScarce", {"limit": limit}), carved(**ANCHORED), **settings)
    assert torch.isfinite(samples(outputs)).all()
    assert report(outputs)["model_calls_computed"] == 7
    assert [stage["steps"] for stage in report(outputs)["stages"]] == [7]
    assert any("out of memory" in reason and "anchors" in reason for reason in report(outputs)["fallbacks"])
    assert said(host, "p1", "out of memory")
    with pytest.raises(PromptFailed, match="strict must not meet a fallback"):
        run(host, ("JengaTestScarce", {"limit": limit}), carved(**ANCHORED, strict=True), **settings)


@pytest.mark.parametrize("patch", [carved(), carved(**ANCHORED)])
def test_what_outlives_a_model_call_is_made_outside_its_memory_graph(host, monkeypatch, patch):
    """Newer versions of ComfyUI plan the memory of a call of some models and give what is in the plan to the next."""
    comfy_prefetch = pytest.importorskip("comfy.model_prefetch", reason="this ComfyUI plans no memory")
    from jenga.carving.plan import Plan
    from jenga.runtime.anchors import Anchors

    depth, made = [0], []

    @contextmanager
    def pause():
        depth[0] += 1
        yield
        depth[0] -= 1

    def noting(function):
        def wrapper(*args, **kwargs):
            made.append(depth[0])
            return function(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(comfy_prefetch, "pause_malloc_graph", pause, raising=False)
    monkeypatch.setattr(Anchors, "keep", noting(Anchors.keep))
    monkeypatch.setattr(Plan, "__init__", noting(Plan.__init__))
    run(host, patch, steps=4)
    assert made and set(made) == {1} and depth == [0]


@pytest.mark.parametrize("order", ["before", "behind"])
def test_fullgraph_names_the_node_and_the_remedy(host, order):
    torch.compiler.reset()  # what an earlier test compiled in pieces would do here too
    whole = ("JengaTestFullGraph", {})
    patches = (whole, carved()) if order == "before" else (carved(), whole)
    with pytest.raises(PromptFailed, match="Jenga Attention: .*fullgraph.*turn .*off"):
        run(host, *patches)
    with pytest.raises(PromptFailed, match="Jenga.*fullgraph"):
        run(host, *((whole, dial()) if order == "before" else (dial(), whole)))
