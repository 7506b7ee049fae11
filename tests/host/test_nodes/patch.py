"""What the test nodes that patch a MODEL share."""


class Patch:
    """A node that changes a clone of a MODEL."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "patch", ("MODEL",)
    WIDGETS: dict = {}
    OPTIONAL: dict = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), **cls.WIDGETS}, "optional": cls.OPTIONAL}

    def patch(self, model, **widgets):
        patched = model.clone()
        self.change(patched, **widgets)
        return (patched,)
