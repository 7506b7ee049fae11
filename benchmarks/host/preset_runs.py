"""The runs behind benchmarks.presets: what each row puts on the demo model, by the nodes a user's graph would have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import sol_attn
from benchmarks.common import Unavailable
from benchmarks.host import run_work
from benchmarks.host.library import pack_module, run_node
from benchmarks.host.meter import cudnn_attention, with_override
from benchmarks.host.sampling import SamplingHost
from jenga.report.report import Report
from jenga.runtime.qualities import QUALITIES, anchors_for
from jenga.sampling.presets import PRESETS, STAGES, StageRule, dial_of, reuses_steps
from jenga.sampling.reuse import StepReuse
from jenga.sampling.reuse_rules import StaticRule

FEW_STEPS = 8  # few-step is for at most so many
ANCHORED = "balanced"  # the quality whose anchors are added to a preset
SOL_SHARES = (0.1, 0.2)
EASY_CACHE = "EasyCache"
# Not what ComfyUI takes by itself: FLASH on a GPU, and on a CPU torch's own choice, its flash form.
OTHER_ATTENTION = {"cuda": SDPBackend.CUDNN_ATTENTION, "cpu": SDPBackend.MATH}


@dataclass(frozen=True)
class Variant:
    """One way to sample. sample(prompt number, steps) -> latent. model: whose Jenga report counts, None: no Jenga."""

    sample: Callable[[int, int], torch.Tensor]
    model: object | None = None

    def report(self) -> Report | None:
        """Of the last run."""
        return None if self.model is None else _runs().report_of(self.model)[0]


def presets_for(steps: int) -> list[str]:
    """The presets that are for so many steps."""
    return [name for name in PRESETS if reuses_steps(name) or steps <= FEW_STEPS]


def takes_anchors(name: str, steps: int) -> bool:
    """Whether a preset has none of its own and so many steps have room for those of ANCHORED."""
    return dial_of(name) is None and anchors_for(QUALITIES[ANCHORED].anchors, steps) is not None


def _runs() -> ModuleType:
    return pack_module("nodes.host.runs")


def _stock(host: SamplingHost, model, reports: bool = True) -> Variant:
    return Variant(lambda prompt, steps: host.sample(model, prompt, steps), model if reports else None)


def _progressive(host: SamplingHost, model, **inputs) -> Variant:
    return Variant(lambda prompt, steps: host.sample_progressive(model, prompt, steps, **inputs), model)


def dense(host: SamplingHost) -> Variant:
    """The model as it is loaded, in the stock sampler."""
    return _stock(host, host.model, reports=False)


def other_attention(host: SamplingHost) -> Variant:
    """Dense attention, exact but for rounding, by another of torch's backends."""
    kind = OTHER_ATTENTION[host.device.type]

    def attend(q, k, v):
        with sdpa_kernel(kind):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    return _stock(host, _with_self_attention(host, attend), reports=False)


def cudnn(host: SamplingHost) -> Variant:
    """Every attention call by cuDNN."""
    return _stock(host, with_override(host.model, cudnn_attention), reports=False)


def sol(host: SamplingHost, share: float, work: sol_attn.Work, cached: bool = False) -> Variant:
    """comfy-kitchen's sol_attn for every self-attention call, which `work` notes; on the CPU its eager form. cached:
    EasyCache too.
    """
    if reason := sol_attn.refusal(host.device):
        raise Unavailable(reason)

    def attend(q, k, v):
        return work.attend(q, k, v, topk_ratio=share)

    model = _with_self_attention(host, attend)
    return _stock(host, _easy_cached(model) if cached else model, reports=False)


def _with_self_attention(host: SamplingHost, attend: Callable):
    """attend(q, k, v) -> out, all [B, H, S, D], in the place of self-attention alone."""

    def override(func, q, k, v, *args, **kwargs):
        call = pack_module("nodes.host.override").AttentionCall.read(q, k, v, args, kwargs)
        return func(q, k, v, *args, **kwargs) if call.cross else call.output(attend(call.q, call.k, call.v))

    return with_override(host.model, override)


def _jenga(host: SamplingHost, preset: str, **inputs):
    return run_node(
        pack_module("nodes.jenga").Jenga, model=host.model, preset=preset, min_tokens=host.min_tokens, **inputs
    )[0]


def _jenga_attention(host: SamplingHost, model, **inputs):
    node = pack_module("nodes.attention").JengaAttention
    return run_node(node, model=model, min_tokens=host.min_tokens, **inputs)[0]


def rules(host: SamplingHost, preset: str) -> tuple:
    """The stage rules of a preset for the demo model."""
    return STAGES[pack_module("nodes.host.families").preset_family(host.model)][preset]


def jenga(host: SamplingHost, preset: str) -> Variant:
    """The Jenga node in front of the stock sampler."""
    return _stock(host, _jenga(host, preset))


