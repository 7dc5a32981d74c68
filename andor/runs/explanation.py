"""`Explanation`: a prompt, its values under one model, and its AND and OR effects, in words.

    e = andor.explain("tiny-llama", "the film is not good .\nsentiment:", target="negative")
    e.top(5); e["not", "good"]; e.orders(); e.to_pandas(); e.plot(); e.save("e.npz")

Effects are there three times, by `Method`: "compact", at most `MOST_SHOWN` fitted to v, which words and pictures show
first; "certified", of least strength within the noise bound, proved; "and_only", Harsanyi dividends.

NumPy only, but for `plot`. What is saved opens with `np.load` alone.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import math
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from andor.core import lattice, penalties
from andor.core.certificate import dual_bound, feasible_dual, objective, reconstruct
from andor.core.compact import Compact
from andor.core.effects import Effect, distinct
from andor.core.explained import Method, Pair
from andor.core.intervals import Intervals
from andor.core.problem import Solution, Solver
from andor.core.text import one_line, percent, r2_text
from andor.core.values import Values
from andor.measures import metrics
from andor.measures.profile import profile
from andor.measures.trust import Trust, trust
from andor.prompts import Prompt
from andor.runs import files
from andor.runs.files import AnyPath, Damaged, path_of

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

ROUNDING = 1e-9
"""Relative error up to which numbers that are computed again are the same."""

SHOWN = 5
"""Effects that the repr of an explanation names."""

MOST_SHOWN = 20
"""Effects of the compact explanation at most: as many as a person reads."""

_COMPACT = {"compact_and": "and_effects", "compact_or": "or_effects", "compact_dual_values": "dual_values"}
_PER_SUBSET = ("v", "and_effects", "or_effects", "noise", "dual_values", *_COMPACT)
_PROMPT = ("exact", "chat", "before", "after", "player_spans", "labels")
_ORIGIN = ("solver", "penalty", "made_by", "values_key", "key")
_TEXTS = (
    *("model", "id", "text", "prompt_target", "before", "after", "players", "labels", "target", "score", "status"),
    *_ORIGIN,
)
_KINDS = {
    **dict.fromkeys(_TEXTS, "U"),
    **dict.fromkeys(("chat", "exact"), "?"),
    **dict.fromkeys(("steps", "tokens_evaluated", "player_spans"), "<i8"),
}
"""Arrays of a saved explanation that are not float64: text, yes or no, and whole numbers."""

_PERHAPS = ("forward_noise", "forward_bound")
"""Numbers that are nan where they were not measured."""

_LATER = {
    "exact": np.array(False),
    "before": np.array(""),
    "after": np.array(""),
    "score": np.array("product"),
    "forward_bound": np.array(math.nan),
    "labels": np.array(""),
}
"""What files lack that were written before there was this to say."""


class AtBound(NamedTuple):
    """The certified optimum at one noise bound, in numbers.

    bound: on the noise, in units of the spread of v (its standard deviation over the masks). salient: effects above
    `andor.measures.metrics.SALIENT` of the strongest. r2: of v on all masks by the strongest `MOST_SHOWN` of them.
    low_orders: share of orders 1 and 2 in the strength. spindle_share: of the strengths by order, as a decay and a
    spindle (`andor.measures.spindle`). The last three are nan where the noise alone explains v.
    """

    bound: float
    salient: int
    r2: float
    low_orders: float
    spindle_share: float


class Both(NamedTuple):
    """The AND and the OR effect of the same players. A one-player OR is the AND, and is 0 here."""

    AND: Effect
    OR: Effect


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Which words of a prompt act together on the log-odds of the target, under one model.

    Attributes:
      model: name of the model.
      prompt: text and players.
      values: v on all masks, and the target.
      solution: AND and OR effects of least strength within the noise bound, with their certificate.
      compact: at most `MOST_SHOWN` AND and OR effects that give v by least squares, and what they give up.
      origin: text about where it comes from: solver and penalty (name and settings as JSON), made_by (device and
        versions), values_key and key (content keys of v and of the solution); "" where it is not known.
      intervals: how large the strongest effects of the optimum are in all that is nearly optimal, where that was asked
        for (`with_intervals`); else None.
    """

    model: str
    prompt: Prompt
    values: Values
    solution: Solution
    compact: Compact
    origin: Mapping[str, str] = dataclasses.field(default_factory=dict)
    intervals: Intervals | None = None

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The players' words in text order; repeated ones are told apart ("kite₁", "kite₂")."""
        return distinct(self.values.players)

    @property
    def target(self) -> str:
        """The exact text whose log-odds are explained."""
        return self.values.target

    @property
    def effects(self) -> Pair:
        """(AND effects, OR effects) that are shown, nats: the compact explanation's."""
        return self.compact.pair

    def pair(self, method: Method = "certified") -> Pair:
        """(AND effects, OR effects) by a method, nats.

        "compact": what is shown. "certified": of least strength within the noise bound. "and_only": Harsanyi dividends
        and zeros, the one set of AND effects that adds up to v, noise and all (arXiv 2305.01939).
        """
        if method == "and_only":
            return lattice.moebius(self.values.v), np.zeros_like(self.values.v)
        return self.compact.pair if method == "compact" else (self.solution.and_effects, self.solution.or_effects)

    @property
    def range(self) -> float:
        """|v(N) - v(∅)|, nats: the unit in which models and prompts are compared."""
        return metrics.output_range(self.values.v)

    @functools.cached_property
    def trust(self) -> Trust:
        """What tells whether the effects that are shown can be believed."""
        return trust(self.values.v, self.compact, self.values.target_probability, self.prompt.ends_with_player)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against this explanation, a sentence each; empty where nothing does."""
        return self.trust.warnings

    def top(self, k: int = 10, method: Method = "compact") -> tuple[Effect, ...]:
        """The k strongest effects, strongest first; fewer where fewer are above the solver's dust."""
        pair = self.pair(method)
        ranked, strength = metrics.ranking(*pair).real, _strength(pair)
        found = zip(ranked.is_or[:k], ranked.subset[:k].tolist(), ranked.effect[:k].tolist(), strict=True)
        return tuple(
            self._effect("OR" if is_or else "AND", subset, effect, strength) for is_or, subset, effect in found
        )

    def __getitem__(self, words: str | int | tuple[str | int, ...]) -> Both:
        """The AND and the OR effect of some players that are shown, by word (repeated ones as in `words`) or by number;
        0 where none is.

        Raises:
          KeyError: a word is no player, or occurs more than once and is not told apart.
        """
        chosen = [self._player(each) for each in (words if isinstance(words, tuple) else (words,))]
        subset, strength = lattice.subset_of(chosen), _strength(self.effects)
        both = zip(("AND", "OR"), self.effects, strict=True)
        return Both(*(self._effect(kind, subset, float(effects[subset]), strength) for kind, effects in both))

    def orders(self, method: Method = "compact") -> metrics.OrderStrength:
        """Strength of the positive and of the negative effects of each order, nats."""
        return metrics.order_strength(*self.pair(method))

    def r2(self, k: int, method: Method = "compact") -> float:
        """R² of v on all masks from the k strongest effects alone; nan where v is constant."""
        return metrics.matching(self.values.v, *self.pair(method), k=k).r2

    def with_intervals(self, k: int = MOST_SHOWN) -> "Explanation":
        """This explanation with the intervals of `certain(k)` and `share_of_orders()`, which `save` keeps. What it has
        already is not solved again.

        Raises:
          ValueError: the optimum is of another penalty than L1.
        """
        wanted = self.top(k, "certified")
        if self.intervals is not None and len(self.intervals) >= len(wanted):
            return self
        bounds = self.certain(k)
        intervals = Intervals(
            np.array([each.kind == "OR" for each, *_ in bounds], bool),
            np.array([lattice.subset_of(each.players) for each, *_ in bounds], np.int64),
            np.array([sizes for _, *sizes in bounds], np.float64).reshape(-1, 2),
            self.share_of_orders()[1:],
        )
        return dataclasses.replace(self, intervals=intervals)

    def unreliable(self, method: Method = "compact") -> float:
        """Share of the strength that is in effects with any player that is labelled irrelevant or forbidden, where only
        relevant ones should matter; nan where the prompt has no labels, or there are no effects."""
        if self.prompt.labels is None:
            return math.nan
        return metrics.share_with(self.pair(method), [label != "relevant" for label in self.prompt.labels])

    def certain(self, k: int = MOST_SHOWN) -> tuple[tuple[Effect, float, float], ...]:
        """The k strongest effects of the certified optimum, each with bounds (low, high) on its size in nats over all
        explanations within a thousandth of the least strength; an effect whose low is 0 may be none. Two solves each,
        unless `intervals` has them.

        Raises:
          ValueError: the optimum is of another penalty than L1.
        """
        from andor.solvers import effect_interval  # JAX, which reading does without

        self._check_l1()
        found = []
        for each in self.top(k, "certified"):
            place = each.kind == "OR", lattice.subset_of(each.players)
            known = None if self.intervals is None else self.intervals.of(*place)
            found.append((each, *(known or effect_interval(self.values, self.solution, place[1], place[0]))))
        return tuple(found)

    def share_of_orders(self, highest: int = 2) -> tuple[float, float, float]:
        """Share of the orders up to `highest` in the strength of the certified optimum, and bounds (low, high) on it
        over all explanations within a thousandth of the least strength. Two solves, unless `intervals` has them.

        Raises:
          ValueError: the optimum is of another penalty than L1.
        """
        from andor.solvers import share_of_orders  # as above

        self._check_l1()
        strength = self.orders("certified")
        per_order = strength.positive + strength.negative
        share = float(per_order[:highest].sum() / per_order.sum()) if per_order.any() else math.nan
        if self.intervals is not None and highest == 2:
            return share, *self.intervals.low_orders
        return share, *share_of_orders(self.values, self.solution, highest)

    def path(self) -> tuple[AtBound, ...]:
        """The certified optimum at noise bounds from 1 to 40% of the spread of v (`andor.solvers.path`), in numbers: a
        finding at one bound is none.

        Raises:
          ValueError: the optimum is of another penalty than L1.
        """
        from andor.solvers.path import BOUNDS, path  # as above

        self._check_l1()
        found = []
        for bound, solution in zip(BOUNDS, path(self.values), strict=True):
            pair = solution.and_effects, solution.or_effects
            of_prompt = profile([metrics.order_strength(*pair)], [1.0])
            split = of_prompt.split.spindle_share if of_prompt.total > 0 else math.nan
            r2 = metrics.matching(self.values.v, *pair, MOST_SHOWN).r2
            found.append(AtBound(bound, metrics.salient_count(*pair), r2, of_prompt.low_orders, split))
        return tuple(found)

    def to_pandas(self, method: Method = "compact") -> "pandas.DataFrame":
        """Every effect above the solver's dust, strongest first: kind, words, players, order, effect, share."""
        names = ["kind", "words", "players", "order", "effect", "share"]
        rows = [[getattr(each, name) for name in names] for each in self.top(2 * self.values.v.size, method)]
        return pandas_or_advice().DataFrame(rows, columns=names)

    def plot(
        self,
        style: Literal["words", "matrix"] = "words",
        *,
        width: Literal["column", "page"] = "page",
        top: int = MOST_SHOWN,
        tau: float = metrics.SALIENT,
        other: "Explanation | None" = None,
    ) -> "Figure":
        """The strongest effects of the compact explanation, in words. A matplotlib figure.

        Args:
          style: "words" draws the prompt with its effects over and under its words; "matrix" a row per effect and a
            column per word, for long prompts, high orders and narrow columns.
          width: of the figure: a column of 3.4 inches, or a page of 7.
          top: effects at most.
          tau: effects below tau times the strongest are left out.
          other: another model's explanation of the same prompt and players, drawn beside this one.

        Raises:
          ValueError: another style or width, top below 1, tau outside [0, 1), or an `other` of another prompt.
        """
        from andor.figures import prompt  # matplotlib takes longer to import than all else here

        explanations = [self] if other is None else [self, other]
        labels = [each.model for each in explanations]
        return prompt.plot(explanations, labels, style, width, top=top, tau=tau)

    def save(self, path: AnyPath) -> None:
        """Write everything into one .npz file, which `andor.read` and `np.load` open.

        Raises:
          ValueError: the path does not end in ".npz".
          OSError: the file could not be written.
        """
        path = path_of(path)
        if path.suffix != ".npz":
            raise ValueError(f"Explanation.save({str(path)!r}) must name an .npz file. Try {path.name}.npz.")
        files.write_arrays(path, self.arrays())

    def __repr__(self) -> str:
        effects = "; ".join(map(str, self.top(SHOWN))) or "no effects"
        more = f"; {self.compact.count - SHOWN} more" * (self.compact.count > SHOWN)
        fit = "" if math.isnan(self.compact.r2) else f" (R² {r2_text(self.compact.r2)} of these {self.compact.count})"
        v, p = self.values.v, self.values.target_probability
        status = "" if self.solution.converged else ", NOT CONVERGED"
        doubts = f"; {len(self.warnings)} warning{'s' * (len(self.warnings) > 1)}" if self.warnings else ""
        text = (
            f"Explanation of {self.target!r} by {self.model} after “{one_line(self.prompt.text, 60)}”: p {percent(p)}, "
            f"v {v[0]:+.2f} → {v[-1]:+.2f} nats with {len(self.words)} players; {effects}{more}{fit}; "
            f"least strength within {self.solution.gap:.0e}{status}{doubts}"
        )
        return f"<{one_line(text, 600)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, and the strongest effects as a table."""
        from andor.page.notebook import of_explanation

        return of_explanation(self)

    def arrays(self) -> dict[str, object]:
        """What `save` writes, by name."""
        prompt = {
            "model": self.model,
            "id": self.prompt.id or "",
            "text": self.prompt.text,
            "prompt_target": self.prompt.target or "",
            "exact": self.prompt.exact,
            "chat": bool(self.prompt.chat),
            "before": self.prompt.chat[0] if isinstance(self.prompt.chat, tuple) else "",
            "after": self.prompt.chat[1] if isinstance(self.prompt.chat, tuple) else "",
            "player_spans": np.array(self.prompt.players, np.int64),
            **({} if self.prompt.labels is None else {"labels": " ".join(self.prompt.labels)}),
        }
        return {
            **prompt,
            **vars(self.values),
            **vars(self.solution),
            **{name: getattr(self.compact, field) for name, field in _COMPACT.items()},
            **{name: self.origin.get(name, "") for name in _ORIGIN},
            **({} if self.intervals is None else self.intervals.arrays()),
        }

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that it says, but for the time that it took, who made it, and the dual values of the
        compact explanation: made feasible again when they are read, they may differ in their last bit."""
        left_out = ("seconds", "made_by", "compact_dual_values")
        said = [np.asarray(each) for name, each in self.arrays().items() if name not in left_out]
        return hashlib.sha256(b"".join(each.tobytes() for each in said)).hexdigest()

    def _effect(self, kind: Literal["AND", "OR"], subset: int, effect: float, strength: float) -> Effect:
        players = lattice.members(subset)
        share = abs(effect) / strength if strength else math.nan
        return Effect(kind, tuple(self.words[player] for player in players), players, effect, share)

    def _check_l1(self) -> None:
        if type(penalty_of(self.origin.get("penalty", ""))) is not penalties.L1:
            raise ValueError(
                "intervals are known for the L1 penalty alone, of equal prices; this explanation has another."
            )

    def _player(self, named: str | int) -> int:
        if isinstance(named, int | np.integer) and not isinstance(named, bool) and 0 <= named < len(self.words):
            return int(named)
        if named in self.words:
            return self.words.index(named)
        raise KeyError(f"{named!r} is no player of this explanation. The players are {', '.join(self.words)}.")


def _strength(pair: Pair) -> float:
    """Sum of all |effects|."""
    return sum(float(np.abs(effects[1:]).sum()) for effects in pair)


def pandas_or_advice() -> ModuleType:
    """pandas, which only the methods named after it need. Raises ImportError that says how to install it."""
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError("to_pandas() needs pandas, which is not installed: pip install 'andor[pandas]'.") from error


def read_explanation(path: AnyPath) -> Explanation:
    """Read an explanation that was saved, and check it again: shapes, identity, certificate.

    Raises:
      FileNotFoundError: there is no such file.
      files.Damaged: it is not what was written, or its numbers do not prove what they say.
      ValueError: it holds values without effects.
      OSError: it could not be read.
    """
    arrays = files.read_arrays(path)
    if "v" in arrays and "and_effects" not in arrays:
        raise ValueError(
            f"{path} holds values of a prompt, and no effects. np.load opens it, and andor.extract(np.load(path)['v']) "
            "gives effects; the explanations of a run lie beside its recipe.json."
        )
    try:
        explanation = _explanation(arrays)
        check(explanation)
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    return explanation


def _explanation(arrays: Mapping[str, np.ndarray]) -> Explanation:
    """Raises KeyError, TypeError or ValueError for arrays that are missing or of another kind or shape."""
    values, solution = (of_arrays(kind, arrays) for kind in (Values, Solution))
    rest = plain(arrays, ("model", "id", "text", "prompt_target", *_PROMPT, *_ORIGIN))
    spans = [tuple(span) for span in rest["player_spans"].tolist()]
    around = rest["before"], rest["after"]
    chat = around if rest["chat"] and any(around) else rest["chat"]
    target, labels = rest["prompt_target"] or None, rest["labels"].split() or None
    prompt = Prompt(rest["text"], spans, target, rest["id"] or None, chat, rest["exact"], labels)
    if values.players != prompt.words:
        raise ValueError(f"it holds players {list(values.players)}, which are not those of its text.")
    *pair, dual_values = plain(arrays, _COMPACT).values()
    compact = Compact.of(values.v, (pair[0], pair[1]), dual_values)
    intervals = Intervals.of_arrays(arrays, (solution.and_effects, solution.or_effects))
    origin = {name: rest[name] for name in _ORIGIN}
    return Explanation(rest["model"], prompt, values, solution, compact, origin, intervals)


def of_arrays(kind: type, arrays: Mapping[str, np.ndarray]) -> Any:
    """`Values` or a `Solution` from its fields among the arrays. Raises as `plain`."""
    return kind(**plain(arrays, [field.name for field in dataclasses.fields(kind)]))


def plain(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, object]:
    """Arrays of a saved explanation by name, checked; numbers and text as Python has them.

    Raises:
      KeyError, TypeError, ValueError: one is missing, or of another kind or shape, or not finite.
    """
    n_players, found = len(arrays["players"]), {}
    shapes = {**dict.fromkeys(_PER_SUBSET, (2**n_players,)), "players": (n_players,), "player_spans": (n_players, 2)}
    for name in names:
        array, kind = arrays[name] if name in arrays else _LATER[name], _KINDS.get(name, "<f8")
        if array.dtype.kind != "U" if kind == "U" else array.dtype != kind:
            raise TypeError(f"{name} is {array.dtype}.")
        if array.shape != shapes.get(name, ()):
            raise ValueError(f"{name} has shape {array.shape}; it must be {shapes.get(name, ())}.")
        if kind == "<f8" and name not in _PERHAPS and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite.")
        if name in _PERHAPS and not (np.isnan(array) or 0 <= array < np.inf):
            raise ValueError(f"{name} is {array}; it must be nan where it was not measured, else finite and not < 0.")
        found[name] = tuple(array.tolist()) if name == "players" else array if array.ndim else array.item()
    return found


def check(explanation: Explanation) -> None:
    """Compute again what ties the numbers of an explanation together.

    Raises:
      ValueError: p is not that of v(N); effects and noise do not add up to v; the noise is beyond its bound; primal,
        dual or gap are not what effects and dual values give; the status is not that of the gap; the compact effects
        are too many, or no least squares of v.
    """
    values, solution = explanation.values, explanation.solution
    check_probability(values)
    v, bound = values.v, solution.noise_bound
    with np.errstate(over="ignore", invalid="ignore"):
        rebuilt = reconstruct(*explanation.pair()) + solution.noise
        sizes = np.abs(v).max() + sum(np.abs(effects).sum() for effects in explanation.pair())
        if not (np.isfinite(sizes) and np.abs(v - rebuilt).max() <= ROUNDING * sizes):
            raise ValueError("its effects do not add up to the values.")
    if np.abs(solution.noise).max() > (1 + ROUNDING) * bound:
        raise ValueError(f"its noise is beyond the bound of {bound:.6g}.")
    tolerance = json.loads(explanation.origin.get("solver") or "{}").get("tolerance", 1.0)
    if solution.converged and not solution.gap <= tolerance:
        raise ValueError(f"it says converged with a gap of {solution.gap:.3g}, where {tolerance:.3g} was asked for.")
    _check_compact(v, explanation.compact)
    penalty = penalty_of(explanation.origin.get("penalty", ""))
    if penalty is None:  # one of the user's own: only its code knows what it proves
        return
    weights = penalty.order_prices(lattice.orders(len(values.players)))
    differences, bounds = (v - v[0])[None], np.atleast_1d(bound)
    pair = tuple(effects[None] * (np.arange(v.size) > 0) for effects in explanation.pair())
    primal = float(objective(*pair, weights, penalty))
    dual_values = feasible_dual(differences, bounds, solution.dual_values[None], weights, penalty)
    dual = float(dual_bound(differences, bounds, dual_values, weights, penalty))
    gap = (primal - dual) / primal if primal else 0.0
    slack = 1e-9 * (primal + abs(dual))
    if abs(primal - solution.primal) > slack or solution.dual > dual + slack or solution.gap < gap - 1e-8:
        raise ValueError(
            f"it says primal {solution.primal:.9g}, dual {solution.dual:.9g}; its arrays give {primal:.9g}, {dual:.9g}."
        )


def _check_compact(v: np.ndarray, compact: Compact) -> None:
    """Raise ValueError unless there are few effects, and what they leave of v is orthogonal to each of them."""
    if compact.count > MOST_SHOWN:
        raise ValueError(f"its compact explanation has {compact.count} effects, and may have {MOST_SHOWN}.")
    few_players = lattice.orders(lattice.n_players_of(v)) <= 1
    if compact.and_effects[0] != v[0] or compact.or_effects[few_players].any():
        raise ValueError("its compact effects are not in canonical form.")
    left = v - reconstruct(*compact.pair)
    for effects, along in zip(
        compact.pair, (lattice.zeta_transposed(left), lattice.or_sums_transposed(left)), strict=True
    ):
        if (np.abs(along[1:][effects[1:] != 0]) > 1e3 * ROUNDING * v.size * (np.ptp(v) or 1.0)).any():
            raise ValueError("its compact effects are no least squares of the values.")


def check_probability(values: Values) -> None:
    """Raise ValueError unless p is what v(N) says: v = log p / (1 - p), where v is not a sum over tokens."""
    if values.score == "sum" and 0 <= values.target_probability <= 1:
        return
    with np.errstate(over="ignore"):
        expected = float(1 / (1 + np.exp(-values.v[-1])))
    if not abs(values.target_probability - expected) <= 1e-6:
        raise ValueError(f"it says p = {values.target_probability:.6g} where v(N) gives {expected:.6g}.")


def described(settings: Solver | penalties.Penalty) -> str:
    """A solver or a penalty by name and settings, as JSON."""
    return files.json_text({"name": type(settings).__name__, **dataclasses.asdict(settings)})


def penalty_of(text: str) -> penalties.Penalty | None:
    """The penalty that `described` gives as this text, L1 for ""; None for one that is not of `andor.penalties`."""
    if not text:
        return penalties.L1()
    settings = dict(json.loads(text))
    kind = getattr(penalties, settings.pop("name"), None)
    return kind(**settings) if isinstance(kind, type) and issubclass(kind, penalties.Penalty) else None
