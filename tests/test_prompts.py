import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from andor.prompts import (
    DEFAULT_PROMPTS,
    NO_TOKEN,
    Prompt,
    baseline_id,
    chat_template,
    continuation,
    in_chat,
    joined,
    player_table,
    read_mask,
    read_prompts,
    remarks,
    tokenize,
)

SENTENCES = [
    "the film is not good , but it is never dull .\nsentiment: positive",
    "a film so dull that the film is not a film .\nsentiment: negative",
    "Lily likes New York. Lily plays in New York every day, playing with Lily's cat.",
    "New York New York New York, the film",
]


def byte_bpe(*, specials=("<mask>", "<pad>"), bos=None, eos=None, split_words=True, **names):
    """A small byte-level BPE tokenizer as Hugging Face serves it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split_words)
    core.decoder = decoders.ByteLevel()
    extra = [token for token in (bos, eos) if token]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[*specials, *extra],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    before, after = (f"{bos} " if bos else ""), (f" {eos}" if eos else "")
    if extra:
        core.post_processor = processors.TemplateProcessing(
            single=f"{before}$A{after}", special_tokens=[(token, core.token_to_id(token)) for token in extra]
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_bpe(bos="<s>", mask_token="<mask>", pad_token="<pad>", bos_token="<s>")


@pytest.fixture(scope="module")
def merging_tokenizer():
    """No word borders: "New York" is one token."""
    return byte_bpe(split_words=False, mask_token="<mask>")


def decode(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


# Players of a text.


def test_players_by_name_are_spans_in_text_order():
    prompt = Prompt("the film is not good , but never dull .", players=["film", "not", "good", "never dull"])
    assert prompt.words == ("film", "not", "good", "never dull")
    assert prompt.n_players == 4
    assert prompt.players[0] == (4, 8)
    assert prompt == Prompt(prompt.text, players=prompt.players)
    assert hash(prompt) == hash(Prompt(prompt.text, players=[list(span) for span in reversed(prompt.players)]))


def test_a_repeated_word_is_its_next_occurrence():
    text = "not this, not that, not ever"
    assert [start for start, _ in Prompt(text, players=["not", "not", "not"]).players] == [0, 10, 20]
    with pytest.raises(ValueError, match=r"'not' is not in .* after 'ever'.* occurs before"):
        Prompt(text, players=["ever", "not"])


@pytest.mark.parametrize(
    ("text", "player", "start"),
    [
        ("another film , no more", "no", 15),  # not the "no" of "another"
        ("a well-made film made me cry", "made", 17),  # not inside a compound
        ("the 2015 season. He", "season.", 9),  # punctuation may belong to a player
        ("it isn't good", "n't", 5),  # part of a word, when there is no whole one
        ("costs 1,000 or 1 coin", "1", 15),
        ("won 49–15 in the", "49–15", 4),
        ("  good", " good ", 2),
        ("今天的天气很好", "天气", 3),
    ],
)
def test_whole_words_come_before_parts_of_words(text, player, start):
    assert Prompt(text, players=[player]).players[0][0] == start


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The film is not good, but never dull. Sentiment:", "film not good but never dull"),
        ("it 's n't what i 'd call a bad film .\nsentiment:", "n't call bad film"),
        ("She doesn't know that it's Lily's cat.", "doesn't know Lily's cat"),
        ("no one cannot be too careful without a well-made plan", "no one cannot too careful without well-made plan"),
        ("good " * 5 + "bad " * 9, "good" + " bad" * 9),
        # labels
        ("Q: Is the film good?\nA:", "film good"),
        ("Review: the film is bad.\nSentiment :", "film bad"),
        ("  Text :\tso dull\nIt ends.\n", "so dull ends"),
        ("the film is bad.\n情感：", "film bad"),
        ("الف: خوب\nسؤال: بد", "خوب بد"),
        ("A. good\nB) bad\n12. dull\nAnswer:", "good bad dull"),
        ("Movie review: the plot is thin.\nSentiment label:", "plot thin"),
        ("It is dull. Sentiment label :", "dull"),
        ("Question 1: is it dull?\nSentence B: so\nStep #3:", "dull so"),
        ("**Question:** Is it dull?\n__Answer__ :", "dull"),
        ("- Review: so dull\n* Rating:", "so dull"),
        ("> [Review]: so dull\n【问题】：bad\n(Label):", "so dull bad"),
        ("### Instruction: name a film\n### Response:", "name film"),
        ("1. Question: dull film\n2. Answer:", "dull film"),
        ('"review": "dull film",\n"label":', "dull film"),
        ("The film is dull.\nAnswer (yes/no):", "film dull"),
        ("समीक्षा 1: good film\nसमीक्षा लेबल:", "good film"),
        ("<|user|>\nname a film<|assistant|>", "name film"),
        ("<|im_start|>user\nReview: film<|im_end|>\n<|im_start|>assistant\n", "film"),
        ("<s>[INST] <<SYS>>\nname\n<</SYS>>\nfilm [/INST]", "name film"),
        ("<start_of_turn>user\nfilm<end_of_turn>\n<start_of_turn>model\n", "film"),
        # what is said before a colon
        ("He said: go\nMary said: stop", "said go Mary said stop"),
        ("there is one problem: the price", "one problem price"),
        ("The problem: the price", "problem price"),
        ("No: it is not good: dull", "No not good dull"),
        ("the very long film: dull", "very long film dull"),
        ("The film (2010): dull <user|>", "film 2010 dull user"),
        ("a word\n: dull", "word dull"),
        ("at 10:30 he said: go", "10:30 said go"),
        ("ask http://a.film now", "ask http film now"),
        # zero-width joiners, emoji
        ("می\u200cخواهم بروم", "می\u200cخواهم بروم"),
        ("I love it 😍 but not the end 👎\nsentiment:", "love 😍 but not end 👎"),
        ("Good👍🏽 bad ❤️ so 😂😂 👩\u200d👧 ☹ ok", "Good 👍🏽 bad ❤️ so 😂😂 👩\u200d👧 ☹ ok"),
        ("film © → ■ 5° ₂ — “so” †", "film 5 ₂ so"),
    ],
)
def test_default_players_are_the_last_ten_content_words(text, words):
    assert Prompt(text).words == tuple(words.split())


UNSPACED = [
    ("今天的天气很好，我们去公园散步。", "今天 天气 很好 去 公园 散步"),
    ("这部电影一点也不好看", "部 电影 一点 也不 好看"),
    ("电影：这部电影不好看。\n情感：", "部 电影 不好 看"),
    ("レビュー：この映画は全然面白くない\nセンチメント：", "この 映画 全然 面白く ない"),
    # endings stay with their stems, particles and negations do not
    ("この映画はとても面白くなかった", "この 映画 とても 面白く なかった"),
    ("彼女は昨日学校へ行きました", "彼女 昨日 学校 行きました"),
    ("楽しかったです", "楽しかった"),
    ("寿司が好きではありません", "寿司 好き では ありません"),
    ("静かな町に住んでいる", "静かな 町 住んで いる"),
    ("走って帰ります", "走って 帰り"),
    ("高さが足りない", "高さ 足り ない"),
    ("หนังเรื่องนี้ไม่สนุกเลย", "หนัง เรื่อง นี้ ไม่ สนุก เลย"),
    ("ខ្ញុំចូលចិត្តភាពយន្ត", "ខ្ញុំ ចូលចិត្ត ភាពយន្ត"),
    ("the 𠮷野家 is good", "𠮷 野家 good"),
]


@pytest.mark.parametrize(("text", "words"), UNSPACED)
def test_words_without_spaces_are_told_apart(text, words):
    pytest.importorskip("icu4py")
    prompt = Prompt(text)
    assert prompt.words == tuple(words.split())
    assert prompt == Prompt(text, players=prompt.players)


@pytest.mark.parametrize(("text", "words"), UNSPACED)
def test_without_the_library_that_tells_them_apart_they_are_never_one_player(monkeypatch, text, words):
    monkeypatch.setitem(sys.modules, "icu4py.breakers", None)
    with pytest.raises(ValueError, match=r"must be named where words are written without spaces.*andor\[segment\]"):
        Prompt(text)
    chosen = words.split()[-2:]
    assert Prompt(text, players=chosen).words == tuple(chosen)
    assert Prompt(f"good {text[:1]}").words[0] == "good"  # one character is a word


@pytest.mark.parametrize(
    ("text", "players", "message"),
    [
        ("", None, r"Prompt\(text=\.\.\.\) must hold some text; got ''"),
        (" \n", None, r"must hold some text"),
        ("so \ud800 what", None, r"valid Unicode; character 3"),
        ("it is the", None, r"content word.*'it is the'.*players="),
        ("Answer:", None, r"content word.*stop words or labels"),
        ("a film", [], r"at least one player"),
        ("a film", "film", r"list of words; got the string 'film'"),
        ("a film", ["film", " "], r"got an empty one in \['film', ' '\]"),
        ("a film", ["book"], r"'book' is not in 'a film'\. Spell it"),
        ("a film", ["Film"], r"'Film' is not in 'a film'\. It occurs in another case"),
        ("a b " * 30, ["a"] * 21, r"at most 20 players.*got 21"),
        ("a film", [(2, 7)], r"<= 6, the length of the text; got \(2, 7\)"),
        ("a film", [(3, 3)], r"start < stop.*got \(3, 3\)"),
        ("a film", [(1, 2)], r"must hold words; got \(1, 2\)"),
        ("a film", [(0, 3), (2, 6)], r"must not overlap; got 'a f' \(0, 3\) and 'film' \(2, 6\)"),
        ("a film", ["film", (0, 1)], r"all strings or all .* spans; got 'film'"),
        ("a film", [(0, 1, 2)], r"got \(0, 1, 2\)"),
    ],
)
def test_bad_players_are_refused(text, players, message):
    with pytest.raises(ValueError, match=message):
        Prompt(text, players=players)


@pytest.mark.parametrize("prompt_id", ["", ".hidden", "..", "a/b", "a\\b", "a\nb", " a", "a:b", "x" * 101])
def test_ids_that_are_no_file_names_are_refused(prompt_id):
    with pytest.raises(ValueError, match=r"Prompt\(id=\.\.\.\) names files"):
        Prompt("a film", id=prompt_id)


WORDS = st.lists(st.sampled_from(["not", "no", "another", "film", "it's", "a-b", "é", "日本", "x.", "(y)"]), min_size=1)


@given(words=WORDS, data=st.data())
def test_words_chosen_in_order_are_always_found(words, data):
    text = " ".join(words)
    keep = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    chosen = tuple(word for word, kept in zip(words, keep, strict=True) if kept)[:20] or (words[0],)
    prompt = Prompt(text, players=list(chosen))
    assert prompt.words == chosen
    assert all(stop <= start for (_, stop), (start, _) in zip(prompt.players, prompt.players[1:], strict=False))


# Tokens.


def test_tokens_belong_to_players_by_offsets(tokenizer):
    prompt = Prompt("the film is not good , but it is never dull .\nsentiment:", players=["film", "not", "never dull"])
    tokenized = tokenize(prompt, tokenizer)
    assert tokenized.token_ids.dtype == tokenized.player_of_token.dtype == tokenized.target_ids.dtype == np.int32
    assert tokenized.token_ids[0] == tokenizer.bos_token_id and tokenized.player_of_token[0] == -1
    assert tokenized.target_ids.shape == (0,)
    assert tokenized.mask.token_id == tokenizer.mask_token_id
    for player, word in enumerate(prompt.words):
        assert decode(tokenizer, tokenized.token_ids[tokenized.player_of_token == player]) == f" {word}"


def test_every_byte_of_a_character_belongs_to_its_player(tokenizer):
    prompt = Prompt("a 🙂 film", players=["🙂"])
    tokenized = tokenize(prompt, tokenizer)
    mine = tokenized.token_ids[tokenized.player_of_token == 0]
    assert len(mine) >= 4 and decode(tokenizer, mine).strip() == "🙂"


def test_a_token_over_a_border_belongs_to_the_player_unless_it_has_two(merging_tokenizer):
    text = "Lily likes New York"
    assert "ĠNewĠYork" in "".join(merging_tokenizer.tokenize(text))
    shared = tokenize(Prompt(text, players=["York"]), merging_tokenizer)
    assert "New" in decode(merging_tokenizer, shared.token_ids[shared.player_of_token == 0])
    with pytest.raises(ValueError, match=r"the players 'New' and 'York' share the token '.*New York'"):
        tokenize(Prompt(text, players=["New", "York"]), merging_tokenizer)


def one_token(*words):
    """A byte-level tokenizer in which each of these words is one token."""
    core = tiny_tokenizer(400, words)
    return PreTrainedTokenizerFast(tokenizer_object=core, mask_token="<mask>")


def test_words_that_nobody_named_are_one_player_where_they_share_a_token():
    pytest.importorskip("icu4py")
    tokenizer = one_token("这部电影")
    prompt = dataclasses.replace(
        Prompt("这部电影一点也不好看"), id="zh", target="。"
    )  # a copy is still nobody's choice
    assert prompt.words == ("部", "电影", "一点", "也不", "好看")
    found = joined(prompt, tokenizer)
    assert found.words == ("部电影", "一点", "也不", "好看") and joined(found, tokenizer) == found
    assert found == Prompt(prompt.text, found.players, "。", "zh")
    assert tokenize(found, tokenizer).player_of_token.tolist().count(0) == 1
    assert remarks(found, tokenizer)[0] == (
        "nobody named its players, and '部电影' is one player of several words, since a token holds them together."
    )
    both = joined(joined(prompt, one_token("点也不好")), tokenizer)
    assert both.words == joined(found, one_token("点也不好")).words == ("部电影", "一点也不好看")
    assert "'部电影', '一点也不好看' are one player each of several words" in remarks(both, tokenizer)[0]
    assert joined(prompt, one_token("无聊")) == prompt


@pytest.mark.parametrize("named", [["部", "电影"], [(1, 2), (2, 4)], "a part of the choice"])
def test_words_that_somebody_named_are_refused_where_they_share_a_token(named):
    if isinstance(named, str):
        pytest.importorskip("icu4py")
        named = Prompt("这部电影好看").players[:2]
    tokenizer, prompt = one_token("这部电影"), Prompt("这部电影好看", players=named)
    assert joined(prompt, tokenizer) is prompt
    with pytest.raises(ValueError, match=r"'部' and '电影' share the token '这部电影'.*Make them one player"):
        tokenize(joined(prompt, tokenizer), tokenizer)


def test_a_joined_player_reaches_over_what_stands_between_its_words(merging_tokenizer):
    prompt = Prompt("Lily likes New York in the film")
    assert joined(prompt, merging_tokenizer).words == ("Lily", "likes", "New York", "film")
    chat = dataclasses.replace(prompt, chat=("<u>", "</u>"))
    assert joined(chat, merging_tokenizer).words == ("Lily", "likes", "New York", "film")


def test_a_player_without_tokens_is_refused():
    tokenizer = byte_bpe(mask_token="<mask>")
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("☃", "")
    with pytest.raises(ValueError, match=r"player '☃' .* has no token"):
        tokenize(Prompt("a ☃ film", players=["☃"]), tokenizer)


def test_what_a_tokenizer_appends_is_left_out():
    with_eos = byte_bpe(bos="<s>", eos="</s>", mask_token="<mask>")
    tokenized = tokenize(Prompt("a film", target="so"), with_eos)
    assert decode(with_eos, tokenized.token_ids) == "<s>a film"
    assert decode(with_eos, tokenized.target_ids) == " so"
    assert decode(with_eos, tokenize(Prompt("a film</s>"), with_eos).token_ids) == "<s>a film</s>"


def test_baseline_is_mask_else_unk_else_pad_else_eos():
    names = {"mask_token": "<mask>", "unk_token": "<pad>", "pad_token": "<pad>", "eos_token": "<mask>"}
    for expected in ("<mask>", "<pad>", "<pad>", "<mask>"):
        tokenizer = byte_bpe(**names)
        assert tokenizer.convert_ids_to_tokens(baseline_id(tokenizer)) == expected
        auto, named = read_mask("auto", tokenizer), read_mask(expected, tokenizer)
        assert (
            auto == named and named.told == expected and ("no mask token" in auto.told) == ("mask_token" not in names)
        )
        names.pop(next(iter(names)))
    with pytest.raises(ValueError, match="mask, unk, pad or eos token"):
        baseline_id(byte_bpe())


def test_slow_tokenizers_are_refused():
    with pytest.raises(ValueError, match=r"fast tokenizer.*got object"):
        tokenize(Prompt("a film"), object())


def test_player_table_shows_every_model(tokenizer, merging_tokenizer):
    prompt = Prompt("Lily likes New York", players=["Lily", "New York"])
    rows = player_table(prompt, {"first": tokenizer, "second": merging_tokenizer})
    assert [row.word for row in rows] == ["Lily", "New York"]
    assert [row.span for row in rows] == list(prompt.players)
    assert decode(tokenizer, rows[1].token_ids["first"]) == " New York"
    why = "<mask> (its mask token)"
    assert all(row.replaced_by == {"first": why, "second": why} for row in rows)
    assert all(isinstance(token_id, int) for row in rows for token_id in row.token_ids["second"])


# Targets.


# What is odd about a prompt.


def test_a_text_that_begins_with_bos_has_one(tokenizer):
    plain, doubled = (Prompt(f"{bos}a film :", players=["film"], target="so") for bos in ("", "<s>"))
    once, twice = tokenize(plain, tokenizer), tokenize(doubled, tokenizer)
    assert once.token_ids.tolist() == twice.token_ids.tolist() and once.token_ids[0] == tokenizer.bos_token_id
    np.testing.assert_array_equal(once.player_of_token, twice.player_of_token)
    np.testing.assert_array_equal(once.target_ids, twice.target_ids)
    assert remarks(plain, tokenizer) == ()
    assert remarks(doubled, tokenizer) == ("it begins with <s> itself, so the tokenizer's own <s> is left out.",)
    without = byte_bpe(specials=("<mask>", "<s>"), mask_token="<mask>")  # a tokenizer that adds none
    assert remarks(doubled, without) == () and decode(without, tokenize(doubled, without).token_ids) == "<s>a film :"


@pytest.mark.parametrize(
    ("text", "target", "exact", "said"),
    [
        (
            "Lily likes ",
            "film",
            False,
            "scored as ' ' + 'fil' 'm'; read together they are ' film'. Leave the space out",
        ),
        ("Lily likes ", None, False, "it ends in ' ', which most next words would take"),
        ("Lily play", "ing", True, "scored as ' play' + 'in' 'g'; read together they are ' playing'."),
        ("Lily likes", "film", False, None),
        ("Lily likes it\n", "film", False, None),
        ("Lily likes it\n", None, False, None),
        ("Lily likes", None, False, None),
    ],
)
def test_a_target_that_would_merge_with_the_text_is_told_with_both_readings(tokenizer, text, target, exact, said):
    found = remarks(Prompt(text, players=["Lily"], target=target, exact=exact), tokenizer)
    assert len(found) == (said is not None) and all(said in each for each in found)


def test_a_player_that_holds_the_last_position_is_told(tokenizer):
    assert "its last token belongs to a player" in remarks(Prompt("a good film", players=["film"]), tokenizer)[0]
    assert remarks(Prompt("a good film", players=["good"]), tokenizer) == ()
    chat = Prompt("a good film", players=["film"], chat=("<pad>", "<pad>"))
    assert remarks(chat, tokenizer) == ()


def test_an_exact_target_goes_on_as_given(tokenizer):
    prompt = Prompt("Lily plays and play", players=["Lily"], target="film")
    plain = tokenize(prompt, tokenizer)
    assert decode(tokenizer, plain.target_ids) == " film"
    for exact in ("ing", " Lily", "!", " \n", "s in New York."):
        tokenized = tokenize(prompt, tokenizer, target=exact)
        assert decode(tokenizer, tokenized.target_ids) == exact
        np.testing.assert_array_equal(tokenized.token_ids, plain.token_ids)
    for empty in (lambda: tokenize(prompt, tokenizer, target=""), lambda: Prompt("a film", target="")):
        with pytest.raises(ValueError, match=r"target=\.\.\.\) must hold some text; got ''"):
            empty()


def test_a_target_is_never_given_a_space_of_its_own():
    """SentencePiece-like tokenizers put a space before a text's first word; a target is never first."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    core.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    assert tokenizer.tokenize("playing")[0] == "▁playing" and tokenizer.tokenize("ing")[0].startswith("▁")

    def pieces(target):
        return tokenizer.convert_ids_to_tokens(tokenize(Prompt("Lily play"), tokenizer, target=target).target_ids)

    assert "".join(pieces("ing")) == "ing"  # by itself: "playing" is one token
    assert pieces(" film") == ["▁film"]  # together with the text


