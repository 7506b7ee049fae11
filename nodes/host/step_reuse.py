"""Step reuse on the nodes: a table of its kinds, each with its words and the rule that it makes for a run."""

from collections.abc import Callable
from dataclasses import dataclass

from jenga.sampling.presets import Preset
from jenga.sampling.reuse import StepReuse
from jenga.sampling.reuse_rules import MeasuredRateRule, PublishedRule, ReuseRule, StaticRule

from .families import FAMILIES, host_family

FROM_PRESET, OFF, STATIC, ADAPTIVE = "from preset", "off", "static", "adaptive"
NONE_REUSED = "step reuse: no step was reused"
THRESHOLD = 0.15  # of the published Wan presets; with the other rule better than static at fewer calls (RESULTS.md)
PUBLISHED = tuple(name for family in FAMILIES if family.reuse for name in family.reuse.coefficients)


@dataclass(frozen=True)
class PlannedRun:
    """What a rule is made for. patcher: the MODEL. size: latent rows and columns at full size. threshold: relative
    change of the model's output; published_threshold: the same where published coefficients decide.
    """

    plan: Preset
    patcher: object
    size: tuple[int, int]
    steps: int
    threshold: float
    published_threshold: float


@dataclass(frozen=True)
class Kind:
    """help: for the tooltip. make(run): its rule, and words for a note on what decides; None: it reuses no step.
    has_threshold: the widget reuse_threshold counts for it.
    """

    help: str
    make: Callable[[PlannedRun], tuple[ReuseRule, str] | None]
    has_threshold: bool = False


def static_rule(run: PlannedRun) -> tuple[ReuseRule, str] | None:
    computed = run.plan.computed
    return (StaticRule(computed), "") if len(computed) < run.steps else None


def adaptive_rule(run: PlannedRun) -> tuple[ReuseRule, str] | None:
    """By the published coefficients of the model's family where there are any, else by the change of its input."""
    if run.threshold == 0:  # a published sum may be below 0
        return None
    model = run.patcher.model.diffusion_model
    family = host_family(model)
    published = family.reuse if family else None
    name = published.name(model, run.size) if published else None
    if name is None:
        return MeasuredRateRule(run.threshold, run.steps), "by the change of the model's input"
    signal = published.signal(run.patcher)
    rule = PublishedRule(published.coefficients[name], signal, run.published_threshold, run.steps)
    return rule, f"by the published {name} coefficients"


KINDS = {
    STATIC: Kind(
        "in the middle of the run every second or third step repeats the model's last output; below 12 steps all are "
        "computed.",
        static_rule,
    ),
    ADAPTIVE: Kind(
        "a step repeats it while the output is expected to have changed by less than reuse_threshold: by published "
        f"coefficients ({', '.join(PUBLISHED)}), by the change of the model's input for any other model; the node says "
        "which.",
        adaptive_rule,
        has_threshold=True,
    ),
}
CHOICES = (FROM_PRESET, OFF, *KINDS)
TOOLTIP = " ".join(
    [
        *(f"{name}: {kind.help}" for name, kind in KINDS.items()),
        f"{FROM_PRESET}: as its words say; off with custom.",
    ]
)
THRESHOLD_TOOLTIP = (
    "adaptive: 0.15 calls the model again before its output is expected to have changed by 15 %, added up over the "
    "steps that repeat it. The same number for either rule. Smaller values reuse fewer steps, 0 reuses none."
)


def step_reuse(kind: str, run: PlannedRun, note: Callable[[str], None]) -> StepReuse | None:
    """The StepReuse of one run; None where every step is computed. kind: OFF or a key of KINDS. note: takes the words
    about what decides.
    """
    made = None if kind == OFF else KINDS[kind].make(run)
    if made is None:
        if kind != OFF and KINDS[kind].has_threshold:
            note(f"{NONE_REUSED}: reuse_threshold is {run.threshold:g}")
        return None
    rule, words = made
    if words:
        note(f"step reuse: {kind} {words}")
    return StepReuse(rule)
