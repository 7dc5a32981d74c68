"""Quantisation: does damage to a model's weights make a spindle, in the order of the damage?

Reproduces: what arXiv 2502.10162 says of models that generalise badly, asked of one model that is made worse step by
            step: the weights of its linear layers (q, k, v, o, gate, up, down) are rounded to 8, 6, 4, 3 and 2 bits in
            blocks of 32 along the inputs, symmetrically, as llama.cpp's Q4_0 does it: one scale a block, the extreme
            weight at -2^(bits - 1). Embeddings, which are the head too where it is tied, and norms stay as they are, so
            that a masked word, which becomes the mean embedding, is the same in all. "Original" is the model as it is
            given, rounded or not: SmolLM2-135M is a Q4_1 here, which is rounded again.
Prompts:    the first twelve of --prompts (facts.jsonl: 36 plain sentences for pretrained models; seven players each,
            the words that decide the next one; the last word is none). `PROMPTS` takes more, at 20 CPU seconds each.
            The target is the original's most probable next token. Kept is a prompt with p >= 0.3 in the original, and
            |v(N) - v(∅)| >= the spread of v. Numbers are told for all that are kept, and for 10 of them at a time.
Damage:     perplexity of 512 tokens of TinyStories (with --corpus), or of the prompts.
Hypothesis: spindle share, cancellation and mean order rise with perplexity, the share of orders 1 and 2 falls. Written
            before looking.
Falsifier:  the rank correlation of the spindle share with perplexity over the original and the five roundings has an
            interval (over prompts) that reaches 0, or rounding and random noise of equal size in every block differ in
            the spindle share where their perplexities do not.
Controls:   Gaussian noise of the size of the rounding errors, block by block, at 3 bits; plain p of the target
            and total strength as rivals of the score; AND effects alone beside the certified optimum, and the published
            bound of 2% beside the estimated one: |v(N) - v(∅)|, its unit, shrinks with damage.
Command:    python -m experiments quantisation --models smollm2-135m.gguf --prompts experiments/studies/facts.jsonl
            --corpus DATA
            The first of --models alone. DATA holds tinystories/*.txt. Values that are in WORK are read, so that a run
            that was stopped goes on.
Hardware:   2 CPU cores
Minutes:    10
Published:  a larger spindle in models that generalise badly (2502.10162); nothing of rounded models
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import rankdata

import andor
from andor.core.explained import Pair
from andor.core.lattice import moebius
from andor.core.values import Values
from andor.evaluation import MATMUL_PRECISION
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.bootstrap import Resampled, draws
from andor.measures.profile import Profile, profile, strength
from andor.measures.reported import mean_of_defined, median_of_defined
from andor.models import FAMILIES, LanguageModel, find
from andor.models.weights import weight_table
from andor.prompts import Prompt
from andor.runs import cache, files
from andor.runs.explanation import MOST_SHOWN
from experiments.lab.corpus import read_stories
from experiments.study import PUBLISHED_NOISE, Row, Settings, prompts_of, with_interval

NEEDS_MODELS = True

BLOCK = 32
"""Weights that share a scale."""

PROMPTS = 12
"""The first of `Settings.prompts`."""

LEAST_P = 0.3
"""Of the target under the original."""

FEW = 10
"""Prompts that are said to do."""

BASELINE = "mean"
"""What a masked word becomes."""

SEQUENCE, SEQUENCES = 256, 2
"""Tokens of a text that perplexity is taken over, and texts."""

RESAMPLES = {"full": 60, "quick": 30, "smoke": 4}
"""Of a spindle share, which takes 15 ms each."""


@dataclass(frozen=True)
class Damage:
    """What becomes of the linear layers.

    Attributes:
      bits: of the rounded weights; None for the original.
      kind: "rounded", or Gaussian "noise" that is as large as the rounding error in every block.
    """

    bits: int | None = None
    kind: Literal["rounded", "noise"] = "rounded"

    @property
    def label(self) -> str:
        if self.bits is None:
            return "original"
        return f"{self.bits} bits" if self.kind == "rounded" else f"noise as of {self.bits} bits"


ORIGINAL = Damage()
LEVELS = (ORIGINAL, *(Damage(bits) for bits in (8, 6, 4, 3, 2)))
NOISES = (Damage(3, "noise"),)

METHODS = {
    "certified": "certified, estimated bound",
    "published_bound": "certified, bound of 2%",
    "and_only": "AND effects alone",
}

NUMBERS = {
    "spindle": "spindle share",
    "cancellation": "cancellation",
    "mean_order": "mean order",
    "low_orders": "share of orders 1 and 2",
    "r2": f"R² of the strongest {MOST_SHOWN} effects",
    "overlap": "overlap with the original",
    "strength": "strength of effects, nats",
    "p": "p of the target",
}
"""Name in the result -> what it is called. The last two are rivals of the first."""


# ------------------------------------------------------------------------------------------------------- the damage


def rounded(weights: Float[np.ndarray, "out in"], bits: int) -> Float[np.ndarray, "out in"]:
    """Weights rounded in blocks along the last axis to multiples of a scale, -2^(bits - 1) to 2^(bits - 1) - 1 of them;
    the extreme weight of a block is the lowest (llama.cpp's Q4_0, with a float32 scale).

    Raises:
      ValueError: the last axis is no multiple of `BLOCK`.
    """
    if weights.shape[-1] % BLOCK:
        raise ValueError(f"rounded(weights=...) must have a multiple of {BLOCK} inputs; got {weights.shape[-1]}.")
    blocks = weights.reshape(-1, BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    lowest = -(2.0 ** (bits - 1))
    scale = (extreme / lowest).astype(weights.dtype)
    steps = np.round(blocks / np.where(scale == 0, 1, scale))
    return (np.clip(steps, lowest, -lowest - 1) * scale).astype(weights.dtype).reshape(weights.shape)


def noised(weights: Float[np.ndarray, "out in"], bits: int, rng: np.random.Generator) -> Float[np.ndarray, "out in"]:
    """Weights plus Gaussian noise that has the root mean square of the rounding error in every block."""
    error = (rounded(weights, bits) - weights).reshape(-1, BLOCK)
    noise = rng.standard_normal(error.shape, dtype=np.float32)
    sizes = [np.sqrt((each**2).mean(axis=1, keepdims=True)) for each in (error, noise)]
    return (weights + (noise * (sizes[0] / sizes[1])).reshape(weights.shape)).astype(weights.dtype)


def damaged(model: LanguageModel, damage: Damage, seed: int) -> LanguageModel:
    """A model with its linear layers rounded, or with noise; the original is itself. Its fingerprint says how."""
    if damage.bits is None:
        return model
    table, sizes = weight_table(model.decoder.config, FAMILIES[model.family]), model.decoder.config.axis_sizes()
    graphdef, state = nnx.split(model.decoder)
    rng, leaves = np.random.default_rng([seed, damage.bits]), []
    for path, leaf in nnx.to_flat_state(state):
        name = ".".join(map(str, path))
        if name.endswith("_proj.weight"):
            weights = np.asarray(leaf[...], np.float32)
            matrix = weights.reshape(table[name].hf_shape(sizes))
            found = rounded(matrix, damage.bits) if damage.kind == "rounded" else noised(matrix, damage.bits, rng)
            leaf = leaf.replace(jnp.asarray(found.reshape(weights.shape), model.dtype))
        leaves.append((path, leaf))
    return replace(
        model,
        name=f"{model.name}, {damage.label}",
        decoder=nnx.merge(graphdef, nnx.from_flat_state(leaves)),
        fingerprint=fingerprint_of(model.fingerprint, damage, seed),
    )


def fingerprint_of(original: str, damage: Damage, seed: int) -> str:
    """Identity of a damaged model: of the weights it is made of, and of what was done to them."""
    if damage.bits is None:
        return original
    seeded = [seed] * (damage.kind == "noise")
    return files.key_of(original, "linear layers", damage.kind, damage.bits, BLOCK, *seeded)


# ------------------------------------------------------------------------------------------- values that are kept


class Kept:
    """Values and perplexity of the damaged models, kept in a folder; a model is loaded when something is missing."""

    def __init__(self, settings: Settings):
        self.name, self.settings = settings.models[0], settings
        self.found = find(self.name)
        self.dtype = str(self.found.dtype_on(None, settings.dtype))
        self.root = settings.work / "quantisation" / self.found.fingerprint[:12]
        self._original: LanguageModel | None = None

    def model(self, damage: Damage) -> LanguageModel:
        """The damaged model, made anew; the original stays in memory."""
        if self._original is None:
            self._original = andor.load(self.name, dtype=self.settings.dtype)
        return damaged(self._original, damage, self.settings.seed)

    def values(self, damage: Damage, prompts: Sequence[Prompt], targets: Sequence[str | None]) -> list[Values]:
        """v of every prompt under a damaged model."""
        keys = [self._key(damage, prompt, target) for prompt, target in zip(prompts, targets, strict=True)]
        paths = [
            cache.values_path(self.root, damage.label, prompt.id, key)
            for prompt, key in zip(prompts, keys, strict=True)
        ]
        there = [cache.get(path, cache.read_values, key) for path, key in zip(paths, keys, strict=True)]
        missing = [place for place, each in enumerate(there) if each is None]
        found = [None if each is None else each[0] for each in there]
        if missing:
            made = andor.evaluate_all(
                self.model(damage),
                [prompts[place] for place in missing],
                targets=[targets[place] for place in missing],
                baseline=BASELINE,
            )
            for place, values in zip(missing, made, strict=True):
                cache.save_values(
                    self.root, damage.label, prompts[place].id, values, key=keys[place], made_by="quantisation"
                )
                found[place] = values
            print(f"{damage.label}: {sum(found[place].seconds for place in missing):.0f} s", flush=True)
        return found

    def perplexity(self, damage: Damage, texts: Sequence[str]) -> tuple[float, int]:
        """exp of the mean loss per token of texts, and how many tokens."""
        key = files.key_of(fingerprint_of(self.found.fingerprint, damage, self.settings.seed), self.dtype, list(texts))
        path = self.root / "perplexity" / f"{key[: cache.KEY_DIGITS]}.json"
        there = cache.get(path, files.read_json)
        if there is None:
            model = self.model(damage)
            losses = np.concatenate(list(_losses(model, texts)))
            there = {"loss": float(losses.mean()), "tokens": losses.size}
            files.write_bytes(path, files.json_bytes(there))
        return float(np.exp(there["loss"])), there["tokens"]

    def _key(self, damage: Damage, prompt: Prompt, target: str | None) -> str:
        model = fingerprint_of(self.found.fingerprint, damage, self.settings.seed), self.dtype, MATMUL_PRECISION
        return files.key_of(*model, BASELINE, prompt.text, prompt.players, prompt.chat, target, prompt.target)


def _losses(model: LanguageModel, texts: Sequence[str]) -> Iterator[np.ndarray]:
    """Next-token losses of each text, nats, of its first `SEQUENCE` tokens."""

    @nnx.jit
    def losses(decoder, tokens):
        logits = decoder.logits(decoder.hidden(decoder.embed(tokens[:, :-1])))
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])

    for text in texts:
        tokens = np.array([model.tokenizer(text).input_ids[:SEQUENCE]])
        yield np.asarray(losses(model.decoder, jnp.asarray(tokens)))[0]


def _texts(settings: Settings, prompts: Sequence[Prompt]) -> list[str]:
    """What perplexity is taken of: the first stories that are long, or the prompts."""
    if settings.corpus is None:
        return [prompt.text for prompt in prompts]
    stories = read_stories(settings.corpus / "tinystories")[0]
    long = [story for story in stories if len(story.split()) >= SEQUENCE]  # a word is a token or more
    if len(long) < SEQUENCES:
        raise ValueError(f"{settings.corpus}/tinystories must hold {SEQUENCES} stories of {SEQUENCE} words.")
    return long[: 1 if settings.smoke else SEQUENCES]


# ---------------------------------------------------------------------------------------------------- the numbers


@dataclass(frozen=True, eq=False)
class Sample:
    """Numbers of one damaged model by one method, prompt by prompt.

    Attributes:
      profile: order strengths, each prompt in units of its own strength.
      numbers: name in `NUMBERS` -> `[prompts]`, for those that are means or medians over prompts.
    """

    profile: Profile
    numbers: dict[str, Float[np.ndarray, "prompts"]]

    def statistics(self) -> dict[str, Callable[[np.ndarray], float]]:
        """Name in `NUMBERS` -> number of some places."""
        averages = {
            name: lambda places, each=each, mean=median_of_defined if name == "r2" else mean_of_defined: mean(
                each[places]
            )
            for name, each in self.numbers.items()
        }
        return {
            "spindle": lambda places: self.profile.of(places).split.spindle_share,
            "mean_order": lambda places: self.profile.of(places).mean_order,
            "low_orders": lambda places: self.profile.of(places).low_orders,
        } | averages


def measure(settings: Settings) -> dict:
    """Numbers of every damaged model, differences from the original, and rank correlations with perplexity."""
    prompts, kept = prompts_of(settings)[:PROMPTS], Kept(settings)
    of_original = kept.values(ORIGINAL, prompts, [None] * len(prompts))
    chosen = [place for place, v in enumerate(of_original) if settings.smoke or _is_kept(v)]
    if len(chosen) < 2:
        raise ValueError(
            f"of {len(prompts)} prompts {len(chosen)} are kept by p >= {LEAST_P} and |v(N) - v(∅)| >= the spread of v; "
            "two are needed. Give --prompts that this model answers."
        )
    used, targets = [prompts[place] for place in chosen], [of_original[place].target for place in chosen]
    values = {ORIGINAL: [of_original[place] for place in chosen]}
    values |= {damage: kept.values(damage, used, targets) for damage in (*LEVELS[1:], *NOISES)}
    texts = _texts(settings, prompts)
    perplexity = {damage: kept.perplexity(damage, texts) for damage in values}
    samples = {method: _samples(values, method) for method in METHODS}
    resamples = {method: _resampled(samples[method], len(used), len(used), settings) for method in METHODS}
    few = _resampled(samples["certified"], len(used), FEW, settings)
    return {
        "model": {"name": kept.found.folder.name, "fingerprint": kept.found.fingerprint, "dtype": kept.dtype},
        "prompts": {
            "kept": [prompt.id for prompt in used],
            "targets": targets,
            "left_out": _why_left_out(prompts, of_original, chosen),
            "seconds": sum(v.seconds for of_model in values.values() for v in of_model),
        },
        "text": {"tokens": perplexity[ORIGINAL][1], "of": "the prompts" if settings.corpus is None else "TinyStories"},
        "models": {
            damage.label: {
                "perplexity": perplexity[damage][0],
                **{method: _numbers(resamples[method][damage], resamples[method][ORIGINAL]) for method in METHODS},
            }
            for damage in values
        },
        "correlation": {
            name: _correlations(each, [perplexity[damage][0] for damage in LEVELS])
            for name, each in {**resamples, "few": few}.items()
        },
        "noise_less_rounding": {
            method: {
                noise.label: _differences(resamples[method][noise], resamples[method][Damage(noise.bits)])
                for noise in NOISES
            }
            for method in METHODS
        },
    }


def _is_kept(values: Values) -> bool:
    return values.target_probability >= LEAST_P and metrics.output_range(values.v) >= values.v.std()


def _why_left_out(prompts: Sequence[Prompt], values: Sequence[Values], chosen: Sequence[int]) -> dict[str, str]:
    return {
        prompt.id: f"p {v.target_probability:.2f}"
        if v.target_probability < LEAST_P
        else f"range {metrics.output_range(v.v):.2f}, spread {v.v.std():.2f}"
        for place, (prompt, v) in enumerate(zip(prompts, values, strict=True))
        if place not in chosen
    }


def _samples(values: dict[Damage, list[Values]], method: str) -> dict[Damage, Sample]:
    """Effects by a method, and their numbers; what is fitted by 20 effects does not depend on it."""
    pairs: dict[Damage, list[Pair]] = {}
    for damage, of_model in values.items():
        if method == "and_only":
            pairs[damage] = [(moebius(v.v), np.zeros_like(v.v)) for v in of_model]
        else:
            found = [andor.extract(v.v, "auto" if method == "certified" else PUBLISHED_NOISE) for v in of_model]
            pairs[damage] = [(each.and_effects, each.or_effects) for each in found]
    return {
        damage: _sample(of_model, pairs[damage], values[ORIGINAL], pairs[ORIGINAL])
        for damage, of_model in values.items()
    }


def _sample(
    values: Sequence[Values], pairs: Sequence[Pair], original: Sequence[Values], originals: Sequence[Pair]
) -> Sample:
    strengths = [metrics.order_strength(*pair) for pair in pairs]
    ranges = [
        (metrics.output_range(v.v), metrics.output_range(first.v)) for v, first in zip(values, original, strict=True)
    ]
    numbers = {
        "cancellation": [metrics.cancellation(each).overall for each in strengths],
        "r2": [metrics.matching(v.v, *pair, MOST_SHOWN).r2 for v, pair in zip(values, pairs, strict=True)],
        "overlap": [
            metrics.weighted_overlap(pair, first, unit)
            for pair, first, unit in zip(pairs, originals, ranges, strict=True)
        ],
        "strength": [strength(pair) for pair in pairs],
        "p": [v.target_probability for v in values],
    }
    units = [each or 1.0 for each in numbers["strength"]]
    return Sample(profile(strengths, units), {name: np.array(each, float) for name, each in numbers.items()})


Resamples = dict[Damage, dict[str, Resampled]]
"""Damaged model -> name in `NUMBERS` -> number; of all models on the same resamples of prompts."""


def _resampled(samples: dict[Damage, Sample], count: int, size: int, settings: Settings) -> Resamples:
    """Numbers of `count` prompts; with a smaller `size`, the median over so many prompts drawn, and each draw."""
    repeats = RESAMPLES[settings.scale]
    chosen = draws(count, repeats, settings.seed)[:, :size]
    found: Resamples = {}
    for damage, sample in samples.items():
        found[damage] = {}
        for name, statistic in sample.statistics().items():
            of_draws = np.array([statistic(places) for places in chosen])
            value = statistic(np.arange(count)) if size >= count else float(np.median(of_draws))
            found[damage][name] = Resampled(value, of_draws)
    return found


def _numbers(of: dict[str, Resampled], original: dict[str, Resampled]) -> dict:
    """Every number with its interval, and its difference from the original's on the same prompts."""
    return {name: each.interval() for name, each in of.items()} | {"change": _differences(of, original)}


def _differences(one: dict[str, Resampled], other: dict[str, Resampled]) -> dict:
    return {name: (each - other[name]).interval() for name, each in one.items()}


def _correlations(resamples: Resamples, perplexity: Sequence[float]) -> dict:
    """Rank correlation of every number with perplexity over `LEVELS`, with intervals over prompts."""
    found = {}
    for name in NUMBERS:
        of_levels = [resamples[damage][name] for damage in LEVELS]
        of_draws = [
            _rank_correlation(perplexity, draw_) for draw_ in np.transpose([each.resampled for each in of_levels])
        ]
        value = _rank_correlation(perplexity, [each.value for each in of_levels])
        found[name] = Resampled(value, np.array(of_draws)).interval()
    return found


def _rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's; nan where one is constant."""
    ranks = [rankdata(each) for each in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1]) if min(map(np.ptp, ranks)) > 0 else math.nan


