"""ComfyUI's page in a headless Chromium, used as a user uses it: template browser, graph, Run button.

    with Page(address) as page:
        page.open_template("jenga", "demo_ab")
        page.run(seconds=120)
        page.screenshot().save("graph.png")

Chromium is the system's (Debian package `chromium`); Playwright drives it.
"""

import io
import shutil

from PIL import Image
from playwright.sync_api import Locator, sync_playwright

START_SECONDS = 60
REMEDY = "get it with `apt-get install chromium`"
PREVIEW_SECONDS = 60  # from the end of a run until every picture and video on the nodes is loaded
MARGINS = (75, 90, 15)  # left of the graph, above it, elsewhere: the side bar, the row of the Run button

# Off: what lies over the graph, and the rule that leaves small letters out.
PLAIN_CANVAS = {
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}

_SET_WIDGETS = """([type, values]) => {
  const nodes = app.graph.nodes.filter((node) => node.type === type)
  for (const name of Object.keys(values)) {
    const widgets = nodes.flatMap((node) => node.widgets.filter((widget) => widget.name === name))
    if (!widgets.length) throw new Error(`no ${type} with a widget ${name}`)
    for (const widget of widgets) { widget.value = values[name]; widget.callback?.(values[name]) }
  }
}"""

_WATCH_RUN = """() => {
  window.jengaRun = null
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
    app.api.addEventListener(kind, ({ detail }) => { window.jengaRun ??= { kind, detail } }, { once: true })
}"""

_PREVIEWS_LOADED = """() => app.graph.nodes.every((node) => {
  if (!app.nodeOutputs[node.id]?.images?.length) return true
  const video = node.videoContainer?.querySelector("video")
  return video ? video.readyState >= 2 : node.imgs?.length && node.imgs.every((image) => image.complete)
})"""

_FIT = """([marginLeft, marginTop, margin]) => {
  const { ds, canvas } = app.canvas
  const boxes = app.graph.nodes.map((node) => node.boundingRect)
  const left = Math.min(...boxes.map(([x]) => x)), top = Math.min(...boxes.map(([, y]) => y))
  const width = Math.max(...boxes.map(([x, , w]) => x + w)) - left
  const height = Math.max(...boxes.map(([, y, , h]) => y + h)) - top
  const freeWidth = canvas.clientWidth - marginLeft - margin, freeHeight = canvas.clientHeight - marginTop - margin
  ds.scale = Math.min(freeWidth / width, freeHeight / height)
  ds.offset[0] = (marginLeft + (freeWidth - width * ds.scale) / 2) / ds.scale - left
  ds.offset[1] = (marginTop + (freeHeight - height * ds.scale) / 2) / ds.scale - top
}"""

_DRAW = """() => new Promise((done) => {
  app.canvas.setDirty(true, true)
  requestAnimationFrame(() => requestAnimationFrame(done))
})"""

# x, y, width, height in canvas units, the title bar included.
_BOXES = """() => Object.fromEntries(
  app.graph.nodes.map((node) => [`${node.title} (${node.id})`, [...node.boundingRect]])
)"""

_CLIENT_BOX = """(title) => {
  const node = app.graph.nodes.find((node) => node.title === title)
  if (!node) throw new Error(`no node titled ${title}`)
  const { ds, canvas } = app.canvas, { left, top } = canvas.getBoundingClientRect()
  return {
    x: left + (node.pos[0] + ds.offset[0]) * ds.scale, y: top + (node.pos[1] + ds.offset[1]) * ds.scale,
    width: node.size[0] * ds.scale, height: node.size[1] * ds.scale,
  }
}"""

_STATUS = """(type) => app.graph.nodes.filter((node) => node.type === type)
  .flatMap((node) => node.widgets ?? []).find((widget) => widget.type === "progressText")?.value ?? "" """

# A second copy of a workflow gets a number behind its name.
_LOADED = """([before, name]) => {
  const { path, filename } = app.extensionManager.workflow.activeWorkflow ?? {}
  return path !== before && filename?.startsWith(name) && app.graph.nodes.length > 0
}"""

_SHOWS = """(text) => [...document.querySelectorAll("textarea")]
  .some((field) => field.value.includes(text) && field.checkVisibility())"""


class PageError(RuntimeError):
    """There is no browser, or a run in the page did not succeed."""


