"""Figures as SVG inside an HTML page: text stays text, no inline styles (a policy may forbid them), few bytes."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from andor.figures import rendered

_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_KNOWN = {f"{_SVG}{each}" for each in ("svg", "g", "defs", "clipPath", "rect", "path", "use", "image", "text", "tspan")}
_NEAR = 0.3  # points: less than a thin line is thick
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"(^|url\()#([\w-]+)")


def inline(figure: Figure | bytes, name: str, described: str) -> str:
    """A figure as an <svg> element for HTML.

    Args:
      figure: drawn; or as `andor.figures.rendered` gives it, as SVG with its text. Text goes in escaped.
      name: begins every id, so that figures of one page do not meet.
      described: what it shows, for those who do not see it.

    Raises:
      ValueError: what was rendered is no SVG, has its letters drawn, which takes much more room, or holds more than
        figures do, such as a script or a link.
    """
    svg = figure if isinstance(figure, bytes) else rendered(figure, ("svg",), text=True)["svg"]
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"figure {name} is no SVG: {error}.") from error
    for each in list(root.iter()):
        _plain(each)
    elements = list(root.iter())
    if not any(each.tag == f"{_SVG}text" for each in elements):
        raise ValueError(f"figure {name} has no text.")
    for each in elements:
        leads = each.get("href", "#").startswith(("#", "data:image/png;base64,"))
        if each.tag not in _KNOWN or not leads or any(key.startswith("on") for key in each.attrib):
            raise ValueError(f"figure {name} holds <{each.tag.rpartition('}')[2]}>, which is not of a figure.")
    named = {each.get("id"): each for each in elements if each.get("id")}
    used = {ref: None for each in elements for value in each.attrib.values() for _, ref in _REFERENCE.findall(value)}
    used = {ref: f"{name}{place}" for place, ref in enumerate(each for each in used if each in named)}
    for each in elements:
        target = named.get(each.get("href", "").lstrip("#"))
        if target is not None:  # what the target says of itself
            for key in set(each.attrib) & set(target.attrib) - {"id"}:
                del each.attrib[key]
    for each in elements:
        _rename(each, used)
    _unwrap(root)
    _gather(root)
    root.attrib.pop("version", None)
    root.attrib |= {"role": "img", "aria-label": described, "font-family": "DejaVu Sans, Verdana, sans-serif"}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # what the style element said of all
    ElementTree.register_namespace("", _SVG.strip("{}"))
    return ElementTree.tostring(root, encoding="unicode")


def _plain(element: ElementTree.Element) -> None:
    """Styles become attributes, coordinates get a tenth of a point; no metadata, no white space."""
    for child in list(element):
        if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
            element.remove(child)
    element.text, element.tail = ((part or "").strip() or None for part in (element.text, element.tail))
    if _HREF in element.attrib:
        element.set("href", element.attrib.pop(_HREF))
    for setting in element.attrib.pop("style", "").split("; "):
        key, _, value = setting.partition(": ")
        if key == "font":  # the shorthand is no attribute
            weight, size = re.match(r"(?:(bold|\d+) )?(?:.*? )?([\d.]+)px", value).groups()
            element.attrib |= {"font-size": size} | ({"font-weight": weight} if weight else {})
        elif key and key != "font-family":
            element.set(key, value)
    for key, value in list(element.attrib.items()):
        if key == "d":
            element.set(key, _path(value))
        elif key in ("x", "y"):
            element.set(key, f"{float(value):.1f}".removesuffix(".0"))
        elif key == "transform" and re.fullmatch(r"rotate\(-?0 [-\d. ]+\)", value):
            del element.attrib[key]
        elif key == "transform":
            element.set(key, _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value))


def _rename(element: ElementTree.Element, used: dict[str, str]) -> None:
    """Short ids for what is referred to, and none for the rest."""
    name = used.get(element.attrib.pop("id", ""))
    for key, value in element.attrib.items():
        element.set(key, _REFERENCE.sub(lambda found: f"{found[1]}#{used.get(found[2], found[2])}", value))
    if name:
        element.set("id", name)


def _unwrap(element: ElementTree.Element) -> None:
    """Groups that say nothing give way to what they hold."""
    children = []
    for child in element:
        _unwrap(child)
        children += list(child) if child.tag == f"{_SVG}g" and not child.attrib else [child]
    element[:] = children


def _gather(element: ElementTree.Element) -> None:
    """Neighbours that look the same say so once, in a group around them."""
    own = {"d", "x", "y", "href", "id", "transform"}
    children: list[ElementTree.Element] = []
    for looks, run in itertools.groupby(element, lambda each: {k: v for k, v in each.attrib.items() if k not in own}):
        run = list(run)
        for child in run:
            _gather(child)
        # Opacity of a group is not that of its parts, and what is clipped is clipped where it is moved to.
        moved = any("transform" in each.attrib for each in run)
        if len(run) < 2 or not looks or "opacity" in looks or (moved and "clip-path" in looks):
            children += run
            continue
        group = ElementTree.Element(f"{_SVG}g", looks)
        for child in run:
            child.attrib = {k: v for k, v in child.attrib.items() if k in own}
        group[:] = run
        children.append(group)
    element[:] = children


def _path(path: str) -> str:
    """The same path where it has curves; one of lines without points that are within `_NEAR` of it, and relative."""
    commands = re.findall(r"([MLz])\s*(?:(-?[\d.]+) (-?[\d.]+))?\s*", path)
    if "".join(each[0] for each in commands) != re.sub(r"[^A-Za-z]", "", path):
        return _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", " ".join(path.split()))
    parts, line = [], []
    for command, *numbers in [*commands, ("M",)]:
        if command != "L" and line:
            parts.append(_polyline(np.array(line)))
            line = []
        if command == "z":
            parts.append("z")
        elif numbers:
            line.append([float(each) for each in numbers])
    return "".join(parts)


def _polyline(points: Float[np.ndarray, "points 2"]) -> str:
    tenths = np.rint(10 * points[_corners(points)]).astype(int)
    steps = np.diff(tenths, axis=0)
    start = "M" + " ".join(map(_tenth, tenths[0].tolist()))
    return start + "".join(f"l{_tenth(x)} {_tenth(y)}".replace(" -", "-") for x, y in steps.tolist() if x or y)


def _corners(points: Float[np.ndarray, "points 2"]) -> list[int]:
    """Places of the points that a line needs to stay within `_NEAR` (Ramer, Douglas and Peucker)."""
    kept, pending = {0, len(points) - 1}, [(0, len(points) - 1)]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        chord, rest = points[last] - points[first], points[first + 1 : last] - points[first]
        length = np.hypot(*chord)
        away = np.abs(chord[0] * rest[:, 1] - chord[1] * rest[:, 0]) / length if length else np.hypot(*rest.T)
        worst = int(away.argmax())
        if away[worst] > _NEAR:
            kept.add(first + 1 + worst)
            pending += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return sorted(kept)


def _tenth(tenths: int) -> str:
    text = f"{tenths / 10:g}"
    return text.replace("0.", ".", 1) if abs(tenths) < 10 else text
