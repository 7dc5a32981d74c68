"""`explain`: one prompt under one model, evaluated, solved and put into words, without a folder."""

from collections.abc import Sequence
from typing import Literal

from andor.core.penalties import L1, Penalty
from andor.core.problem import Solver
from andor.evaluation import Score, evaluate
from andor.models import LanguageModel, load
from andor.prompts import Prompt, in_chat, joined
from andor.runs import provenance
from andor.runs.explanation import MOST_SHOWN, Explanation, described
from andor.runs.stages import Progress, evaluating, silent
from andor.solvers import default_solver, extract
from andor.solvers.compact import compact_of


def explain(
    model: LanguageModel | str,
    prompt: Prompt | str,
    *,
    target: str | None = None,
    players: Sequence | None = None,
    chat: bool = False,
    exact: bool = False,
    noise: float | Literal["auto", "measured"] = "auto",
    baseline: str = "auto",
    score: Score = "product",
    solver: Solver | None = None,
    penalty: Penalty | None = None,
    dtype: str = "auto",
    progress: Progress | None = None,
) -> Explanation:
    """Which words of a prompt act together when a model predicts the target.

    Args:
      model: from `andor.load`, or a name for it.
      prompt: a text, or an `andor.Prompt`, which then says target, players, chat and exact itself.
      target: the word or text to explain after the prompt; by default what the model predicts.
      players: the words to mask, in text order, or their `(start, stop)` spans; by default the content words nearest
        the target.
      chat: whether to wrap the text with the model's chat template.
      exact: whether the target follows exactly as it is written, without a space put before it.
      noise: bound on the noise at the certified optimum: "auto", "measured", or a multiple of |v(N) - v(∅)|
        (`andor.extract`).
      baseline: what becomes of masked tokens (`andor.evaluate`).
      score: of a target of several tokens (`andor.evaluate`).
      solver, penalty: how effects are found (`andor.extract`); by default the exact solver and L1.
      dtype: of the weights, where `model` is a name (`andor.load`).
      progress: as for `andor.compare`.

    Raises:
      ValueError, FileNotFoundError, RuntimeError: as `andor.Prompt`, `andor.load`, `andor.evaluate`, `andor.extract`.
    """
    if isinstance(prompt, Prompt):
        if target is not None or players is not None or chat or exact:
            raise ValueError(
                "explain(prompt=Prompt(...)) has its target, players, chat and exact in the prompt; got them beside it "
                "too."
            )
    else:
        prompt = Prompt(prompt, players=players, target=target, chat=chat, exact=exact)
    penalty = penalty or L1()
    solver = solver or default_solver(prompt.n_players, penalty)
    solver.check_memory(prompt.n_players)  # what would be refused after all masks are evaluated is refused before
    progress = progress or silent
    if not isinstance(model, LanguageModel):
        name = model
        progress("load", name, 0, 1)
        model = load(name, dtype=dtype)
        progress("load", name, 1, 1)
    prompt = joined(in_chat(prompt, model.tokenizer), model.tokenizer)
    report = evaluating(progress, model.name, 0, 2**prompt.n_players)
    options = {"baseline": baseline, "score": score, "progress": report}
    values = evaluate(model, prompt, measure_noise=noise == "measured", **options)
    progress("solve", model.name, 0, 1)
    solution = extract(values, noise, solver, penalty=penalty)
    (few,) = compact_of(values.v[None], [solution], MOST_SHOWN)
    progress("solve", model.name, 1, 1)
    origin = {"solver": described(solver), "penalty": described(penalty), "made_by": provenance.made_by()}
    return Explanation(model.name, prompt, values, solution, few, origin)
