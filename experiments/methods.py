"""The three ways of finding effects that the studies put side by side, on the same values v.

certified    least total strength of AND and OR effects, proved to 1e-6 (`andor.solvers.InteriorPoint`)
and_only     Harsanyi dividends, the one set of AND effects that adds up to v (arXiv 2305.01939)
published    AND and OR effects by gradient descent as published (`andor.solvers.Published`; arXiv 2401.16318)
"""

from dataclasses import dataclass

from andor import metrics, results, store
from andor.figures import style
from andor.solvers import Published
from experiments.study import Settings, comparison

LABELS = {"certified": "certified optimum", "and_only": "AND only (Harsanyi)", "published": "published solver"}
"""Name of a method -> what figures call it."""

SMOKE_STEPS = 200


@dataclass(frozen=True)
class Effects:
    """Effects of every model on every prompt by every method.

    Attributes:
      run: at the certified optimum.
      published: the same models and prompts with the published solver.
    """

    run: store.Run
    published: store.Run

    def pair(self, method: str, model: str, prompt_id: str) -> metrics.Pair:
        """(AND effects, OR effects) of one prompt."""
        if method == "and_only":
            return results.and_only(self.run, model, prompt_id)
        return results.optimum(self.published if method == "published" else self.run, model, prompt_id)


def published_solver(settings: Settings) -> Published:
    """50,000 steps, as published; fewer only in a smoke run."""
    return Published(steps=SMOKE_STEPS) if settings.smoke else Published()


def effects(settings: Settings) -> Effects:
    """Effects of the settings' models and prompts; runs that are there are read."""
    return Effects(comparison(settings), comparison(settings, solver=published_solver(settings)))


def look(method: str, place: int = 0) -> dict:
    """Colour and dashes of a method's line: the certified optimum in the colour of the model at this place."""
    if method == "certified":
        return {"color": style.model_colour(place), "ls": "-"}
    return {"color": style.AND_ONLY, "ls": "--"} if method == "and_only" else {"color": style.MUTED, "ls": ":"}