def chromium() -> str | None:
    """Path of the system's Chromium, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One tab on a running ComfyUI. width, height: of the window, in pixels.

    Raises PageError where there is no Chromium. Whatever the page does not show in time is Playwright's TimeoutError.
    """

    def __init__(self, address: str, width: int = 1920, height: int = 1120):
        self._address, self._size = address, {"width": width, "height": height}

    def __enter__(self) -> "Page":
        executable = chromium()
        if executable is None:
            raise PageError(f"page: Chromium must be installed, got none; {REMEDY}")
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=executable)
        self.tab = self._browser.new_page(viewport=self._size)
        self.tab.set_default_timeout(START_SECONDS * 1000)
        # A first visit is greeted by the template browser; without this it opens whenever it is ready.
        self.tab.request.post(f"{self._address}/api/settings/Comfy.TutorialCompleted", data="true")
        for name, value in PLAIN_CANVAS.items():
            self.tab.request.post(f"{self._address}/api/settings/{name}", data=str(value).lower())
        self.tab.goto(self._address)
        self.tab.wait_for_function("window.app?.extensionManager?.workflow?.activeWorkflow")
        return self

    def __exit__(self, *_) -> None:
        self._browser.close()
        self._playwright.stop()

    def template_card(self, pack: str, name: str) -> Locator:
        """A workflow's card in the template browser, opened by click. pack: its folder's name in custom_nodes."""
        self.tab.get_by_role("button", name="Templates").click()
        self.tab.get_by_role("dialog").get_by_role("button", name=pack, exact=True).click()
        return self.tab.get_by_test_id(f"template-workflow-{name}")

    def open_template(self, pack: str, name: str) -> None:
        """Load a workflow by clicking its card in the template browser, and make it fill the window."""
        before = self.tab.evaluate("() => app.extensionManager.workflow.activeWorkflow?.path")
        self.template_card(pack, name).click()
        self.tab.wait_for_function(_LOADED, arg=[before, name])
        self.fit()

    def set_widgets(self, node_type: str, **values) -> None:
        """Set widgets of every node of a type in the loaded graph."""
        self.tab.evaluate(_SET_WIDGETS, [node_type, values])

    def run(self, seconds: float) -> None:
        """Click Run and wait for the end, at most `seconds`. Raises PageError with ComfyUI's message if it fails."""
        self.tab.evaluate(_WATCH_RUN)
        self.tab.get_by_test_id("queue-button").click()
        self.tab.wait_for_function("() => window.jengaRun", timeout=seconds * 1000)
        result = self.tab.evaluate("() => window.jengaRun")
        if result["kind"] != "execution_success":
            detail = result["detail"]
            raise PageError(f"page: the run must succeed, got {detail.get('exception_message', result['kind'])}")
        self.tab.wait_for_function(_PREVIEWS_LOADED, timeout=PREVIEW_SECONDS * 1000)
        self.tab.get_by_text("Job completed").wait_for()
        self.tab.get_by_text("Job completed").wait_for(state="hidden")  # it lies over the graph
        self.fit()

    def fit(self) -> None:
        """Zoom so that the whole graph is in view, beside the page's menus."""
        self._draw()  # a node takes the size of its pictures when it is drawn
        self.tab.evaluate(_FIT, MARGINS)
        self._draw()

    def _draw(self) -> None:
        self.tab.evaluate(_DRAW)

    def boxes(self) -> dict[str, list[float]]:
        """x, y, width and height of every node in canvas units, title bar included, by `title (id)`."""
        return self.tab.evaluate(_BOXES)

    def status(self, node_type: str) -> str:
        """The line of text that a node of this type shows; empty if it shows none."""
        return self.tab.evaluate(_STATUS, node_type)

    def marked(self) -> set[str]:
        """Types of the nodes that the page marks as faulty."""
        return set(self.tab.evaluate("() => app.graph.nodes.filter((node) => node.has_errors).map(({ type }) => type)"))

    def shows(self, text: str) -> bool:
        """Whether `text` is in a text field that is in view."""
        return self.tab.evaluate(_SHOWS, text)

    def screenshot(self, title: str | None = None) -> Image.Image:
        """The window, or the body of the node with this title, as it is on the screen."""
        clip = None if title is None else self.tab.evaluate(_CLIENT_BOX, title)
        return Image.open(io.BytesIO(self.tab.screenshot(clip=clip))).convert("RGB")
