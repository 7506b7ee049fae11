"""The way back: a MODEL without what the Jenga nodes put on it."""

from . import private, private_options, runs
from .override import CARVED_KEY


def is_patched(model) -> bool:
    """Whether a Jenga node is on this MODEL: every one of them leaves the wrapper that starts a run."""
    return bool(private.wrappers_of(model, private.OUTER_SAMPLE, CARVED_KEY))


def without_carving(model):
    """A clone of a MODEL without Jenga Attention and its report; the override that it replaced is back.

    The stages of a Jenga node stay.
    """
    clone = model.clone()
    clone.remove_attachments(runs.ATTACHMENT)
    for kind in (private.OUTER_SAMPLE, private.APPLY_MODEL):
        private.unwrap(clone, kind, CARVED_KEY)
    options = clone.model_options["transformer_options"]
    patch = getattr(options.get(private_options.OVERRIDE), "jenga_patch", None)
    if patch is not None:
        del options[private_options.OVERRIDE]
        if patch.previous is not None:
            options[private_options.OVERRIDE] = patch.previous
    return clone


def unpatched(model):
    """A clone of a MODEL without any Jenga patch.

    Where another node's override calls ours it still does; without our wrappers ours hands every call on.
    """
    clone = without_carving(model)
    private.unwrap(clone, private.OUTER_SAMPLE, runs.RUN_KEY)
    return clone
