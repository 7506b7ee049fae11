// What a Jenga node shows first is its dial. Folded away are its advanced widgets at their defaults, and those that do
// nothing at the present setting; "Show Advanced" of the node (its menu, or its button) unfolds them. Order and values
// of widgets stay as they are, so that saved workflows do; without this file all widgets are in view.
import { app } from "../../../scripts/app.js"

const SHOWN = "jenga_shown_with" // of an input: { other widget: values of it at which this one counts }

function specsOf(node) {
  const { required, optional } = node.constructor.nodeData?.input ?? {}
  return { ...required, ...optional }
}

// Whether the widget of that name has one of these values, or may have: its value comes by a link.
function mayHave(node, name, values) {
  const linked = node.inputs?.some((input) => input.widget?.name === name && input.link != null)
  return linked || values.includes(node.widgets.find((widget) => widget.name === name)?.value)
}

function isFolded(node, widget, options) {
  const conditions = Object.entries(options[SHOWN] ?? {})
  if (conditions.length) return !conditions.every(([name, values]) => mayHave(node, name, values))
  return options.default === undefined || widget.value === options.default
}

function fold(node) {
  const specs = specsOf(node)
  for (const widget of node.widgets ?? []) {
    const options = specs[widget.name]?.[1]
    if (!options?.advanced) continue
    const folded = isFolded(node, widget, options)
    widget.options.advanced = folded // nodes of HTML fold by that
    widget.advanced = folded // nodes on the canvas offer "Show Advanced" for that, but leave a gap, so:
    widget.hidden = folded && !node.showAdvanced && !app.extensionManager?.setting?.get("Comfy.VueNodes.Enabled")
  }
  node.setDirtyCanvas?.(true, true)
}

function foldOnChange(node) {
  const toggle = node.toggleAdvanced // of nodes on the canvas alone
  node.toggleAdvanced = function () {
    toggle?.call(this)
    fold(this)
    this.expandToFitContent?.()
  }
  const deciding = new Set(Object.values(specsOf(node)).flatMap(([, options]) => Object.keys(options?.[SHOWN] ?? {})))
  for (const widget of node.widgets.filter(({ name }) => deciding.has(name))) {
    const callback = widget.callback
    widget.callback = function (...values) {
      const result = callback?.apply(this, values)
      fold(node)
      node.expandToFitContent?.()
      return result
    }
  }
  const configured = node.onConfigure
  node.onConfigure = function (...values) {
    const result = configured?.apply(this, values)
    fold(this)
    return result
  }
}

app.registerExtension({
  name: "jenga.fold",
  nodeCreated(node) {
    const folds = Object.values(specsOf(node)).some(([, options]) => options?.advanced)
    if (!node.comfyClass?.startsWith("Jenga") || !node.widgets || !folds) return
    foldOnChange(node)
    fold(node)
    node.setSize([node.size[0], node.computeSize()[1]])
  },
})
