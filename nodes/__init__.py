"""The nodes of this pack. Everything that imports ComfyUI is in this folder."""
