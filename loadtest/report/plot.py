"""A plot: a figure, and words for those who can't see it. Written as SVG to be put into a page, or as PNG."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from loadtest.report.looks import COLOURS, settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
FONTS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LONG = re.compile(r"(\.\d\d)\d+")
_NAMESPACE = re.compile(r"^\{[^}]*\}")
_WITHIN = re.compile(r"url\(#")
_FONT = re.compile(r"'DejaVu Sans'[^;]*")


@dataclass(frozen=True, slots=True)
class Plot:
    """name: unique in a report, good as a file's name. title: what it shows. words: what it says."""

    name: str
    title: str
    words: str
    figure: "Figure"


@contextmanager
def drawing() -> Iterator[None]:
    """Within, matplotlib draws as reports look. Figures are made and written inside."""
    import matplotlib

    with matplotlib.rc_context(settings()):
        yield


def svg(plot: Plot) -> str:
    """An ``svg`` element for an HTML page: titled, ids its own, colours the page's, nothing outside named."""
    root = ElementTree.fromstring(_written(plot, "svg"))
    for element in root.iter():
        element.tag = _NAMESPACE.sub("", element.tag)
        element.attrib = dict(_attribute(plot, *each) for each in element.items())
    for child in [child for child in root if child.tag == "metadata"]:
        root.remove(child)
    for group in root.iter("g"):
        _hoist(group)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": f"{plot.name}-title"}
    root.attrib["aria-describedby"] = f"{plot.name}-words"
    title = ElementTree.Element("title", {"id": f"{plot.name}-title"})
    title.text = plot.title
    root.insert(0, title)
    # As HTML, so that no element closes itself in a way that HTML parsers don't know outside of svg.
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def png(plot: Plot) -> bytes:
    return _written(plot, "png")


def _written(plot: Plot, kind: str) -> bytes:
    written = io.BytesIO()
    nobody = {"Creator": None, "Date": None, "Format": None, "Type": None} if kind == "svg" else {"Software": None}
    plot.figure.savefig(written, format=kind, dpi=72 if kind == "svg" else DOTS_PER_INCH, metadata=nobody)
    return written.getvalue()


def _attribute(plot: Plot, name: str, value: str) -> tuple[str, str]:
    name = _NAMESPACE.sub("", name)
    if name == "id":
        return name, f"{plot.name}-{value}"
    if name == "href":
        return name, f"#{plot.name}-{value.removeprefix('#')}"
    value = _WITHIN.sub(f"url(#{plot.name}-", value)
    if name == "style":
        for ink, colours in COLOURS.items():
            value = value.replace(colours.light, f"var(--{ink})")
        return name, _FONT.sub(FONTS, value)
    if name in ("d", "x", "y", "points"):
        value = " ".join(_LONG.sub(r"\1", value).split())
    return name, value


def _hoist(group: ElementTree.Element) -> None:
    """Markers of one series carry the same style each: once on their group is enough."""
    uses = [child for child in group if child.tag == "use"]
    if len(uses) > 1 and len({use.get("style") for use in uses}) == 1 and (style := uses[0].get("style")):
        group.set("style", style)
        for use in uses:
            del use.attrib["style"]
