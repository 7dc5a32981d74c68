import sys
import unicodedata

import pytest

from andor.prompts import Prompt, continuation

TOGETHER = [
    # code
    ("x = np.", "array"),
    ("class A:\n    def __init__(self, name):\n        self.", "name"),
    ("int main() {\n  x.", "y"),
    ("x = nn.", "Linear"),
    ("import os.path.", "join"),
    ("foo.bar.", "baz"),
    ("f(x).", "y"),
    ("call `", "main"),
    ("def get_", "name"),
    ("self.__", "init"),
    ("std::", "vector"),
    ("p->", "next"),
    ("print('", "x"),
    ("x='", "a"),
    ('d["', "key"),
    ("a **", "bold"),
    ("<", "div"),
    ("<b>", "bold"),
    ("cd ~", "x"),
    ("import numpy as np\nnp.", "array"),
    ("import os, sys\nos.", "path"),
    ("import torch\ntorch.", "nn"),
    ("from torch import nn\nnn.", "Linear"),
    ("from torch import nn as n, optim\noptim.", "Adam"),
    ("from a.b import (\n  c,\n)\nc.", "d"),
    ("```py\nimport os\nos.", "path"),
    ("```\nnp.", "array"),
    ("Use it:\n```python\nx = 1\nnp.", "array"),
    (">>> np.", "array"),
    (">>> import os\n>>> os.", "path"),
    (">>> return_ = np.", "array"),
    ("self.", "x"),
    ("return self.", "x"),
    ("if not self.", "x"),
    ("await this.", "x"),
    ("this.", "x"),
    ("self.", "Name"),
    ("www.", "google"),
    ("Visit www.", "google"),
    ("#include <", "stdio"),
    ("#include <vector>\nstd::x.", "y"),
    ("# include <", "stdio"),
    ("def f(x):\n    return x.", "y"),
    ("def f(x):\n    return nn.", "Linear"),
    ("class A(nn.", "Module"),
    ("class A:\nA.", "x"),
    ('import "fmt"\nfmt.', "Println"),
    ("import React from 'react'\nReact.", "useState"),
    ("#!/bin/sh\n./x.", "sh"),
    ("int x;\nx.", "y"),
    ("x++;\nfoo.", "bar"),
    ("#include <a>\nfoo.", "bar"),
    ("x = 1 if np.", "any"),
    ("192.168.", "1"),
    ("a.com/index.", "html"),
    ("src/main.", "rs"),
    ("bob@example.", "com"),
    ("version 2.0.", "1"),
    ("3.14.", "15"),
    ("```py\nx\n```\nimport os\nos.", "path"),
    ("async def f():\n    await asyncio.", "sleep"),
    # addresses
    ("visit https://example.", "com"),
    ("visit www.example.", "com"),
    ("https://", "example"),
    ("mail me@", "home"),
    ("I use #", "hashtags"),
    # numbers, currency, signs
    ("It only costs $", "5"),
    ("pi is 3.", "14"),
    ("x = -", "1"),
    ("2+2=", "4"),
    ("5-", "3"),
    ("the ratio A/", "B"),
    ("AT&", "T"),
    # joined words
    ("a well-", "known"),
    ("well—", "known"),
    ("c'est l'", "homme"),
    ("l'amour et l'", "amitié"),
    ("qu'", "il"),
    ("s'", "il"),
    ("dell'", "arte"),
    ("l’", "homme"),
    ("O'", "Brien"),
    ("می\u200c", "خواهم"),
    # quotes
    ('she said, "', "Mom"),
    ("it says '", "Yes"),
    ("„", "gut"),
    ("¿", "Qué"),
    ("¡", "Hola"),
    # scripts without spaces
    ("答案：", "A"),
    ("答案（A）", "B"),
    ("一共有", "3"),
    ("今天天气很", "好"),
    ("他说：“", "好"),
    ("他说“好”", "吗"),
    ("これは", "ペン"),
    ("Ｑ：", "はい"),
    ("ｱｲ", "ｳ"),
    ("￥", "5"),
    ("หนัง", "สนุก"),
    ("ពាក្យ", "ល្អ"),
]

