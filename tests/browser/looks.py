"""What is wrong with a page: found by axe in the light and in the dark, and by its width on a narrow screen."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: All that axe finds in the light, and what depends on the colours in the dark. The page keeps the promise of it.
#: Of what a template repeats, the first few are looked at.
AXE = """() => {
  const told = (found) => found.violations.map((one) => [one.id, one.nodes[0].html]);
  const repeated = ["tbody tr:nth-child(n+5)", "ol.story li:nth-child(n+5)", "ul.tree ul ul ul ul"];
  window.found = axe.run({exclude: repeated.map((one) => [one])}, {resultTypes: ["violations"]}).then(told);
}"""
AXE_COLOURS = AXE.replace("{resultTypes:", "{runOnly: ['color-contrast'], resultTypes:")


def looked_at(shown: "Mapping[str, Page]") -> dict[str, Any]:
    """What is wrong with the pages that are open, by their names."""
    from axe_playwright_python.base import AXE_SCRIPT

    found: dict[str, Any] = {}
    for page in shown.values():
        page.evaluate(AXE_SCRIPT)
        page.evaluate(AXE)
    for path, page in shown.items():
        found[path] = page.evaluate("window.found")
        page.emulate_media(color_scheme="dark")
        page.evaluate(AXE_COLOURS)
    for path, page in shown.items():
        found[f"{path} in the dark"] = page.evaluate("window.found")
        page.emulate_media(color_scheme="light")
        wide = page.viewport_size
        page.set_viewport_size({"width": 320, "height": 640})
        width = page.evaluate("document.documentElement.scrollWidth")
        found[f"{path} on a narrow screen"] = [] if width <= 320 else [f"{width} pixels"]
        if wide is not None:
            page.set_viewport_size(wide)
    return {where: wrong for where, wrong in found.items() if wrong}
