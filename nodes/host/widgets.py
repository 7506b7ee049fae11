"""Widgets that count only at some value of another one. At other values the page folds them away (web/js/fold.js), and
the node names those that were changed all the same.
"""

from comfy_api.v0_0_2 import io

SHOWN, COUNTS = "jenga_shown_with", "jenga_counts_with"  # keys of an input's extra_dict


def shown_with(**values: list[str]) -> dict:
    """For extra_dict: the input counts, and is shown, while the widget of that name has one of these values."""
    return {SHOWN: values}


def counts_with(**values: list[str]) -> dict:
    """The same for an input that stays among the advanced widgets when it counts."""
    return {COUNTS: values}


def idle(node: type[io.ComfyNode], **given) -> list[str]:
    """Remarks on the given widgets that are not at their default and do nothing at this setting."""
    words = []
    for item in node.define_schema().inputs:
        conditions = {**item.extra_dict.get(SHOWN, {}), **item.extra_dict.get(COUNTS, {})}
        for name, wanted in conditions.items():
            if item.id in given and given[item.id] != item.default and given[name] not in wanted:
                words.append(f"{item.id} does nothing with {name} {given[name]}: it is for {' and '.join(wanted)}")
    return words


def overruled(node: type[io.ComfyNode], by: str, **given) -> list[str]:
    """Remarks on the given widgets that are not at their default and give way to another node."""
    defaults = {item.id: getattr(item, "default", None) for item in node.define_schema().inputs}
    changed = [name for name, value in given.items() if value != defaults[name]]
    return [f"{', '.join(changed)} of this node not used: {by} has its own"] if changed else []
