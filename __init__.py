"""ComfyUI's entry point of the Jenga node pack: the list of its nodes, and nothing else."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes.pack import JengaExtension

    return JengaExtension()
