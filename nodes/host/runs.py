"""Starting and measuring a run: one execution of a sampler, with its state in that execution's own option dicts.

CFGGuider.sample copies the model options for every call, so what is written there inside an OUTER_SAMPLE wrapper, or
into a copy that a sampler node made, ends with the run.
"""

import time
from collections.abc import Callable

from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS

from jenga.report.report import Report, StageRecord
from jenga.runtime.patch import STAGE_KEY, Run, StageState, own_options
from jenga.sampling.reuse import StepReuse

ATTACHMENT = "jenga"
RUN_KEY = "jenga_run"


class ReportSlot:
    """Where a MODEL keeps the report of its last run. It travels with the MODEL as an attachment.

    notes: what is true of every run of this MODEL.
    """

    def __init__(self):
        self.report = Report()
        self.notes: list[str] = []

    def begin(self, report: Report) -> None:
        self.report = report
        for note in self.notes:
            report.note(note)


def report_slot(model) -> ReportSlot:
    """The MODEL's slot, made if it has none."""
    slot = model.attachments.get(ATTACHMENT)
    if slot is None:
        slot = ReportSlot()
        model.set_attachments(ATTACHMENT, slot)
    return slot


def new_run(model_options: dict) -> Run:
    return Run(compiled=TORCH_COMPILE_KWARGS in model_options)


def stage_of(model_options: dict) -> StageState | None:
    return model_options.get("transformer_options", {}).get(STAGE_KEY)


def install(
    stage: StageState,
    model_options: dict,
    progress: Callable[[], None] | None = None,
    reuse: StepReuse | None = None,
) -> None:
    """Make `stage` the owner of the run that uses `model_options`, and measure every evaluation and model call."""
    report = stage.run.report
    options = model_options.setdefault("transformer_options", {})
    cache = options.get("easycache")
    if cache is not None:
        report.note(f"{cache.name} is on this model: model calls that it skips count as computed here")

    def predict_noise(executor, x, timestep, *args, **kwargs):
        if reuse is not None:
            reuse.begin_evaluation(x, float(timestep.max()))
        with report.evaluation(x.device):
            out = executor(x, timestep, *args, **kwargs)
        if progress is not None:
            progress()
        return out

    def apply_model(executor, x, t, *args, **kwargs):
        reused = False
        if reuse is None:
            out = executor(x, t, *args, **kwargs)
        else:
            options = own_options((x, t, *args), kwargs)[2]
            keys = list(options.get("uuids") or options["cond_or_uncond"])
            out, reused = reuse.model_call(x, t, keys, lambda: executor(x, t, *args, **kwargs))
        report.model_call(reused)
        return out

    options[STAGE_KEY] = stage
    for kind, wrapper in ((WrappersMP.PREDICT_NOISE, predict_noise), (WrappersMP.APPLY_MODEL, apply_model)):
        add_wrapper_with_key(kind, RUN_KEY, wrapper, model_options, is_model_options=True)


def sample_stage(report: Report, scale: float, latent_shape, sigmas, sample: Callable):
    """Run `sample()` as one stage of the report; an interrupted stage is recorded with the time it took."""
    stage = StageRecord(scale, tuple(latent_shape), max(0, len(sigmas) - 1))
    report.stages.append(stage)
    start = time.perf_counter()
    try:
        return sample()
    finally:
        stage.seconds = time.perf_counter() - start


def outer_sample(slot: ReportSlot, progress: Callable[[Report], None]) -> Callable:
    """An OUTER_SAMPLE wrapper that starts a run unless a sampler node has started one already."""

    def wrapper(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        options = executor.class_obj.model_options
        stage = stage_of(options)
        if stage is not None:
            slot.begin(stage.run.report)
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        run = new_run(options)
        slot.begin(run.report)
        install(StageState(run), options, lambda: progress(run.report))
        shapes = kwargs.get("latent_shapes") or [latent_image.shape]
        try:
            return sample_stage(
                run.report,
                1.0,
                shapes[0],
                sigmas,
                lambda: executor(noise, latent_image, sampler, sigmas, *args, **kwargs),
            )
        finally:
            run.close()

    return wrapper
