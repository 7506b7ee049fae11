"""Putting Jenga Attention on a MODEL. unpatch.py is the way back."""

from jenga.runtime.settings import CarvingSettings

from . import private, private_options, runs, status
from .families import dense_reason, model_name
from .override import CARVED_KEY, AttentionPatch
from .unpatch import without_carving


def patch_model(model, settings: CarvingSettings, node_id: str | None):
    """A clone of a MODEL whose attention is carved; for one that must stay dense a clone that only says so.

    A Jenga patch that is there already is replaced. Raises RuntimeError for a dense one with config.strict.
    """
    patched = without_carving(model)
    slot = runs.ReportSlot()
    patched.set_attachments(runs.ATTACHMENT, slot)
    options = patched.model_options["transformer_options"]

    reason = dense_reason(model)
    if reason:
        reason = f"{model_name(model)} runs dense: {reason}"
        if settings.config.strict:
            raise RuntimeError(f"Jenga Attention: model must be one that can be carved, got {reason}")
        slot.notes.append(reason)
        status.warn(node_id, reason)
    else:
        patch = AttentionPatch(settings, options.get(private_options.OVERRIDE))
        options[private_options.OVERRIDE] = patch.override
        private.wrap(patched, private.APPLY_MODEL, CARVED_KEY, patch.apply_model)
    wrapper = runs.outer_sample(slot, lambda report: status.say(node_id, report.line()))
    private.wrap(patched, private.OUTER_SAMPLE, CARVED_KEY, wrapper)
    return patched
