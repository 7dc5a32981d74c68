"""Train a zoo of small sentiment models that generalise well, badly or not at all, and score each.

What:      30 Llama and Qwen2 models of 0.2 and 0.1 M parameters on SST-2 sentiment ("<phrase>\\nsentiment: positive",
           words masked in half of the documents), all with one tokenizer of 2048 tokens. The training phrases are
           divided by parent sentence into five parts. For each of the three architectures
             reference-1..4      on parts 1 to 4, one each: what other data of the same task teaches
             all                 on all parts
             part                on part 0, into overfitting (no dropout, no weight decay, constant rate)
             third, tenth, few   on a third, a tenth and a fortieth (about 270 phrases) of part 0, the same way
             noise               on a third of part 0 with 30% of its labels flipped, the same way
Command:   python -m experiments zoo --corpus DATA
           DATA holds sst2/train.tsv and sst2/dev.tsv. A model that is there already, made by the same recipe from
           the same files, is not trained again. The folders are in HF format: `andor.load` reads them.
Hardware:  CPU, one core is enough. MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 (glibc)
           help, as for train_embedded.
Minutes:   20 (--quick: 2), of one core
Scores:    scores.json beside each model: label cross-entropy (nats) and accuracy on the phrases it was trained on (with
           the labels it was given), on SST-2 dev and on held-out phrases (`validation`: 5% of the parent sentences).
"""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.lab import corpus, training
from experiments.lab.corpus import Phrase, choose, read_sst2, sentiment_documents
from experiments.lab.training import Recipe, Source, sentiment_scores

VOCAB_SIZE = 2048
PARTS = 5
REFERENCES = 4
ROWS = 8  # of 128 tokens: about 47 phrases a step
ARCHITECTURES = {"llama-small": (64, 0.15), "qwen2-small": (64, 0.15), "llama-tiny": (32, 0.05)}
"""Name -> width, and dropout of the regularised models. All have two layers."""
_BY_HEART = {"decay_to_zero": False, "weight_decay": 0.0, "dropout": 0.0}


@dataclass(frozen=True)
class Config:
    """Train the zoo."""

    corpus: Path
    """Folder with sst2/train.tsv and sst2/dev.tsv."""
    work: Path = Path("runs/experiments")
    """Models are written to its folder zoo/, zoo-quick/ or zoo-smoke/."""
    quick: bool = False
    """Only the architecture that is trained fastest, a quarter of the steps."""
    smoke: bool = False
    """One model and two references, a few steps: only to see that everything runs."""
    seed: int = 0
    only: tuple[str, ...] = ()
    """Train only models whose name begins with one of these ("llama-small"), by default all: for several processes."""


@dataclass(frozen=True)
class Member:
    """One model of the zoo.

    Attributes:
      name: unique; also the name of its folder.
      kind: "reference", or what sets it apart: "all", "part", "third", "tenth", "few", "noise".
      recipe: how it is trained.
      part: which part of the phrases it is trained on; None for all.
    """

    name: str
    kind: str
    recipe: Recipe
    part: int | None


@dataclass(frozen=True)
class Scored:
    """A trained member: its folder, and what stands in scores.json under "scores"."""

    member: Member
    folder: Path
    scores: dict

    @property
    def architecture(self) -> str:
        return "-".join(self.member.name.split("-")[:2])

    @property
    def gap(self) -> float:
        """Label cross-entropy on dev less that on the training phrases, nats."""
        return self.scores["dev"]["cross_entropy"] - self.scores["train"]["cross_entropy"]

    @property
    def validation_gap(self) -> float:
        """The same for held-out phrases, which are drawn as the training phrases are."""
        return self.scores["validation"]["cross_entropy"] - self.scores["train"]["cross_entropy"]


