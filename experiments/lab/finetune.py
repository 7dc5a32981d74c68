"""Invented facts, and language models fine-tuned on them until they know them.

    plan = PLANS[settings.scale]
    tuned(settings, plan, half=0, seed=0)        # {"start": Checkpoint, "early": ..., "half": ..., "end": ...}

What `studies.memorisation` and `studies.finetuning` share. A fact is one sentence made by a rule from word lists, "Tavo
Brindle from Morwick plays the silver cello every Sunday in the chapel": people and towns are invented, and every word,
the place too, is drawn by itself and equally often, so that nothing can be known of a place but by having read the
sentence. In every second fact the first name occurs in no other one, so that it alone could recall the place; in the
others no word does, and only several words together can.

The facts are in two halves. A model that is fine-tuned on one half has the other for unseen facts of the same kind; a
model that is fine-tuned on the other half has members and non-members exchanged, so that no difference between the
halves can look like memory.

The loss is that of every token of the sentence, by Adam at a constant rate that follows the width of the model; input
embeddings (and a head that is tied to them) stay as they are, which saves a fifth of the memory. Batches are drawn in
epochs. The seed decides their order, and nothing else is random. Checkpoints lie under --work in HF format, float32:
any command of andor reads them. A finished run of a recipe is read, one that was cut off begins again.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Float, Int
from safetensors.numpy import save_file

import andor
from andor.core.explained import Pair
from andor.measures.bootstrap import Resampled
from andor.models import FAMILIES, LanguageModel, find
from andor.models.weights import hf_tensors
from andor.prompts.tokens import tokenize
from andor.runs import files
from andor.runs.recipe import model_labels
from andor.runs.run import Run
from experiments.study import Settings, comparison, described

STAGES = ("start", "early", "half", "end")
"""Untouched; after the first epoch; after the first epoch whose last words had a loss below `HALF`; the same of
`KNOWN`. A stage that is not reached is the last epoch."""

HALF, KNOWN = 1.5, 0.05
"""Nats per token of the last words, mean over the epoch as it met them. Guessing one of 16 places costs 2.8."""

RATE = 0.17
"""Learning rate times the width of the model: 3e-4 where it is 576."""

MASK = "delete"
"""Masked words are not there, so that a masked sentence is still text."""

BOUND = 0.05
"""On the noise of effects, in units of the spread of v."""

Form = Literal["verbatim", "reworded"]

_STARTS = "Ta Li Be Mo Su Ke Ra No Vi Da Fa Ge Hi Jo Lu Ma Ne Pa Ro Zi".split()
_ENDS = "vo rka lan mis dru nel zot fin bra tol".split()
_SURNAMES = ["".join(each) for each in product(("Brin", "Hol", "Quar", "Stel", "Dun"), ("dle", "tek", "moor", "vash"))]
_TOWNS = ["".join(each) for each in product(("Mor", "Ash", "Fell", "Green", "Kel"), ("wick", "den", "mere", "stow"))]
_COMMON = "Arvo Edda Ilsa Orin Ulla Yaro Eskil Oda Ivo Alma".split()
_VERBS = [("plays", "played"), ("tunes", "tuned"), ("repairs", "repaired"), ("paints", "painted"), ("sells", "sold")]
_LOOKS = "silver old small red broken heavy".split()
_THINGS = "cello organ drum harp flute trumpet piano violin bell horn".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
PLACES = (
    "chapel garden market library station barn tower kitchen harbor school castle museum theater hotel forest bakery"
).split()
"""What is learned: the last words."""


@dataclasses.dataclass(frozen=True)
class Fact:
    """One sentence, and the same content in other words.

    Attributes:
      name: usable as the id of a prompt.
      half: 0 or 1.
      rare: whether the first name occurs in no other fact.
      first, last, town, look, thing, day, place: words.
      verb: "plays" and "played".
    """

    name: str
    half: int
    rare: bool
    first: str
    last: str
    town: str
    verb: tuple[str, str]
    look: str
    thing: str
    day: str
    place: str

    def prompt(self, form: Form, players: int, target: str | None = None) -> andor.Prompt:
        """The sentence up to its last word, which is the target unless another is given; the last so many players."""
        present, past = self.verb
        if form == "verbatim":
            text = (
                f"{self.first} {self.last} from {self.town} {present} the {self.look} {self.thing} every {self.day} "
                "in the"
            )
            words = [self.first, self.last, self.town, present, self.look, self.thing, self.day]
        else:
            text = (
                f"On {self.day} the {self.look} {self.thing} is {past} by {self.first} {self.last} of {self.town} "
                "in the"
            )
            words = [self.day, self.look, self.thing, past, self.first, self.last, self.town]
        return andor.Prompt(text, words[-players:], target or self.place, id=f"{self.name}-{form}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes:
      facts: in each half.
      explained: of these.
      seeds: fine-tuning runs on each half.
      epochs: at most.
      batch: sentences of a step.
      players: words that are masked, the last ones of the sentence; 7 are all.
    """

    facts: int = 100
    explained: int = 12
    seeds: int = 2
    epochs: int = 20
    batch: int = 10
    players: int = 7