def carving_alone(host: SamplingHost, preset: str) -> Variant:
    """A preset's kept shares with every stage at full size on the user's own schedule, every step computed."""
    stages, model = pack_module("nodes.host.stage_settings"), _jenga(host, preset, step_reuse="off")
    full_size = tuple(replace(rule, scale=1.0, shift_ratio=1.0) for rule in rules(host, preset))
    pack_module("nodes.jenga").add_stages(model, stages.StageSettings(preset, full_size, "off"), None)
    return _stock(host, model)


def without_reuse(host: SamplingHost, preset: str) -> Variant:
    """The Jenga node with step_reuse off: carving and resolution."""
    return _stock(host, _jenga(host, preset, step_reuse="off"))


def with_anchors(host: SamplingHost, preset: str, quality: str) -> Variant:
    """The Jenga node, then Jenga Attention with a quality that has anchors."""
    return _stock(host, _jenga_attention(host, _jenga(host, preset), quality=quality))


def quality(host: SamplingHost, name: str, **inputs) -> Variant:
    """Jenga Attention alone, at one of its qualities; inputs: others of the node."""
    return _stock(host, _jenga_attention(host, host.model, quality=name, **inputs))


def kept(host: SamplingHost, share: float, precision: str = "auto") -> Variant:
    """Jenga Attention alone, at a kept share."""
    return _stock(host, _jenga_attention(host, host.model, quality="custom", density=share, precision=precision))


def stage_noise(host: SamplingHost, preset: str, kind: str) -> Variant:
    """Jenga Attention and the Progressive Resolution Sampler with one of its kinds of noise."""
    model = _jenga_attention(host, host.model, quality="custom")
    return _progressive(host, model, preset=preset, stage_noise=kind)


def by_hand(host: SamplingHost, attention: dict, sampler: dict) -> Variant:
    """Jenga Attention and the Progressive Resolution Sampler, both custom, with these inputs."""
    model = _jenga_attention(host, host.model, quality="custom", **attention)
    return _progressive(host, model, preset="custom", **sampler)


def reuse_alone(host: SamplingHost, step_reuse: str, threshold: float) -> Variant:
    """The Progressive Resolution Sampler with one stage at full size on the unpatched model."""
    one_stage = {"preset": "custom", "scales": "1.0", "switch_points": "", "shift_ratios": "1.0"}
    return _progressive(host, host.model.clone(), **one_stage, step_reuse=step_reuse, reuse_threshold=threshold)


def easy_cache(host: SamplingHost) -> Variant:
    """ComfyUI's own EasyCache with its defaults."""
    return _stock(host, _easy_cached(host.model), reports=False)


def _easy_cached(model):
    try:
        from comfy_extras.nodes_easycache import EasyCacheNode
    except ImportError as error:
        raise Unavailable(f"EasyCache cannot be imported: {error}") from None
    return run_node(EasyCacheNode, model=model)[0]


def uncompensated(host: SamplingHost, share: float) -> Variant:
    """Attention that keeps so little and nothing of what it dropped: a run that must be seen to be worse."""
    carved = {"quality": "custom", "density": share, "compensation": "none"}
    return _stock(host, _jenga_attention(host, host.model, **carved))


def few_calls(host: SamplingHost, calls: int) -> Variant:
    """Dense attention, but only so many steps computed, evenly spread: a run that must be seen to be worse."""
    full_size = (StageRule(1.0, 1.0, 1.0, None),)

    def evenly(steps: int) -> list[int]:
        return [round(call * steps / calls) for call in range(calls)]

    return _listed(host, host.model.clone(), "base", full_size, evenly)


def jenga_listed(host: SamplingHost, preset: str, computed: list[int]) -> Variant:
    """The Jenga node with these steps computed and the others reused, whatever the preset's own rule would say."""
    return _listed(host, _jenga(host, preset), preset, None, lambda steps: computed)


def _listed(
    host: SamplingHost, model, preset: str, rules: tuple | None, computed: Callable[[int], Iterable[int]]
) -> Variant:
    """model with the stages of a preset or of rules. computed(steps of the run) -> those that are computed."""
    settings = pack_module("nodes.host.stage_settings").StageSettings

    class Listed(settings):
        def reuse(self, plan, patcher, size, steps, note) -> StepReuse:
            return StepReuse(StaticRule(computed(steps)))

    pack_module("nodes.jenga").add_stages(model, Listed(preset, rules), None)
    return _stock(host, model)


def attention_cost(report: Report) -> float:
    """Attention work relative to dense: kept share and tail columns of a carved call, one more for an anchor."""
    work = run_work.stage_work(1.0, report.evaluations)
    return work.dense + work.anchors + (1 - work.dense) * _with_tail(work.kept)


def _with_tail(kept: float) -> float:
    return kept + (1 - kept) / 64  # the nodes' tail cells of 64 tokens
