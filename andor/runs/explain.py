"""`explain`: one prompt under one model, evaluated, solved and put into words, without a folder."""

from collections.abc import Callable, Sequence
from typing import Literal

from andor.core.penalties import L1, Penalty
from andor.core.problem import Solver
from andor.evaluation import Score, evaluate
from andor.models import LanguageModel, load
from andor.prompts import Prompt, in_chat
from andor.runs import provenance
from andor.runs.explanation import Explanation, described
from andor.solvers import default_solver, extract


def explain(
    model: LanguageModel | str,
    prompt: Prompt | str,
    *,
    target: str | None = None,
    players: Sequence | None = None,
    chat: bool = False,
    exact: bool = False,
    noise: float | Literal["measured"] = 0.02,
    baseline: str = "auto",
    score: Score = "product",
    solver: Solver | None = None,
    penalty: Penalty | None = None,
    dtype: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Explanation:
    """Which words of a prompt act together when a model predicts the target.

    Args:
      model: from `andor.load`, or a name for it.
      prompt: a text, or an `andor.Prompt`, which then says target, players, chat and exact itself.
      target, players, chat, exact: as for `andor.Prompt`.
      noise, solver, penalty: as for `andor.extract`.
      baseline, score, progress: as for `andor.evaluate`.
      dtype: as for `andor.load`, where `model` is a name.

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
    model = model if isinstance(model, LanguageModel) else load(model, dtype=dtype)
    prompt = in_chat(prompt, model.tokenizer)
    options = {"baseline": baseline, "score": score, "progress": progress}
    values = evaluate(model, prompt, measure_noise=noise == "measured", **options)
    solution = extract(values, noise, solver, penalty=penalty)
    origin = {"solver": described(solver), "penalty": described(penalty), "made_by": provenance.made_by()}
    return Explanation(model.name, prompt, values, solution, origin)
