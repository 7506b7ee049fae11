"""Starting and measuring a run: one execution of a sampler, with its state in that execution's own option dicts.

CFGGuider.sample copies the model options for every call, so what is written there inside an OUTER_SAMPLE wrapper, or
into a copy that a sampler node made, ends with the run.
"""

import weakref
from collections.abc import Callable

from jenga.report.report import Report
from jenga.runtime.run import Run, StageState
from jenga.sampling.reuse import StepReuse

from . import private, private_options
from .model_call import STAGE_KEY, Arguments, model_call, stage_of
from .override import AttentionPatch

ATTACHMENT = "jenga"
NOTES = "jenga_notes"  # attachment of a MODEL: what is true of its runs and not of those of the MODEL that it came from
RUN_KEY = "jenga_run"


class ReportSlot:
    """Where a MODEL and its clones keep the reports of their runs, each its own. It travels with them as an attachment.

    notes: what is true of every run of these MODELs; what is true of one alone is its attachment NOTES.
    """

    def __init__(self):
        self.notes: list[str] = []
        self._newest = Report()
        self._own: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # patcher that ran -> its last Report

    def begin(self, report: Report, patcher) -> None:
        self._newest = self._own[patcher] = report
        for note in (*self.notes, *patcher.attachments.get(NOTES, ())):
            report.note(note)

    def report_of(self, patcher) -> tuple[Report, str]:
        """The report of this MODEL's last run, and a remark where it is another one's: a node between the patch and
        the sampler made a clone, which is what ran.
        """
        own = self._own.get(patcher)
        if own is not None:
            return own, ""
        if len(self._own) < 2:
            return self._newest, ""
        remark = f"{len(self._own)} clones of this MODEL ran, this is the newest run; connect the MODEL of one sampler"
        return self._newest, remark


def report_slot(model) -> ReportSlot:
    """The MODEL's slot, made if it has none."""
    slot = model.attachments.get(ATTACHMENT)
    if slot is None:
        slot = ReportSlot()
        model.set_attachments(ATTACHMENT, slot)
    return slot


def report_of(model) -> tuple[Report, str]:
    """ReportSlot.report_of of the MODEL's slot."""
    return report_slot(model).report_of(model)


def new_run(model_options: dict) -> Run:
    return Run(Report(), private.is_compiled(model_options))


def running_stage(model_options: dict) -> StageState | None:
    """The StageState of the run that has started with these options; None where none has."""
    return stage_of(model_options.get("transformer_options", {}))


def install(
    stage: StageState,
    guider,
    progress: Callable[[], None] | None = None,
    reuse: StepReuse | None = None,
) -> None:
    """Make `stage` the owner of the run that this guider starts, and measure every evaluation and model call."""
    run, model_options, patcher = stage.run, guider.model_options, guider.model_patcher
    options = model_options.setdefault("transformer_options", {})
    cache = private_options.step_cache_of(options)
    if cache:
        run.listener.note(f"{cache} is on this model: model calls that it skips count as computed here")

    patch = AttentionPatch.of(patcher)

    def predict_noise(executor, x, timestep, *args, **kwargs):
        run.begin_evaluation(timestep)
        if reuse is not None:
            reuse.begin_evaluation(x, timestep.max())
        with run.listener.evaluation(x.device):
            out = executor(x, timestep, *args, **kwargs)
        if patch is not None:
            patch.check_seen(run, options)
        if progress is not None:
            progress()
        return out

    def apply_model(executor, *args, **kwargs):
        arguments, reused = Arguments.bind(executor.class_obj, args, kwargs), False
        call = model_call(executor.class_obj, run, arguments)
        if reuse is None:
            out = arguments.call(executor)
        else:
            x, t = arguments.values["x"], arguments.values["t"]
            out, reused = reuse.model_call(x, t, call.conditionings, lambda: arguments.call(executor))
        run.listener.model_call(reused)
        return out

    options[STAGE_KEY] = stage
    private.wrap_options(model_options, private.PREDICT_NOISE, RUN_KEY, predict_noise)
    private.wrap_options(model_options, private.APPLY_MODEL, RUN_KEY, apply_model)


def outer_sample(slot: ReportSlot, progress: Callable[[Report], None]) -> Callable:
    """An OUTER_SAMPLE wrapper that starts a run unless a sampler node has started one already."""

    def wrapper(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        guider = executor.class_obj
        stage = running_stage(guider.model_options)
        if stage is not None:
            slot.begin(stage.run.listener, guider.model_patcher)
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        run = new_run(guider.model_options)
        slot.begin(run.listener, guider.model_patcher)
        install(StageState(run), guider, lambda: progress(run.listener))
        shapes = kwargs.get("latent_shapes") or [latent_image.shape]
        try:
            with run.listener.stage(1.0, tuple(shapes[0]), max(0, len(sigmas) - 1)):
                return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        finally:
            run.close()

    return wrapper
