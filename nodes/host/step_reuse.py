"""Step reuse on the nodes: its words, and the rule of the adaptive kind for a model.

The published coefficients of its family where there are any, else the change of the model's input.
"""

from jenga.sampling.reuse_rules import MeasuredRateRule, PublishedRule, ReuseRule

from .families import host_family

CHOICES = ("from preset", "off", "static", "adaptive")
THRESHOLD = 0.15  # of the published Wan presets; with the other rule better than static at fewer calls (RESULTS.md)
TOOLTIP = (
    "static: in the middle of the run every second or third step repeats the model's last output; below 12 steps all "
    "are computed. adaptive: a step repeats it while the output is expected to have changed by less than "
    "reuse_threshold: by the published coefficients for Wan 2.1, by the change of the model's input for any other "
    "model; the node says which. from preset: static, but off with few-step and custom."
)
THRESHOLD_TOOLTIP = (
    "adaptive: 0.15 calls the model again before its output is expected to have changed by 15 %, added up over the "
    "steps that repeat it. The same number for either rule. Smaller values reuse fewer steps, 0 reuses none."
)


def adaptive_rule(patcher, size: tuple[int, int], threshold: float, steps: int) -> tuple[ReuseRule, str]:
    """The rule for a run of `steps` steps, and the words for it.

    size: latent rows and columns at full size. threshold: relative change of the model's output.
    """
    model = patcher.model.diffusion_model
    family = host_family(model)
    published = family.reuse if family else None
    name = published.name(model, size) if published else None
    if name is None:
        return MeasuredRateRule(threshold, steps), "by the change of the model's input"
    rule = PublishedRule(published.coefficients[name], published.signal(patcher), threshold, steps)
    return rule, f"by the published {name} coefficients"