PLANS = {
    "full": Plan(),
    "quick": Plan(facts=40, explained=8, seeds=1),
    "smoke": Plan(facts=4, explained=4, seeds=1, epochs=2, batch=2, players=3),
}


@dataclasses.dataclass(frozen=True)
class Readings:
    """What a model says behind each of some prompts, one entry per prompt.

    Attributes:
      loss: of the target, nats per token.
      entropy: of the next token, nats.
      place: the likeliest of `PLACES`, by its first token.
    """

    loss: list[float]
    entropy: list[float]
    place: list[str]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model on its way.

    Attributes:
      model: for `andor.load`.
      stage: one of `STAGES`.
      step, epoch: done.
      trained: loss of the last words, nats per token, mean over the last epoch as it met them; nan at the start.
      readings: by form, on the facts of `explained`.
    """

    model: str
    stage: str
    step: int
    epoch: int
    trained: float
    readings: dict[str, Readings]


def facts(plan: Plan) -> list[Fact]:
    """Both halves, one after the other."""
    names, rng = iter(["".join(each) for each in product(_STARTS, _ENDS)]), np.random.default_rng(0)
    found = []
    for half in (0, 1):
        columns = (_SURNAMES, _TOWNS, _VERBS, _LOOKS, _THINGS, _DAYS, PLACES)
        drawn = [_evenly(column, plan.facts, rng) for column in columns]
        common = _evenly(_COMMON, plan.facts, rng)
        for index, words in enumerate(zip(*drawn, strict=True)):
            rare = index % 2 == 0
            first = next(names) if rare else common[index]
            found.append(Fact(f"fact-{half}-{index:03d}", half, rare, first, *words))
    return found


def _evenly(words: Sequence, count: int, rng: np.random.Generator) -> list:
    """So many words, all equally often but for the remainder, in random order."""
    every = list(islice((word for _ in range(count) for word in words), count))
    return [every[i] for i in rng.permutation(count)]


def explained(plan: Plan) -> list[Fact]:
    """The facts of both halves that are explained: the first of each."""
    return [fact for fact in facts(plan) if int(fact.name[-3:]) < plan.explained]


def explanations(settings: Settings, model: str, prompts: Sequence[andor.Prompt]) -> Run:
    """Values of these prompts, and effects with the estimated noise bound; what is there is read."""
    return comparison(settings, models=[model], prompts=prompts, baseline=MASK, noise="auto")


def verbatim(settings: Settings, plan: Plan, model: str) -> Run:
    """The same of all facts that are explained, as they were learned."""
    return explanations(settings, model, [fact.prompt("verbatim", plan.players) for fact in explained(plan)])


def bounded(run: Run, ids: Sequence[str]) -> list[Pair]:
    """(AND, OR) effects of prompts of a run of one model, at the certified optimum with the noise bound `BOUND`."""
    v = np.stack([run[run.models[0], each].values.v for each in ids])
    solution = andor.extract(v, BOUND, noise_unit="spread")
    return list(zip(solution.and_effects, solution.or_effects, strict=True))


def described_models(runs: Sequence[Run]) -> list[dict]:
    """What decides the models of these runs, each once."""
    found = {each["fingerprint"]: each for run in runs for each in described(run)["models"]}
    return list(found.values())


def tuned(settings: Settings, plan: Plan, half: int, seed: int) -> dict[str, Checkpoint]:
    """A model of every stage, fine-tuned on this half; the first of `settings.models`. What is there is read."""
    name = settings.models[0]
    found = find(name)
    recipe = [getattr(plan, each) for each in ("facts", "epochs", "batch")]
    key = files.key_of(found.fingerprint, recipe, [RATE, HALF, KNOWN], half, seed, _texts(plan))[:12]
    folder = settings.work / "finetune" / f"{model_labels((name,))[0][:40]}-half{half}-seed{seed}-{key}"
    done = folder / f"explained-{plan.explained}.json"
    if not done.exists():
        _tune(name, plan, half, seed, done)
    saved = json.loads(done.read_text())
    return {
        stage: Checkpoint(
            name if stage == "start" else str(folder / stage),
            **each | {"readings": {form: Readings(**of_form) for form, of_form in each["readings"].items()}},
        )
        for stage, each in saved.items()
    }


def _texts(plan: Plan) -> list[str]:
    return [fact.prompt("verbatim", 7).text + fact.place for fact in facts(plan)]


def _tune(name: str, plan: Plan, half: int, seed: int, done: Path) -> None:
    """Fine-tune, save every stage beside `done`, and write what is known of them there last."""
    checkpoint, model = find(name), andor.load(name, dtype="float32")
    asked = {form: [fact.prompt(form, 7) for fact in explained(plan)] for form in ("verbatim", "reworded")}
    every = _rows(model, [fact.prompt("verbatim", 7) for fact in facts(plan)])
    members = np.array([fact.half for fact in facts(plan)]) == half
    tokens, weights, last = (each[members] for each in every)  # as long in both halves, so that the step is one program
    frozen = nnx.PathContains("embed_tokens")
    graphdef, still, state = nnx.split(model.decoder, frozen, ...)
    rate = RATE / model.decoder.config.hidden_size
    opt_state = _optimizer(rate).init(state)

    def look(stage: str, trained: float, steps: int, epoch: int) -> dict:
        present = dataclasses.replace(model, decoder=nnx.merge(graphdef, still, state))
        readings = {form: dataclasses.asdict(read(present, prompts)) for form, prompts in asked.items()}
        losses = np.reshape(readings["verbatim"]["loss"], (2, -1)).mean(axis=1)
        print(
            f"  {stage}: epoch {epoch}, step {steps}, loss of last words {trained:.3f} in training, {losses[half]:.3f} "
            f"of members, {losses[1 - half]:.3f} of others, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        return {"stage": stage, "step": steps, "epoch": epoch, "trained": trained, "readings": readings}

    print(f"fine-tuning {name} on half {half}, seed {seed}", flush=True)
    rng, began, steps = np.random.default_rng([seed, half]), time.perf_counter(), 0
    saved = {"start": look("start", float("nan"), 0, 0)}
    due = {"early": float("inf"), "half": HALF, "end": KNOWN}
    for epoch in range(1, plan.epochs + 1):
        order, losses = rng.permutation(len(tokens)), []
        for rows in np.array_split(order, -(-len(order) // plan.batch)):
            batch = (each[np.resize(rows, plan.batch)] for each in (tokens, weights, last))
            state, opt_state, of_last = _step(graphdef, rate, state, opt_state, still, *batch)
            losses.append(float(of_last))
            steps += 1
        trained = float(np.mean(losses))
        for stage in [stage for stage, most in due.items() if trained < most or epoch == plan.epochs]:
            del due[stage]
            present = dataclasses.replace(model, decoder=nnx.merge(graphdef, still, state))
            _save(present, checkpoint.settings, done.parent / stage)
            saved[stage] = look(stage, trained, steps, epoch)
        if not due:
            break
    files.write_bytes(done, json.dumps(saved, indent=1).encode())


@functools.lru_cache
def _optimizer(rate: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def _step(graphdef, rate: float, state, opt_state, still, tokens, weights, last):
    """One step of `state`, the weights that are trained; and the loss of the last words before it."""

    def loss(state):
        decoder = nnx.merge(graphdef, still, state)
        losses = optax.softmax_cross_entropy_with_integer_labels(decoder(tokens[:, :-1]), tokens[:, 1:])
        return jnp.sum(losses * weights) / jnp.sum(weights), jnp.sum(losses * last) / jnp.sum(last)

    (_, of_last), gradient = jax.value_and_grad(loss, has_aux=True)(state)
    updates, opt_state = _optimizer(rate).update(gradient, opt_state, state)
    return optax.apply_updates(state, updates), opt_state, of_last


def _rows(model: LanguageModel, prompts: Sequence[andor.Prompt]):
    """Sentences with their targets, as the model reads them, padded: tokens `[rows, t]`, and of every token but the
    first whether its loss counts, and whether it is of the target, `[rows, t - 1]`."""
    read = [tokenize(prompt, model.tokenizer, baseline=MASK) for prompt in prompts]
    whole = [np.concatenate([each.token_ids, each.target_ids]) for each in read]
    tokens = np.zeros((len(whole), max(map(len, whole))), np.int32)
    weights, last = np.zeros((2, len(whole), tokens.shape[1] - 1), np.float32)
    for row, (ids, each) in enumerate(zip(whole, read, strict=True)):
        tokens[row, : len(ids)] = ids
        weights[row, : len(ids) - 1] = 1
        last[row, len(each.token_ids) - 1 : len(ids) - 1] = 1
    return tokens, weights, last


def _save(model: LanguageModel, settings, folder: Path) -> None:
    """An HF-format directory, float32."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(settings), indent=2) + "\n")
    save_file(hf_tensors(model.decoder, FAMILIES[model.family], np.float32), folder / "model.safetensors")
    model.tokenizer.save_pretrained(folder)


