"""What a caller chose for a host: a position of the quality dial, a configuration, or all settings."""

from ..carving.config import JengaConfig
from ..runtime.qualities import QUALITIES
from ..runtime.settings import CarvingSettings


def chosen(what: str | JengaConfig | CarvingSettings, function: str) -> CarvingSettings:
    """The settings. Raises ValueError in the name of `function` for anything else, and for `devices`: that is for hosts
    of one process, and an engine with a process for each GPU shares a sequence by itself.
    """
    if isinstance(what, CarvingSettings):
        if what.devices:
            raise ValueError(
                f"{function}: devices must be empty with one process for each GPU, got {', '.join(what.devices)}; the "
                "engine's own context parallelism shares the heads"
            )
        return what
    if isinstance(what, JengaConfig):
        return CarvingSettings(what)
    if what in QUALITIES:
        return CarvingSettings(JengaConfig(density=QUALITIES[what].density), QUALITIES[what].anchors)
    known = ", ".join(QUALITIES)
    raise ValueError(
        f"{function}: config_or_quality must be a JengaConfig, CarvingSettings or one of {known}, got {what!r}"
    )
