"""ComfyUI's entry point of the Jenga node pack: the list of its nodes, and nothing else."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes.pack import JengaExtension

    return JengaExtension()


def _give_way() -> None:
    """Put the package `jenga`, installed or else in python/, in the place of this module in sys.modules."""
    import sys
    from importlib import machinery, util
    from pathlib import Path

    here = Path(__file__).resolve().parent
    others = [entry for entry in sys.path if Path(entry, __name__).resolve() != here]
    spec = machinery.PathFinder.find_spec(__name__, [*others, str(here / "python")])
    sys.modules[__name__] = package = util.module_from_spec(spec)
    spec.loader.exec_module(package)


# A folder called jenga is found before the package of that name wherever the folder it lies in comes first on sys.path.
if __name__ == "jenga":
    _give_way()