APART = [
    ("sentiment:", "positive"),
    ("Sentiment :", "yes"),
    ("at 10:", "30"),
    ("named", "Lily"),
    ("won", "2"),
    # ends of sentences and abbreviations
    ("The film is good.", "It"),
    ("it is good.", "it"),
    ("the film(s).", "It"),
    ("good and/or bad.", "The"),
    ("with x = 5 all is good.", "The"),
    ("see www.example.com.", "It"),
    ("the film is good .", "it"),
    ("I have 5.", "The"),
    ("(It is good.)", "Yes"),
    ("wait...", "what"),
    ("see e.g.", "the"),
    ("the U.S.", "army"),
    ("Mr.", "Smith"),
    # numbers, addresses and files that end a sentence; prose with words of code
    ("pi is 3.14.", "it"),
    ("(pi is 3.14).", "it"),
    ("It costs $3.14.", "it"),
    ("We use v2.0.", "it"),
    ("x = 3.14.", "it"),
    ("Visit example.com/a.", "it"),
    ("Visit https://example.com/a.", "it"),
    ("Visit https://example.com.", "it"),
    ("Visit www.example.com.", "it"),
    ("see main.py.", "it"),
    ("Mail bob@example.com.", "it"),
    ("yes/no.", "it"),
    ("I like Node.js.", "it"),
    ("class is over. \nreturn to the house.", "it"),
    ("import duties rose.\nthe price is high.", "it"),
    ("import duties rose\nhome.", "it"),
    ("from China import taxes rose\nhome.", "it"),
    ("from home.", "it"),
    ("return home.", "it"),
    ("the class: good\nhome.", "it"),
    ("def leppard is good.\nhome.", "it"),
    ("class of 99:\nhome.", "it"),
    ("I like this.", "it"),
    ("a sense of self.", "it"),
    ("```py\nimport os\n```\nThe code is good.", "it"),
    ("```py\nimport os\n```\ngood.", "it"),
    ("import os\n# all is good.", "it"),
    ("import os\nThe film is good.", "it"),
    ("with x = 5 all is good.", "it"),
    ("the film is good;\nit is dull.", "it"),
    ("Text:\n    The film is so good.", "it"),
    ("she said: 'import it'.", "it"),
    ("a < b <", "c"),
    ("from one to <", "two"),
    # closed quotes, plurals
    ('"No"', "said"),
    ("I said: 'No'.", "Yes"),
    ("the word 'film'", "is"),
    ("rock 'n'", "roll"),
    ("the dogs'", "tails"),
    ("James'", "book"),
    ("„gut“", "ist"),
    ("»", "est"),
    ("**bold**", "text"),
    # signs that stand by themselves, or behind something
    ("the —", "end"),
    ("he left -", "she"),
    ("5 -", "3"),
    ("2 + 2 =", "4"),
    ("film =>", "le"),
    ("A /", "B"),
    ("- item, -", "another"),
    ("5 €", "more"),
    ("5€", "more"),
    ("50%", "of"),
    ("C++", "code"),
    ("C#", "code"),
    ("Answer: ___", "Paris"),
    ("i love 😍", "it"),
    ("a,", "b"),
    # scripts with spaces
    ("오늘 날씨가", "좋다"),
    ("سلام", "دنیا"),
    ("नमस्ते", "दुनिया"),
    ("ปี", "2566"),
]

EXACT = [
    ("dull", "!"),
    ("dull", "\n"),
    ("named", " Lily"),
    ("a b", "(c"),
    ("costs", "$5"),
    ("so", "😍"),
]


@pytest.mark.parametrize(("text", "target"), TOGETHER + EXACT)
def test_no_space_where_usage_has_none(text, target):
    assert continuation(text, target) == target


@pytest.mark.parametrize(("text", "target"), APART)
def test_the_next_word_has_a_space_before_it(text, target):
    assert continuation(text, target) == f" {target}"


def characters(*categories):
    found = (chr(code) for code in range(sys.maxunicode + 1))
    return [each for each in found if unicodedata.category(each) in categories]


def test_opening_signs_and_currency_of_every_script():
    assert len(characters("Ps", "Pi")) > 80 and len(characters("Sc")) > 50
    for sign in characters("Ps", "Pi"):
        assert continuation(f"he said {sign}", "yes") == "yes", sign
    for sign in characters("Sc"):
        assert continuation(f"it costs {sign}", "5") == "5", sign
        if unicodedata.east_asian_width(sign) not in "WF":  # full-width signs are set without spaces
            assert continuation(f"it costs 5 {sign}", "more") == " more", sign


def test_closing_signs_of_every_script_are_followed_by_a_space():
    narrow = [each for each in characters("Pe") if unicodedata.east_asian_width(each) not in "WF"]
    assert len(narrow) > 40
    for sign in narrow:
        assert continuation(f"(so{sign}", "yes") == " yes" or "HALFWIDTH" in unicodedata.name(sign), sign


@pytest.mark.parametrize("first", ["中", "あ", "ア", "ｱ", "Ａ", "１", "ก", "ກ", "ក", "က", "བ"])
def test_scripts_without_spaces(first):
    assert continuation("in the end", first) == first
    assert continuation(f"it is {first}", "中") == "中"


@pytest.mark.parametrize("letter", ["a", "я", "ε", "ع", "ש", "अ", "한", "ა", "ሀ", "5"])
def test_scripts_with_spaces(letter):
    assert continuation("the end", letter) == f" {letter}"
    assert continuation(letter * 2, "end") == " end"


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u3000", "\u00a0", "\u200b"])
def test_whitespace_is_there_already(space):
    assert continuation(f"the end{space}", "so") == "so"


def test_an_exact_target_is_taken_to_the_character():
    assert Prompt("a film so", ["film"], "dull").continuation == " dull"
    prompt = Prompt("a film so", ["film"], "dull", exact=True)
    assert prompt.continuation == "dull" and "exact target 'dull'" in repr(prompt)
    with pytest.raises(ValueError, match=r"Prompt\(exact=\.\.\.\) .* says how a target is meant; got True"):
        Prompt("a film so", ["film"], exact=True)
