"""Lines of text that tokenizers find hard: code, Chinese, emoji, digits, runs of white space, special tokens."""

import numpy as np

PIECES = (
    "The capital of France is Paris.",
    "def f(x: int) -> list[int]:\n    return [x ** 2 for _ in range(10)]",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] & 0xFF; }",
    "SELECT * FROM t WHERE id != 'x' AND n >= 10 -- note",
    '{"key": [1, 2.5e-3, null], "\\u00e9": "\\n"}',
    "x_1 = lambda *args, **kw: None  # TODO",
    '<div class="a">text</div><br/><table><tr><td>1</td></tr></table>',
    "https://example.org/a?b=c&d=%20#e",
    "今天天气很好，我们去公园吧。",
    "他说：“你好！”然后走了。１２３",
    "日本語のテキストとカタカナ",
    "한국어 문장입니다.",
    "Привет, мир! Ёж",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "ภาษาไทย",
    "naïve café, Ünïcödé, ﬁn, e\u0301 a\u0308 \u212b",
    "😀😂👍🏽 👩‍👩‍👧‍👦 🇫🇷 ❤️",
    "∑ αβγ ≤ ∞ ∂x/∂t √2 ½ ² Ⅷ",
    "0123456789",
    "3.14159, 1,000,000 and 2024-01-31T12:34:56",
    "1 22 333 4444 55555 666666",
    "don't I'll we've it's THEY'RE you'd",
    "camelCaseWords and snake_case_words and SCREAMING_CASE",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "....!!!???---===***",
    "\u00a0\u200b\u3000\ufeff",
    "\x00\x07\x1b[0m",
    "<|im_start|>user\nHi<|im_end|>",
    "<start_of_turn>user\nHi<end_of_turn>",
    "<s></s><unk><pad><|endoftext|><|begin_of_text|>",
    "<think>",
    " ",
    "  ",
    "   ",
    "     ",
    "\t",
    "\t\t\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n \n",
    " " * 40,
    "\n" * 35,
)


def mixed_lines(count: int, seed: int = 0) -> list[str]:
    """Texts of up to six pieces each: the first ones are every piece by itself."""
    rng = np.random.default_rng(seed)
    joints = np.array(["", "", " ", "  ", "\n", "\n\n"])
    lines = [*PIECES[:count]]
    while len(lines) < count:
        chosen = rng.choice(len(PIECES), size=rng.integers(2, 7))
        lines.append("".join(f"{PIECES[each]}{rng.choice(joints)}" for each in chosen))
    return lines
