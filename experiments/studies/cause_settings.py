"""The ways of training that `studies.causes` compares: one cause at a time, and remedies."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way of training.

    Attributes:
      data: phrases, as a multiple of the base.
      label_noise: share of flipped labels.
      samples: "mixed", "easy" or "hard".
      weight_decay: of AdamW.
      early: whether the model is also looked at before the end.
    """

    data: float = 1.0
    label_noise: float = 0.0
    samples: str = "mixed"
    weight_decay: float = 0.0
    early: bool = False


SETTINGS = {
    "base": Setting(early=True),
    "few": Setting(data=0.25, early=True),
    "more": Setting(data=4.0),
    "noise 15%": Setting(label_noise=0.15),
    "noise 30%": Setting(label_noise=0.3, early=True),
    "easy": Setting(samples="easy"),
    "hard": Setting(samples="hard"),
    "few, decay": Setting(data=0.25, weight_decay=1.0),
}

EARLY = "early stop"
"""Behind the name of a setting: at the watched step of least validation loss."""

CAUSES = {
    "training steps": None,  # the base at every watched step
    "phrases": ("few", "base", "more"),
    "flipped labels": ("base", "noise 15%", "noise 30%"),
    "samples": ("easy", "base", "hard"),
}
"""Cause -> models in order of its strength."""

CHANGES = (
    ("cause", "trained longer", "base, first", "base"),
    ("cause", "less data", "more", "few"),
    ("cause", "noisy labels", "base", "noise 30%"),
    ("cause", "hard samples", "easy", "hard"),
    ("remedy for long training", "early stop", "base", f"base, {EARLY}"),
    ("remedy for long training", "more data", "base", "more"),
    ("remedy for little data", "more data", "few", "base"),
    ("remedy for little data", "early stop", "few", f"few, {EARLY}"),
    ("remedy for little data", "weight decay", "few", "few, decay"),
    ("remedy for noisy labels", "clean labels", "noise 30%", "base"),
    ("remedy for noisy labels", "early stop", "noise 30%", f"noise 30%, {EARLY}"),
)
"""(kind, what is changed, model before, model after)."""

NUMBERS = {"score": "score", "mean_order": "mean order", "cancellation": "cancellation"}
