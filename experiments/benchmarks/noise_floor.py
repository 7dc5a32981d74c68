"""What bfloat16, TF32 and float32 do to v, and to the order distribution of one prompt.

What:      one prompt is evaluated in each precision. A sample of masks is evaluated again, in another batch shape and
           order and in float32; noise of size s in v is noise of s 2^(|S| / 2) in a Harsanyi dividend of order |S|
           (ICLR 2024, arXiv 2401.16318, appendix D), so that the dividends of one order have at least the strength
           that noise alone would give them. Beside them the certified effects, with the measured bound on the noise.
           TF32 is a GPU's; elsewhere it is imitated by rounding both sides of every product to 10 bits of mantissa.
Command:   python -m experiments noise_floor [--model tiny-llama] [--figure figures/precision.png] [--smoke]
Hardware:  2 CPU cores, half a minute.
Expected:  float32 s about 2e-6, TF32 1e-3, bfloat16 6e-3. In bfloat16 the strength of AND effects alone at orders 8 to
           10 is what noise alone gives, or less; certified effects keep orders 1 to 4 within 15% and lose strength
           above, where the bound lets small effects go.
"""

import contextlib
import dataclasses
import math
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

import andor
from andor.core import lattice
from andor.evaluation import noise_floor, schedule
from andor.figures.style import TWO_COLUMNS, new_figure, style, title
from andor.measures.metrics import order_strength
from andor.prompts import DEFAULT_PROMPTS, tokenize
from experiments.benchmarks.common import markdown

PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Config:
    """What to evaluate.

    Attributes:
      model: an embedded model, a directory or a hub id.
      prompt: which of the prompts of the package.
      figure: where to draw; nothing is drawn without it.
      smoke: two precisions and few players, numbers without meaning.
    """

    model: str = "tiny-llama"
    prompt: int = 0
    figure: Path | None = None
    smoke: bool = False


@contextlib.contextmanager
def tf32():
    """Matrix products in TF32: by the device where it has it, else with rounded operands."""
    if jax.default_backend() == "gpu":
        with mock.patch.object(schedule, "MATMUL_PRECISION", "tensorfloat32"):
            yield
        return
    einsum = jnp.einsum

    def rounded(equation, *operands, **options):
        return einsum(equation, *(jax.lax.reduce_precision(x, 8, 10) for x in operands), **options)

    jax.clear_caches()  # what is compiled already would not notice
    with mock.patch.object(jnp, "einsum", rounded):
        yield
    jax.clear_caches()


def strengths(and_effects: np.ndarray, or_effects: np.ndarray) -> np.ndarray:
    """Sum of |effect| per order 1, ..., n_players."""
    found = order_strength(and_effects, or_effects)
    return found.positive + found.negative


def measure(config: Config, precision: str, prompt: andor.Prompt, target: str) -> dict:
    """s, and strength per order: of noise alone, of Harsanyi dividends, of certified effects."""
    model = andor.load(config.model, dtype="bfloat16" if precision == "bfloat16" else "float32")
    prompt_of_model = tokenize(prompt, model.tokenizer, target)
    with tf32() if precision == "tf32" else contextlib.nullcontext():
        values = andor.evaluate(model, prompt, target=target)
        with jax.default_matmul_precision(schedule.MATMUL_PRECISION):
            batch = noise_floor.measure(model.decoder, prompt_of_model, values.v).batch
    # The exact reference without TF32, on whatever device.
    floor = dataclasses.replace(noise_floor.measure(model.decoder, prompt_of_model, values.v), batch=batch)
    values = dataclasses.replace(values, forward_noise=floor.size, forward_bound=floor.bound)
    solution = andor.extract(values, noise="measured")
    orders = np.arange(1, prompt.n_players + 1)
    # |x| is s 2^(order / 2) sqrt(2 / pi) on average for a normal x of that size.
    noise = [math.comb(prompt.n_players, o) * floor.size * 2 ** (o / 2) * math.sqrt(2 / math.pi) for o in orders]
    return {
        "size": floor.size,
        "batch": float(np.sqrt(np.mean(floor.batch**2))),
        "exact": float(np.sqrt(np.mean(floor.exact**2))),
        "bound": values.measured_noise,
        "noise": np.array(noise),
        "dividends": strengths(lattice.moebius(values.v), np.zeros_like(values.v)),
        "certified": strengths(solution.and_effects, solution.or_effects),
        "gap": solution.gap,
    }


def table(results: dict[str, dict]) -> str:
    """Markdown: noise of v, then strength per order."""
    columns = "precision", "another batch", "against float64", "s", "bound", "certified gap"
    keys = "batch", "exact", "size", "bound", "gap"
    noise = [[name, *(f"{each[key]:.1e}" for key in keys)] for name, each in results.items()]
    said = {"dividends": "AND only", "noise": "noise alone", "certified": "certified"}
    strength = [
        [f"{name}, {label}", *(f"{x:.3g}" for x in each[what])]
        for name, each in results.items()
        for what, label in said.items()
    ]
    orders = [f"order {o}" for o in range(1, len(strength[0]))]
    return f"{markdown(columns, noise)}\n\n{markdown(['strength, nats', *orders], strength)}"


def draw(results: dict[str, dict], path: Path) -> None:
    """Strength per order in each precision: AND effects alone with what noise gives, and certified."""
    colours = dict(zip(PRECISIONS, ("#000000", "#56B4E9", "#E69F00"), strict=True))
    with matplotlib.rc_context(style()):
        figure = new_figure(TWO_COLUMNS, 2.6)
        title(figure, "In bfloat16 the AND effects of the highest orders are rounding")
        left, right = figure.subplots(1, 2, sharey=True)
        for name, each in results.items():
            orders = np.arange(1, len(each["noise"]) + 1)
            left.plot(orders, each["dividends"], "o-", ms=3, color=colours[name], label=name)
            left.plot(orders, each["noise"], ":", color=colours[name])
            right.plot(orders, each["certified"], "o-", ms=3, color=colours[name], label=f"s = {each['size']:.0e}")
        for ax, heading in ((left, "AND effects alone; dotted: noise alone"), (right, "AND and OR, certified")):
            ax.set(title=heading, xlabel="order |S|", yscale="log", xticks=orders)
            ax.yaxis.set_major_formatter("{x:g}")
            ax.legend()
        left.set_ylabel("strength, nats")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def main(config: Config) -> dict[str, dict]:
    """Measure, print the tables, and draw if asked."""
    prompt = andor.read_prompts(DEFAULT_PROMPTS)[config.prompt]
    if config.smoke:
        prompt = andor.Prompt(prompt.text, prompt.words[-4:])
    precisions = PRECISIONS[1:] if config.smoke else PRECISIONS
    target = andor.predict_target(andor.load(config.model, dtype="float32"), prompt)
    results = {precision: measure(config, precision, prompt, target) for precision in precisions}
    print(f"{config.model}, {prompt.text!r}, target {target!r}\n\n{table(results)}")
    if config.figure is not None:
        draw(results, config.figure)
    return results
