"""How text and numbers are written for people: one rule each, in the terminal, in pictures and on the page.

`page.js` writes p and R² by the same rules.
"""

import math
import unicodedata

_HIDING = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Unicode categories whose characters cannot be seen, turn the text around them, command a terminal, or have no agreed
look."""

_SEEN = frozenset("\t\n\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
"""Characters of these categories that stay: white space, the joiners that shape words and emoji, and marks of Arabic
and Syriac that are drawn."""

_NO_CHARACTERS = frozenset("\ufffe\uffff")


def hides(character: str) -> bool:
    """Whether a character is shown by its number."""
    hiding = unicodedata.category(character) in _HIDING or character in _NO_CHARACTERS
    return hiding and character not in _SEEN


def visible(text: str) -> str:
    """Text in which nothing hides: what cannot be seen, turns the text around it or commands a terminal is written by
    its number (U+001B). Tabs and line breaks stay, a carriage return only as part of one."""
    text = text.replace("\r\n", "\n")
    return text if text.isprintable() else "".join(named(each) if hides(each) else each for each in text)


def named(character: str) -> str:
    """A character by its number."""
    return f"U+{ord(character):04X}"


def one_line(text: str, longest: int | None = None) -> str:
    """Visible text without line breaks, cut to so many characters."""
    line = " ".join(visible(text).split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def percent(p: float | None) -> str:
    """A probability in percent, with two digits; 0% or 100% only where it is."""
    if p is None or math.isnan(p):
        return "–"
    if p in (0, 1):
        return f"{p:.0%}"
    if p < 1e-5:
        return "<0.001%"
    if p >= 0.9995:
        return ">99.9%"
    if p >= 0.99:
        return f"{100 * p:.1f}%"
    return f"{100 * p:#.2g}".rstrip(".") + "%"


def r2_text(r2: float | None) -> str:
    """R² with three digits, never rounded up to 1."""
    if r2 is None or math.isnan(r2):
        return "–"
    return f"{0.999 if 0.9995 <= r2 < 1 - 1e-9 else r2:.3f}".replace("-", "\N{MINUS SIGN}")