def test_a_target_is_read_together_with_the_text():
    """WordPiece-like tokenizers write a word's later pieces differently from a word."""
    core = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "ing": 3}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    assert tokenize(Prompt("play"), tokenizer, target="ing").target_ids.tolist() == [2]
    assert tokenize(Prompt("play"), tokenizer, target=" ing").target_ids.tolist() == [3]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@settings(deadline=None, max_examples=150)
@given(text=TEXT, target=TEXT | st.none(), data=st.data())
def test_tokens_players_and_target_are_exact_for_any_text(tokenizer, text, target, data):
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=8)))
    spans = [span for span in zip(edges[::2], edges[1::2], strict=False) if text[slice(*span)].strip()]
    prompt = Prompt(text, players=spans or [(0, len(text))], target=target)
    try:
        tokenized = tokenize(prompt, tokenizer)
    except ValueError as error:
        assert "share the token" in str(error)
        return
    assert decode(tokenizer, tokenized.token_ids[1:]) == text
    assert decode(tokenizer, tokenized.target_ids) == ("" if target is None else continuation(text, target))
    assert set(tokenized.player_of_token.tolist()) - {-1} == set(range(prompt.n_players))
    for player, word in enumerate(prompt.words):
        assert word in decode(tokenizer, tokenized.token_ids[tokenized.player_of_token == player])