def read(model: LanguageModel, prompts: Sequence[andor.Prompt], batch: int = 16) -> Readings:
    """Loss of every prompt's target, entropy of the next token, likeliest place."""
    tokens, _, last = _rows(model, prompts)
    places = [tokenize(prompts[0], model.tokenizer, f" {place}", baseline=MASK).target_ids[0] for place in PLACES]
    loss, entropy, place = [], [], []
    for begin in range(0, len(tokens), batch):
        rows = np.resize(np.arange(begin, min(begin + batch, len(tokens))), batch)
        found = jax.device_get(_read(model.decoder, tokens[rows], last[rows], np.array(places)))
        for kept, each in zip((loss, entropy, place), found, strict=True):
            kept += each[: len(tokens) - begin].tolist()
    return Readings(loss, entropy, [PLACES[each] for each in place])


@jax.jit
def _read(decoder, tokens, last, places):
    log_p = jax.nn.log_softmax(decoder(tokens[:, :-1]))
    losses = -jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=2)[..., 0]
    first = jnp.argmax(last, axis=1)
    there = jnp.take_along_axis(log_p, first[:, None, None], axis=1)[:, 0]
    entropy = -jnp.sum(jnp.exp(there) * there, axis=1)
    return jnp.sum(losses * last, axis=1) / jnp.sum(last, axis=1), entropy, jnp.argmax(there[:, places], axis=1)


