"""Whether a space stands between a text and the word that comes next. NumPy-free, from Unicode's own properties."""

import re
import unicodedata

_NAMES = r"[\w.]+(\ as\ \w+)? (,\ *[\w.]+(\ as\ \w+)?)*"
_LINE_OF_CODE = re.compile(
    rf"""\{{\s*$ | [=({{[<>"+].*;\s*$ | ^\s*(auto|bool|char|double|float|int|let|long|package|use|using|var)\ .*;\s*$
        | ^\s* (import\ {_NAMES} | from\ [\w.]+\ import\ (\(|\*|{_NAMES})) \s*(\#.*)?$ | ^\s*import\ .*["']
        | ^\s* ((async\ )?def\ \w+\( | class\ \w+(\(.*\))?:\s*$ | >>> | \#\ *include\b | \#!)""",
    re.MULTILINE | re.VERBOSE,
)
_KEYWORD = "and|assert|await|del|elif|else|for|from|if|import|in|lambda|new|not|or|raise|return|throw|while|with|yield"
_SENTENCE = re.compile(
    rf"\s* ([A-Z][a-z']*\ [a-z']+\ [a-z']+\b | \#\s | // | (.*[\s,])?(?!({_KEYWORD})\ )[A-Za-z']+\ \S+\.$)", re.VERBOSE
)
_OWN = re.compile(r"\s*(>>> *)?(((return|yield|await|if|elif|while|not) )*(self|cls)|((return|await) )?this)\.")
_BEFORE_A_NAME = re.compile(r"(^|[=(\[{,`:]|>>>|\b(return|yield|await|raise|import|from) )\s*[\w.]+$")
# How names of files and addresses end.
_FILE_ENDINGS = frozenset(
    "com org net edu gov io html htm php asp pdf txt md doc docx csv json xml yaml yml py js ts rs go c h cpp java rb "
    "sh ipynb png jpg jpeg gif svg mp3 mp4 zip gz tar exe".split()
)

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
    - after "::" and "#include <";
    - after a dot of a number, before a digit ("3." + "14"); before a letter it ends a sentence, as in "pi is 3.14.";
    - after a dot of a name with more dots or signs in it ("os.path.", "https://example.", "f(x)."), unless the name
      ends as files and addresses do ("main.py.", "example.com."); behind a "/" only such an ending goes on
      ("a.com/index." + "html"). "e.g." and "U.S." are abbreviations;
    - after a dot of "www", and of "self", "cls" or "this" that begins a line, perhaps after a keyword ("return self.");
    - after a dot of any word in code, which is an indented line; a line with "=" or an open "`"; a text with an open
      "```"; or one with a line, outside closed "```", that ends in "{", or in ";" behind a sign of code, or begins as
      only code does: "import a, b", "from a import b", "def f(", "class A:", ">>>", "#include", "#!". No code is a line
      that reads as a sentence ("The film is", or "so good.": a word before the last one that is no keyword) or comment.

    Before a capital letter, a name and code go on only where the word begins the line or stands behind "=", ",", "`",
    ":", an opening bracket, "return" or the like. Elsewhere a dot ends a sentence. There is no space either

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
        return unary or (last == "<" and (not left or line.split() in (["#include", "<"], ["#", "include", "<"])))
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
    if re.fullmatch(r"[^\w\s]*[\d.,]*\d", word):
        return target[:1].isdigit()
    if word.lower() == "www" or _OWN.fullmatch(line):
        return True
    code = _is_code(text, line)
    if re.fullmatch(r"\(?(\w\.)*\w", word):  # e.g. U.S. a.m., or a letter by itself
        return len(word) == 1 and code
    if target[:1].isupper() and not _BEFORE_A_NAME.search(line):  # a sentence may begin here
        return False
    if code and word[-1] not in "\"'”’":
        return True
    is_file = re.search(r"/|\w\.\w", word) and not re.search(r"[(\[]", word)
    if is_file and word.rsplit(".", 1)[-1].lower() in _FILE_ENDINGS:
        return False
    if "/" in word.partition("://")[2] or ("/" in word and "://" not in word):
        return re.match(r"\w*", target)[0].lower() in _FILE_ENDINGS
    return bool(re.search(r"\w[(\[]|[/@_=\\]|[\w)\]]\.[^\W\d]", word))


def _is_code(text: str, line: str) -> bool:
    fences = re.split(r"^\s*```.*$", text, flags=re.MULTILINE)
    if _SENTENCE.match(line):
        return False
    if len(fences) % 2 == 0 or (line[:1] in (" ", "\t") and "\n" in text) or "=" in line or line.count("`") % 2 == 1:
        return True
    outside = "\n".join(fences[::2])
    return bool(_LINE_OF_CODE.search(outside))