# Files.


def test_read_prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "a film so dull", "players": ["film", "dull"], "target": null}\r\n\n'
        + '{"id": "é 1", "text": "two\u2028lines", "players": [[0, 3]], "next_word": "(NFL)"}\n'.encode()
        + b'{"text": "a film", "target": "so"}\n'
        + b'{"text": "a film", "target": "so", "exact": true, "chat": null}'
    )
    first, second, third, fourth = read_prompts(path)
    assert (first.id, first.words, first.target) == ("prompt-0001", ("film", "dull"), None)
    assert (second.id, second.words, second.target) == ("é 1", ("two",), " (NFL)")
    assert (third.id, third.target) == ("prompt-0003", "so")
    assert (third.continuation, fourth.continuation) == (" so", "so")
    assert read_prompts(str(path)) == [first, second, third, fourth]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a film"', r"must be one JSON object; .* at column 1\d"),
        ('["a film"]', "must be one JSON object; got list"),
        ('{"txt": "a film"}', r"unknown field 'txt'\. The fields are id, text, players, target, next_word"),
        ("{}", "must have a field 'text'"),
        ('{"text": 3}', "'text' must be a string; got 3"),
        ('{"text": "a film", "target": "so", "exact": "yes"}', "'exact' must be true or false; got 'yes'"),
        ('{"text": "a film", "exact": true}', "'exact' says how 'target' is meant"),
        ('{"text": "a film", "next_word": "so", "exact": true}', "'exact' says how 'target' is meant"),
        ('{"text": "a film", "id": 3}', "'id' must be a string; got 3"),
        ('{"text": "a film", "players": "film"}', "'players' must be a list .* got 'film'"),
        ('{"text": "a film", "players": ["book"]}', "'book' is not in 'a film'"),
        ('{"text": "a film", "target": "x", "next_word": "y"}', "got both"),
        ('{"text": "a film", "next_word": ""}', r"target=\.\.\.\) must hold some text"),
        ('{"text": "a film", "id": "../x"}', "names files"),
        ('{"text": "a film", "id": "one"}', r"id 'one' is already that of line 1"),
        (b'{"text": "\xff"}', "UTF-8; byte 11"),
    ],
)
def test_bad_lines_are_named_by_file_and_line(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b'{"text": "a film", "id": "one"}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=rf"prompts\.jsonl, line 3: .*{message}"):
        read_prompts(path)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*none\.jsonl'"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.jsonl: must hold at least one prompt"):
        read_prompts(tmp_path / "empty.jsonl")


def test_what_is_no_string_is_refused_by_name():
    # In a process of its own: here annotations are checked, before Prompt can.
    code = (
        "from andor.prompts import Prompt\n"
        "for name in ('text', 'target', 'id'):\n"
        "    try: Prompt(**({'text': 'a film'} | {name: 3}))\n"
        "    except ValueError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert out.stdout.splitlines() == [f"Prompt({x}=...) must be a string; got 3." for x in ("text", "target", "id")]


def test_default_prompts():
    prompts = read_prompts(DEFAULT_PROMPTS)
    assert [prompt.id for prompt in prompts] == [f"{k}-{i:02d}" for k in ("sentiment", "story") for i in range(1, 11)]
    assert all(8 <= prompt.n_players <= 10 for prompt in prompts)
    assert [prompt.target for prompt in prompts[:10]] == ["positive", "negative"] * 5
    assert all(prompt.text.endswith(" .\nsentiment:") and prompt.text.islower() for prompt in prompts[:10])
    assert sum(prompt.target is not None for prompt in prompts[10:]) == 5


def test_import_is_light():
    code = "import sys, andor.prompts; print({'jax', 'flax', 'torch', 'transformers'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert out.stdout.strip() == "set()"


TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


def chat_tokenizer(template: str = TEMPLATE):
    """The tokenizer of an embedded model with a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(DEFAULT_PROMPTS.parent / "tiny-llama")
    tokenizer.chat_template = template
    return tokenizer


def test_a_chat_is_wrapped_with_the_template_which_is_background():
    tokenizer = chat_tokenizer()
    plain = Prompt("the film is not good .", players=["film", "not", "good"], target="Yes")
    chat = Prompt(plain.text, players=plain.players, target="Yes", chat=True)
    tokenized = tokenize(chat, tokenizer)
    whole = tokenizer("<|user|>the film is not good .<|end|><|assistant|>", add_special_tokens=False)["input_ids"]
    assert tokenized.token_ids.tolist() == whole
    for player, word in enumerate(chat.words):
        assert decode(tokenizer, tokenized.token_ids[tokenized.player_of_token == player]).strip() == word
    first, last = np.flatnonzero(tokenized.player_of_token >= 0)[[0, -1]]
    assert first > 4 and last < len(whole) - 4  # the template stands before and behind
    assert chat.continuation == "Yes" and plain.continuation == " Yes"
    assert decode(tokenizer, tokenized.target_ids) == "Yes"


def test_opened_thoughts_are_closed():
    tokenizer = chat_tokenizer(TEMPLATE + "<think>\n")
    before, after = chat_template(tokenizer, "a film")
    assert before == "<|user|>" and after == "<|end|><|assistant|><think>\n\n</think>\n\n"


def test_a_chat_is_rendered_once():
    """A template with the time in it gives another text every time."""
    tokenizer = chat_tokenizer("{{ strftime_now('%f') }}" + TEMPLATE)
    prompt = Prompt("the film is good", players=["film"], target="Yes", chat=True)
    once = in_chat(prompt, tokenizer)
    assert once.chat[0] != in_chat(prompt, tokenizer).chat[0] and once.chat[1] == "<|end|><|assistant|>"
    assert once.continuation == "Yes" and once.players == prompt.players
    assert (
        in_chat(once, tokenizer) is once
        and tokenize(once, tokenizer).token_ids.tolist()
        == (tokenizer("".join((once.chat[0], prompt.text, once.chat[1])), add_special_tokens=False)["input_ids"])
    )
    plain = Prompt("the film is good")
    assert in_chat(plain, tokenizer) is plain


@pytest.mark.parametrize(
    ("template", "text", "message"),
    [
        ("{{ 'a ' }}" + "{% for m in messages %}{{ m.content | trim }}{% endfor %}", " film", "does not keep the text"),
        (None, "a film", "has none"),
        ("{% for m in messages %}{{ m.content | trim }}{% endfor %}", " a film", "does not keep the text"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "a film", "does not keep the text"),
        ("hello", "a film", "does not keep the text"),
    ],
)
def test_templates_that_do_not_keep_the_text_are_refused(template, text, message):
    with pytest.raises(ValueError, match=message):
        tokenize(Prompt(text, players=["film"], chat=True), chat_tokenizer(template))


def test_baselines():
    tokenizer = chat_tokenizer()
    prompt = Prompt("the film is good", players=["film"])
    assert tokenize(prompt, tokenizer, baseline="mean").mask.token_id == NO_TOKEN
    assert read_mask("zero", tokenizer).name == "zero embedding"
    assert read_mask("auto", tokenizer).name == "<mask>"
    token = tokenize(prompt, tokenizer, baseline="Ġgood").mask.token_id
    assert tokenizer.convert_ids_to_tokens(token) == "Ġgood"
    with pytest.raises(ValueError, match=r"baseline='good word' must be auto, mean, zero, delete, .* or a token"):
        tokenize(prompt, tokenizer, baseline="good word")


# Real tokenizers and prompts, where a copy is at hand: ANDOR_DATA names a folder with tokenizers/ and squad_next_word/.

DATA = Path(os.environ.get("ANDOR_DATA", "no-data"))


@pytest.mark.skipif(not (DATA / "tokenizers").is_dir(), reason="ANDOR_DATA names no folder with tokenizers/")
@pytest.mark.parametrize(
    ("name", "n_bos", "baseline"),
    [("qwen2.5", 0, "<|endoftext|>"), ("deepseek-r1-distill-llama-8b", 1, "<｜end▁of▁sentence｜>")],
)
def test_real_tokenizers_on_squad_prompts(name, n_bos, baseline):
    tokenizer = AutoTokenizer.from_pretrained(DATA / "tokenizers" / name, local_files_only=True)
    path = DATA / "squad_next_word" / "first_700.jsonl"
    given = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    prompts = read_prompts(path)
    for record, prompt in list(zip(given, prompts, strict=True))[:200]:
        tokenized = tokenize(prompt, tokenizer)
        assert prompt.words == tuple(record["players"])
        assert decode(tokenizer, tokenized.token_ids[n_bos:]) == prompt.text
        assert decode(tokenizer, tokenized.target_ids) == f" {record['next_word']}"
        assert set(range(prompt.n_players)) <= set(tokenized.player_of_token.tolist())
        for player, word in enumerate(prompt.words):
            assert word in decode(tokenizer, tokenized.token_ids[tokenized.player_of_token == player])
    assert tokenizer.convert_ids_to_tokens(baseline_id(tokenizer)) == baseline


@pytest.mark.skipif(not (DATA / "tokenizers").is_dir(), reason="ANDOR_DATA names no folder with tokenizers/")
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (
            "qwen2.5",
            "You are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
            "<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "deepseek-r1-distill-llama-8b",
            "<｜begin▁of▁sentence｜><｜User｜>",
            "<｜Assistant｜><think>\n\n</think>\n\n",
        ),
    ],
)
def test_real_chat_templates_on_squad_prompts(name, before, after):
    tokenizer = AutoTokenizer.from_pretrained(DATA / "tokenizers" / name, local_files_only=True)
    for prompt in read_prompts(DATA / "squad_next_word" / "first_700.jsonl")[:200]:
        chat = dataclasses.replace(prompt, chat=True)
        tokenized = tokenize(chat, tokenizer)
        whole = decode(tokenizer, tokenized.token_ids)
        assert whole.endswith(before + prompt.text + after)
        assert tokenized.token_ids.tolist().count(tokenizer.bos_token_id) == (before[0] == "<")
        assert decode(tokenizer, tokenized.target_ids) == chat.continuation
        for player, word in enumerate(prompt.words):
            assert word in decode(tokenizer, tokenized.token_ids[tokenized.player_of_token == player])