def draw(result: dict) -> Figure:
    """Each number over perplexity: roundings on a line, noise apart; by the certified optimum and AND effects alone."""
    figure = style.new_figure(style.TWO_COLUMNS, 3.9)
    models, correlation = result["models"], result["correlation"]["certified"]["spindle"]
    style.title(
        figure,
        f"Spindle share and perplexity of a rounded model: rank correlation {with_interval(correlation)}",
    )
    axes = figure.subplots(2, 4, sharex=True)
    places = [*range(len(LEVELS)), *(LEVELS.index(Damage(noise.bits)) + 0.3 for noise in NOISES)]
    at = {damage.label: place for damage, place in zip((*LEVELS, *NOISES), places, strict=True)}
    for ax, (name, title) in zip(axes.flat, NUMBERS.items(), strict=True):
        for method, look in _LOOKS.items():
            if method != "certified" and name == "p":
                continue
            for damages, line in ((LEVELS, {"ls": "-", "marker": "o"}), (NOISES, {"ls": "", "marker": "X", "ms": 5})):
                labels = [each.label for each in damages]
                numbers = [models[label][method][name] for label in labels]
                panels.points(ax, [at[label] for label in labels], numbers, **look | line)
        ax.set_title(title, fontsize=7)
        ax.grid(axis="y")
    ticks = [f"{each.bits or 'orig.'}\n{_short(models[each.label]['perplexity'])}" for each in LEVELS]
    for ax in axes[1]:
        ax.set_xticks(range(len(LEVELS)), ticks, fontsize=6)
        ax.set_xlabel("bits, perplexity", fontsize=6.5)
    handles = [
        *(Line2D([], [], **{"marker": "o", "ms": 3} | look, label=METHODS[method]) for method, look in _LOOKS.items()),
        Line2D([], [], color=style.MUTED, ls="", marker="X", ms=4, label="noise as large as rounding to 3 bits"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _short(number: float) -> str:
    """Three digits at most."""
    return f"{number:.1f}" if number < 100 else f"{number:.0f}" if number < 1000 else f"{number / 1000:.0f}k"


_LOOKS = {
    "certified": {"color": style.CERTIFIED},
    "published_bound": {"color": style.NOISE},
    "and_only": {"color": style.LIKELIER},
}


def table(result: dict) -> str:
    """Markdown: every model by every method."""
    lines = [
        "| method | model | perplexity | " + " | ".join(NUMBERS.values()) + " |",
        "|" + "---|" * (3 + len(NUMBERS)),
    ]
    for method, called in METHODS.items():
        for label, each in result["models"].items():
            cells = [with_interval(each[method][name]) for name in NUMBERS]
            lines.append(f"| {called} | {label} | {each['perplexity']:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rows(result: dict) -> list[Row]:
    """Perplexities; correlations with them; what 3 and 2 bits change; noise beside rounding."""
    models, correlation = result["models"], result["correlation"]
    prompts = len(result["prompts"]["kept"])
    name = result["model"]["name"]
    found = [
        Row(
            f"perplexity of {name} by damage ({result['text']['tokens']} tokens of {result['text']['of']})",
            "not published",
            ", ".join(f"{label} {each['perplexity']:.1f}" for label, each in models.items()),
        ),
        Row(
            f"rank correlation of the spindle share with perplexity, {len(LEVELS)} levels, {prompts} prompts",
            "larger spindle in models that generalise badly (2502.10162)",
            f"{with_interval(correlation['certified']['spindle'])}; {FEW} prompts "
            f"{with_interval(correlation['few']['spindle'])}; bound of 2% "
            f"{with_interval(correlation['published_bound']['spindle'])}; AND only "
            f"{with_interval(correlation['and_only']['spindle'])}",
        ),
    ]
    for other in ("cancellation", "mean_order", "low_orders", "r2", "overlap", "strength", "p"):
        of = {method: with_interval(correlation[method][other]) for method in ("certified", "few", "and_only")}
        found.append(
            Row(
                f"rank correlation of {NUMBERS[other]} with perplexity",
                "not published",
                f"{of['certified']}; {FEW} prompts {of['few']}" + f"; AND only {of['and_only']}" * (other != "p"),
            )
        )
    for damage in LEVELS[1:]:
        change = models[damage.label]["certified"]["change"]
        found.append(
            Row(
                f"change from the original to {damage.label}",
                "not published",
                ", ".join(
                    f"{NUMBERS[each]} {with_interval(change[each], '+.2f')}"
                    for each in ("spindle", "cancellation", "mean_order", "low_orders")
                )
                + f"; overlap {with_interval(models[damage.label]['certified']['overlap'])}",
            )
        )
    for label, difference in result["noise_less_rounding"]["certified"].items():
        found.append(
            Row(
                f"{label} less rounding",
                "not published",
                ", ".join(
                    f"{NUMBERS[each]} {with_interval(difference[each], '+.2f')}"
                    for each in ("spindle", "cancellation", "mean_order", "low_orders", "overlap")
                ),
            )
        )
    return found