def members(config: Config) -> list[Member]:
    """The whole zoo, in the order in which it is trained."""
    found: list[Member] = []
    for architecture in list(ARCHITECTURES)[-1 if config.quick or config.smoke else 0 :]:
        width, dropout = ARCHITECTURES[architecture]
        size = {"width": width, "layers": 2, "dropout": dropout, "label_weight": 8.0, "row_tokens": 128}
        base = Recipe(architecture.split("-")[0], steps=1600, learning_rate=3e-3, **size)
        kinds = {
            "few": ({"steps": 600, "fraction": 0.025, **_BY_HEART}, 0),
            "tenth": ({"steps": 800, "fraction": 0.1, **_BY_HEART}, 0),
            "third": ({"steps": 1000, "fraction": 1 / 3, **_BY_HEART}, 0),
            "part": (_BY_HEART, 0),
            "noise": ({"steps": 1200, "fraction": 1 / 3, "label_noise": 0.3, **_BY_HEART}, 0),
            "all": ({}, None),
        }
        if config.smoke:
            kinds = {"part": kinds["part"]}
        for kind, (changes, part) in kinds.items():
            found.append(Member(f"{architecture}-{kind}", kind, dataclasses.replace(base, **changes), part))
        for part in range(1, 3 if config.smoke else 1 + REFERENCES):
            reference = dataclasses.replace(base, steps=1500)
            found.append(Member(f"{architecture}-reference-{part}", "reference", reference, part))
    steps = [4 if config.smoke else each.recipe.steps // (4 if config.quick else 1) for each in found]
    # Every model has a seed of its own, so that no two begin alike.
    scaled = [{"steps": each, "seed": 1000 * config.seed + place} for place, each in enumerate(steps)]
    return [
        dataclasses.replace(member, recipe=dataclasses.replace(member.recipe, **changes))
        for member, changes in zip(found, scaled, strict=True)
    ]


def folder_of(config: Config) -> Path:
    return config.work / ("zoo-smoke" if config.smoke else "zoo-quick" if config.quick else "zoo")


def corpus_digest(folder: Path) -> str:
    """SHA-256 of sst2/train.tsv and sst2/dev.tsv, one after the other: what the zoo is trained on and scored on."""
    files = ((folder / "sst2" / f"{part}.tsv").read_bytes() for part in ("train", "dev"))
    return hashlib.sha256(b"".join(files)).hexdigest()


def finished(config: Config) -> list[Scored]:
    """The models that are there already, trained as this code would train them, on the corpus of `config`."""
    found, digest = [], corpus_digest(config.corpus)
    for member in members(config):
        folder = folder_of(config) / member.name
        file = folder / "scores.json"
        if file.exists():
            saved = json.loads(file.read_text())
            wanted = {"recipe": dataclasses.asdict(member.recipe), "part": member.part, "corpus": digest}
            if wanted.items() <= saved.items():
                found.append(Scored(member, folder, saved["scores"]))
    return found


def main(config: Config) -> list[Scored]:
    """Train what is missing. Returns the models asked for, in the order of `members`."""
    began = time.perf_counter()
    done = {each.member.name: each for each in finished(config)}
    wanted = [member for member in members(config) if member.name.startswith(config.only or "")]
    missing = [member for member in wanted if member.name not in done]
    if missing:
        sst2, digest = config.corpus / "sst2", corpus_digest(config.corpus)
        train, validation = corpus.split_by_parent(read_sst2(sst2 / "train.tsv"), share=0.05, seed=config.seed)
        dev = read_sst2(sst2 / "dev.tsv")
        tokenizer = corpus.sentiment_tokenizer(train, VOCAB_SIZE)
        parts = corpus.folds_by_parent(train, PARTS, config.seed)
        # Scoring takes longer than a quick training.
        held_out = {
            name: sentiment_documents(tokenizer, phrases[:: 4 if config.quick else 1], 1.0)
            for name, phrases in (("dev", dev), ("validation", validation or dev))
        }
    for member in missing:
        phrases = train if member.part is None else parts[member.part]
        scored = _train(member, phrases, tokenizer, held_out, folder_of(config) / member.name, digest)
        losses = ", ".join(f"{name} {each['cross_entropy']:.3f}" for name, each in scored.scores.items())
        print(
            f"[{time.perf_counter() - began:5.0f} s] {member.name:26s} dev accuracy "
            f"{scored.scores['dev']['accuracy']:.3f}, label cross-entropy {losses}",
            flush=True,
        )
        done[member.name] = scored
    return [done[member.name] for member in wanted]


def _train(member: Member, phrases: list[Phrase], tokenizer, held_out: dict, folder: Path, digest: str) -> Scored:
    recipe = member.recipe
    began = time.perf_counter()
    chosen = choose(phrases, recipe.fraction, recipe.label_noise, recipe.seed)
    documents = sentiment_documents(tokenizer, chosen, recipe.label_weight)
    model = training.train(recipe, [Source(documents, ROWS)], tokenizer)
    seconds = time.perf_counter() - began
    training.save(model, folder, tokenizer)
    model = training.load(folder)  # score what is stored, not what was trained
    seen = documents[:: len(documents) // 2000 or 1]
    scores = {name: sentiment_scores(model, each, tokenizer) for name, each in {"train": seen, **held_out}.items()}
    record = {
        "recipe": dataclasses.asdict(recipe),
        "part": member.part,
        "corpus": digest,
        "phrases": len(chosen),
        "parameters": model.parameters,
        "seconds": round(seconds, 1),
        "scores": scores,
    }
    # Written last: a model with scores is finished.
    (folder / "scores.json").write_text(json.dumps(record, indent=2) + "\n")
    return Scored(member, folder, scores)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
