"""Which devices take heads of a call: what a user wrote, and what of it this machine has."""

import torch

AUTO = "auto"


def parse_devices(text: str) -> tuple[str, ...]:
    """Device names of "0, 1" or "cuda:0, cuda:1"; ("auto",) of "auto"; none of blank text. Raises ValueError that names
    the part it cannot read.
    """
    names = tuple(filter(None, (piece.strip() for piece in text.split(","))))
    if names == (AUTO,):
        return names
    names = tuple(f"cuda:{name}" if name.isdecimal() else name for name in names)
    for name in names:
        try:
            torch.device(name)
        except RuntimeError:
            words = f"CarvingSettings: devices must be 'auto' or a list like '0, 1', got {name!r}"
            raise ValueError(words) from None
    return names


def others_for(home: torch.device, wanted: tuple[str, ...]) -> tuple[tuple[torch.device, ...], str]:
    """The devices that share the heads of calls on `home`, without it; and why there are none where there should be.

    wanted: of `parse_devices`. The home belongs to them whether it is named or not.
    """
    if not wanted:
        return (), ""
    if wanted == (AUTO,):
        near = tuple(device for device in _visible(home) if device != home and can_reach(home, device))
        return near, "" if near else f"no other device that {home} can reach directly"
    others = [torch.device(name) for name in wanted]
    if home in others:
        others.remove(home)
    visible = _visible(home)
    for device in others:
        if device not in visible and (device.type, home.type) != ("cpu", "cpu"):  # as many of a CPU as one likes
            return (), f"{device} is not among {', '.join(map(str, visible))}"
    return tuple(others), "" if others else f"{home} is the only device in the list"


def can_reach(home: torch.device, device: torch.device) -> bool:
    """Whether copies between two devices need no detour through host memory."""
    if home.type != "cuda":
        return home.type == device.type
    return torch.cuda.can_device_access_peer(home.index, device.index)


def _visible(home: torch.device) -> list[torch.device]:
    """Devices of the home's kind."""
    if home.type != "cuda":
        return [home]
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
