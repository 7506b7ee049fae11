"""Widgets that count only at some value of another one. At other values the page folds them away (web/js/fold.js), and
the node names those that were changed all the same.
"""

from comfy_api.v0_0_2 import io

SHOWN, COUNTS = "jenga_shown_with", "jenga_counts_with"  # keys of an input's extra_dict


def shown_with(**values: list[str]) -> dict:
    """For extra_dict: the input counts, and is shown, while the widget of that name has one of these values."""
    return {SHOWN: values}


def counts_with(*either: dict[str, list[str]], **values: list[str]) -> dict:
    """The same for an input that stays among the advanced widgets when it counts. either: several such settings, in the
    place of one: it counts in each of them.
    """
    return {COUNTS: either or (values,)}


def idle(node: type[io.ComfyNode], **given) -> list[str]:
    """Remarks on the given widgets that are not at their default and do nothing at this setting."""
    words = []
    for item in node.define_schema().inputs:
        if item.id not in given or given[item.id] == item.default:
            continue
        settings = item.extra_dict.get(COUNTS) or [item.extra_dict.get(SHOWN, {})]
        nearest = min(settings, key=lambda one: (len(_unmet(one, given)), -len(one)))
        for name, wanted in _unmet(nearest, given).items():
            words.append(f"{item.id} does nothing with {name} {given[name]}: it is for {' and '.join(wanted)}")
    return words


def _unmet(setting: dict[str, list[str]], given: dict) -> dict[str, list[str]]:
    """What of a setting the given widgets do not have."""
    return {name: wanted for name, wanted in setting.items() if given[name] not in wanted}


def overruled(node: type[io.ComfyNode], by: str, **given) -> list[str]:
    """Remarks on the given widgets that are not at their default and give way to another node."""
    defaults = {item.id: getattr(item, "default", None) for item in node.define_schema().inputs}
    changed = [name for name, value in given.items() if value != defaults[name]]
    return [f"{', '.join(changed)} of this node not used: {by} has its own"] if changed else []
