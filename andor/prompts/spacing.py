"""Whether a space stands between a text and the word that comes next. NumPy-free, from Unicode's own properties."""

import re
import unicodedata

# Scripts without spaces between words that Unicode's East Asian Width does not tell, by the beginning of their names.
_UNSPACED = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "TAI ", "NEW TAI", "AHOM", "JAVANESE", "BALINESE")


def continuation(text: str, target: str) -> str:
    """The exact text that follows `text` when a person names `target` as what comes next.

    A target that starts with a letter or digit is the next *word*, so a space comes before it: "sentiment:" and
    "positive" give " positive". Any other target (punctuation, a sign, whitespace) is taken exactly. By the end of the
    text and the beginning of the target there is no space

    - after whitespace, and after what joins by its nature: a zero-width joiner or space, a soft hyphen, "_" (a blank
      "___" is a word);
    - after an opening sign: an opening bracket or quote of any script, "¿", "¡"; a straight quote, a backtick or "**"
      that opens (its number on the line is odd); "@", "\\\\", "~"; "#" but for "C#"; a currency sign that stands
      behind no number;
    - after an apostrophe that elides ("l'", "qu'", "O'"), but after a closing quote or a plural ("the dogs'") there is;
    - after a dash, "/", "&", "*", "|" or a sign of mathematics with no space before it: such a sign is spaced on both
      sides or on neither ("well-" + "known", "A/" + "B", "x=" + "1", but "the —" + " end"). A sign with nothing to its
      left but an opening sign, an operator or the line's beginning belongs to the number after it ("x = -" + "1");
    - after "::", and after a dot inside a number ("3." + "14"), of a name with more dots or signs in it ("os.path.",
      "https://example.", "f(x)."; "e.g." and "U.S." are abbreviations), or of a word in code: an indented line, a line
      with "=" or "`", a text with a line that ends in "{" or ";" (before a capital letter only if the word begins the
      line or stands behind "=", ",", "`" or an opening bracket). Elsewhere a dot ends a sentence;
    - where the text ends or the target begins in a script without spaces: ideographs, kana, full-width letters,
      digits and signs; and where the target begins in Thai, Lao, Khmer, Burmese, Tibetan or their like.

    Where usage differs one is chosen: a colon is followed by a space also between digits, a dash behind a space stands
    by itself, Hangul is spaced. `Prompt(exact=True)` takes the target to the character.
    """
    first = target[:1]
    joined = not first.isalnum() or not text or text[-1].isspace() or _is_unspaced(first) or _is_wide(_bare_end(text))
    return target if joined or _goes_on(text, target) else f" {target}"


def is_unspaced(character: str) -> bool:
    """Whether a letter is of a script that is written without spaces between words."""
    return character.isalpha() and _is_unspaced(character)


def _is_unspaced(character: str) -> bool:
    return _is_wide(character) or unicodedata.name(character, "").startswith(_UNSPACED)


def _is_wide(character: str) -> bool:
    """Ideographs, kana, full-width letters and signs, and the punctuation among them; not Hangul, not emoji."""
    name = unicodedata.name(character, "") if character else ""
    wide = unicodedata.east_asian_width(character or " ") in "WF" or name.startswith("HALFWIDTH")
    return wide and "HANGUL" not in name and unicodedata.category(character) not in ("So", "Sk", "Cn")


def _bare_end(text: str) -> str:
    """Last character, through closing quotes and brackets, which take sides with what they close."""
    return text.rstrip("”’»)]}\"'…—")[-1:]


def _goes_on(text: str, target: str) -> bool:
    """Whether what comes next stands without a space, by the signs at the end of the text."""
    line = text.rsplit("\n", 1)[-1]
    last, before = line[-1:], line[:-1]
    kind, behind_space = unicodedata.category(last or "\n"), not before or before[-1].isspace()
    if kind == "Pc":
        return not re.search(r"(^|\W)_{3,}$", line)
    if last in "\u200b\u200c\u200d\u2060\xad¿¡@\\~" or kind == "Ps":
        return True
    if last == "“" and "„" in before:  # „German quotes“
        return before.rfind("„") < before.rfind("“")
    if kind == "Pi":
        return True
    if last in '"`' or line.endswith("**"):
        return line.count("**" if last == "*" else last) % 2 == 1
    if last in "'’":
        return behind_space or (not before[-1].isalnum() and _opens(before)) or _elides(line)
    if last == "#":
        return not before[-1:].isalpha()
    if kind == "Sc":
        return not before.rstrip()[-1:].isdigit()
    if last == ".":
        return _dot_goes_on(text, line, target)
    if line.endswith("++"):
        return False
    if kind in ("Pd", "Sm") or last in "/&*|^":
        before = re.sub(r"[-–—+−*/=<>&|^~]+$", "", line) or before
        if before and not before[-1].isspace():
            return True
        left = before.rstrip()[-1:]
        unary = last in "+-−±" and target[:1].isdigit() and not (left.isalnum() or left in list(")]}\"'%"))
        return unary or (last == "<" and not left)
    return line.endswith("::")


def _opens(before: str) -> bool:
    return unicodedata.category(before[-1]) in ("Ps", "Pi", "Sm", "Po", "Sc") and before[-1] not in ".,!?;%"


def _elides(line: str) -> bool:
    """Whether the apostrophe at the end of a line stands for letters of the word that follows it."""
    opened = re.search(r"(^|[\s(\[{])['‘][^'’]*['’]$", line)  # 'a quote'
    word = re.search(r"\w*$", line[:-1])[0]
    return not opened and (len(word) <= 2 or not word.lower().endswith(("s", "x", "z")))  # s'il, but dogs' tails


def _dot_goes_on(text: str, line: str, target: str) -> bool:
    word = re.search(r"\S*$", line)[0][:-1]
    if not word or word.endswith("."):  # a tokenised sentence, an ellipsis
        return False
    if word[-1].isdigit() and word.lstrip("+-−$€£¥").replace(",", "").isdigit():
        return target[:1].isdigit()
    if re.fullmatch(r"\(?(\w\.)*\w", word):  # e.g. U.S. a.m., or a letter by itself
        return len(word) == 1 and _is_code(text, line)
    if target[:1].isupper() and not re.search(r"(^|[=(\[,`])\s*[\w.]+$", line[:-1]):  # a sentence may begin here
        return False
    in_a_name = re.search(r"\w[(\[]|[/@_=\\]|[\w)\]]\.\w", word)
    return bool(in_a_name) or (word[-1] not in "\"'”’" and _is_code(text, line))


def _is_code(text: str, line: str) -> bool:
    indented = line[:1] in (" ", "\t") and "\n" in text
    return indented or "=" in line or line.count("`") % 2 == 1 or bool(re.search(r"[{;]\s*\n", text))