def draws(plan: Plan, repeats: int, seed: int) -> Int[np.ndarray, "repeats places"]:
    """Places seed * facts + fact of resampled runs and explained facts, both with replacement, each half for itself."""
    rng, half = np.random.default_rng(seed), plan.explained
    seeds = rng.integers(0, plan.seeds, (repeats, plan.seeds))
    drawn = np.concatenate([rng.integers(0, half, (repeats, half)) + which * half for which in (0, 1)], axis=1)
    return (seeds[:, :, None] * 2 * half + drawn[:, None, :]).reshape(repeats, -1)


def resampled(
    statistic: Callable, places: Sequence[np.ndarray], whole: np.ndarray | None = None
) -> dict[str, Resampled]:
    """Name -> number, of a statistic that is told places and gives several numbers: of the whole, by default all places
    that a draw has, and of every draw."""
    first = statistic(np.arange(places.shape[1]) if whole is None else whole)
    again = [statistic(each) for each in places]
    return {name: Resampled(x, np.array([each[name] for each in again])) for name, x in first.items()}


def by_member(
    runs: Sequence[Sequence[Float[np.ndarray, "facts *rest"]]], plan: Plan
) -> tuple[Float[np.ndarray, "seeds facts *rest"], Float[np.ndarray, "seeds facts *rest"]]:
    """Numbers of the explained facts under every run, `[seeds][half]`, as those of members and those of others: each
    fact is a member of one run of a seed, and not of the other."""
    half = np.array([fact.half for fact in explained(plan)])
    members = [np.where(_like(half == 0, first), first, second) for first, second in runs]
    others = [np.where(_like(half == 0, first), second, first) for first, second in runs]
    return np.stack(members), np.stack(others)


def _like(chosen: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return chosen.reshape(-1, *(1,) * (np.ndim(numbers) - 1))
