"""The way back: a MODEL without what the Jenga nodes put on it."""

from comfy.patcher_extension import WrappersMP

from . import runs
from .override import CARVED_KEY
from .private import OVERRIDE


def is_patched(model) -> bool:
    """Whether a Jenga node is on this MODEL: every one of them leaves the wrapper that starts a run."""
    return bool(model.get_wrappers(WrappersMP.OUTER_SAMPLE, CARVED_KEY))


def without_carving(model):
    """A clone of a MODEL without Jenga Attention and its report; the override that it replaced is back.

    The stages of a Jenga node stay.
    """
    clone = model.clone()
    clone.remove_attachments(runs.ATTACHMENT)
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.APPLY_MODEL):
        clone.remove_wrappers_with_key(kind, CARVED_KEY)
    options = clone.model_options["transformer_options"]
    patch = getattr(options.get(OVERRIDE), "jenga_patch", None)
    if patch is not None:
        del options[OVERRIDE]
        if patch.previous is not None:
            options[OVERRIDE] = patch.previous
    return clone


def unpatched(model):
    """A clone of a MODEL without any Jenga patch.

    Where another node's override calls ours it still does; without our wrappers ours hands every call on.
    """
    clone = without_carving(model)
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, runs.RUN_KEY)
    return clone
