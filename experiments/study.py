"""What the studies have in common: settings, runs that are made once, results on disk.

A study is a module of this package with these functions:

    measure(settings) -> dict      everything that is printed or drawn, in JSON's types or NumPy's; small
    draw(result) -> Figure         from the saved result alone
    rows(result) -> list[Row]      its lines of the README's table
    table(result) -> str           where there is one: Markdown, written to NAME.md
    OWN_MODELS = True              where it trains the models that it explains, so that --models is refused
    NEEDS_MODELS = True            where it is of pretrained models, so that --models must be given

`execute` runs one and leaves OUT/NAME.json, OUT/NAME.png and OUT/NAME.pdf. How a study is made reproducible: what it
ran on stands in its result (`described`, for every run of `comparison`), with versions, seed, command and seconds.
"""

import dataclasses
import importlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import andor
from andor.devices.compilation import keep_compilations
from andor.devices.mesh import read_mesh
from andor.figures.style import style
from andor.models import find
from andor.prompts import Prompt, read_prompts
from andor.runs import files, provenance
from andor.runs.recipe import model_labels
from andor.runs.run import Run
from andor.show.draw import save as save_figure

ROOT = Path(__file__).parent.parent
PROMPTS = Path(__file__).parent / "prompts.jsonl"
FIGURES = ROOT / "figures"

PUBLISHED_NOISE = 0.02
"""Noise bound in units of |v(N) - v(∅)|: the published rule, at which all studies look unless they say otherwise."""

QUICK_PROMPTS = 8
"""Prompts of a quick run, spread over the file."""

SMOKE_PROMPTS, SMOKE_PLAYERS = 2, 3
"""Prompts of a smoke run, and players of each."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a study runs on.

    Attributes:
      models: embedded models, directories in HF format or hub ids.
      prompts: JSON lines, as for `andor compare`.
      corpus: folder with sst2/train.tsv and sst2/dev.tsv, for studies that train models on text.
      dtype, mesh: as for `andor compare`.
      chat: wrap each prompt with the model's own chat template.
      work: where runs and checkpoints lie; what is there already is not made again.
      out: where NAME.json, NAME.png and NAME.pdf go; by default figures/ if models and prompts are the default ones,
        else work/own; of a quick or smoke run work/quick or work/smoke.
      quick: fewer prompts, models and steps: minutes instead of hours.
      smoke: seconds, numbers without meaning; only to see that it runs.
      seed: of everything random.
      debug: show the traceback of an error.
    """

    models: tuple[str, ...] = ("tiny-llama", "tiny-qwen2")
    prompts: Path = PROMPTS
    corpus: Path | None = None
    dtype: str = "auto"
    mesh: str | None = None
    chat: bool = False
    work: Path = Path("runs/experiments")
    out: Path | None = None
    quick: bool = False
    smoke: bool = False
    seed: int = 0
    debug: bool = False

    @property
    def folder(self) -> Path:
        """Where results go."""
        if self.out is not None:
            return self.out
        if self.scale != "full":
            return self.work / self.scale
        # The committed results are those of the defaults.
        decides = ("models", "prompts", "dtype", "chat", "seed")
        default = all(getattr(self, name) == getattr(Settings, name) for name in decides)
        return FIGURES if default else self.work / "own"

    @property
    def scale(self) -> str:
        """ "full", "quick" or "smoke"."""
        return "smoke" if self.smoke else "quick" if self.quick else "full"


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the README's table.

    Attributes:
      claim: what is measured.
      published: the published number, with its source.
      ours: the measured number with its spread.
    """

    claim: str
    published: str
    ours: str


def prompts_of(settings: Settings) -> list[Prompt]:
    """The prompts of this scale: all, some of them, or two with few players."""
    prompts = [dataclasses.replace(prompt, chat=settings.chat) for prompt in read_prompts(settings.prompts)]
    if settings.smoke:
        chosen = _spread(prompts, SMOKE_PROMPTS)
        return [dataclasses.replace(prompt, players=prompt.players[-SMOKE_PLAYERS:]) for prompt in chosen]
    return _spread(prompts, QUICK_PROMPTS) if settings.quick else prompts


def _spread(prompts: list[Prompt], count: int) -> list[Prompt]:
    if len(prompts) <= count:
        return prompts
    return [prompts[round(index)] for index in np.linspace(0, len(prompts) - 1, count)]


def two_models(name: str, settings: Settings) -> tuple[str, ...]:
    """The first two models, for a study that compares two. Raises ValueError where there is one."""
    if len(settings.models) < 2:
        raise ValueError(f"{name} compares two models; got --models {' '.join(settings.models)}.")
    return settings.models[:2]


def comparison(
    settings: Settings,
    models: Sequence[str] | None = None,
    prompts: Sequence[Prompt] | None = None,
    **options,
) -> Run:
    """`andor.compare` in a root under `settings.work`, one for each choice of models, prompts and dtype. What is there,
    values for other noise bounds and solvers too, is read.

    Args:
      settings: `models`, `dtype`, `mesh` and `work`; prompts by `prompts_of`.
      models, prompts: instead of those of the settings.
      options: as for `andor.compare`: noise (else `PUBLISHED_NOISE`), baseline, solver, dtype, own_targets.

    Raises:
      ValueError: as `andor.compare`; also where another process is at work on another run of the same root.
    """
    models = settings.models if models is None else tuple(models)
    prompts = prompts_of(settings) if prompts is None else list(prompts)
    dtype = options.setdefault("dtype", settings.dtype)
    digest = files.key_of(models, prompts, dtype)[:12]
    root = settings.work / "runs" / f"{'-'.join(model_labels(models))[:60]}-{digest}"
    mesh = None if settings.mesh is None else read_mesh(settings.mesh)
    own = {"mesh": mesh, "shard": "1/1", "command": "python -m experiments", "noise": PUBLISHED_NOISE}
    return andor.compare(models, prompts, out=root, **own | options)


def described(run: Run) -> dict:
    """What decides a run, for the result of a study: models, prompts, noise bound, solver."""
    keys = ("label", "fingerprint", "dtype", "baseline")
    return {
        "models": [{key: getattr(model, key) for key in keys} for model in run.recipe.models],
        "prompts": [prompt.id for prompt in run.prompts],
        "noise": run.recipe.noise,
        "solver": run.recipe.solvers,
    }


def with_interval(numbers: Sequence[float], form: str = ".2f") -> str:
    """(estimate, low, high) as "0.30 [0.26, 0.35]"; "n/a" where undefined."""
    texts = ["n/a" if x is None or math.isnan(x) else format(x, form) for x in numbers]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def result_file(name: str, folder: Path) -> Path:
    """Where the result of a study lies."""
    return folder / f"{name}.json"


def save(name: str, folder: Path, result: Mapping) -> Path:
    """Write a result: arrays become lists, nan becomes null, numbers keep 7 digits."""
    folder.mkdir(parents=True, exist_ok=True)
    path = result_file(name, folder)
    lines = (f"{json.dumps(key)}: {_compact(value)}" for key, value in _jsonable(result).items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path


def load(name: str, folder: Path) -> dict:
    """Read a result. null stays None; `np.array(numbers, float)` makes it nan again."""
    path = result_file(name, folder)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. Make it with python -m experiments {name}.")
    return json.loads(path.read_text(encoding="utf-8"))


def _compact(value) -> str:
    """Objects and lists of objects one entry a line, everything below on one line."""
    dump = json.dumps if not isinstance(value, dict | list) else lambda x: json.dumps(x, ensure_ascii=False)
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"  {json.dumps(key)}: {dump(each)}" for key, each in value.items()) + "\n}"
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return "[\n" + ",\n".join(f"  {dump(each)}" for each in value) + "\n]"
    return dump(value)


def _jsonable(content):
    if isinstance(content, Mapping):
        return {str(key): _jsonable(value) for key, value in content.items()}
    if isinstance(content, np.ndarray | np.generic):
        return _jsonable(content.tolist())
    if isinstance(content, list | tuple):
        return [_jsonable(value) for value in content]
    if isinstance(content, Path):
        return content.name
    if isinstance(content, float):
        return float(f"{content:.7g}") if math.isfinite(content) else None
    return content


def study(name: str):
    """The module of a study."""
    return importlib.import_module(f"{__package__}.studies.{name}")


def command_of(name: str, settings: Settings) -> str:
    """The command that gives a result, without the places of corpus and folders."""
    given = {
        "models": " ".join(Path(model).name for model in settings.models),
        "prompts": settings.prompts.name,
        "corpus": "DATA",
        "dtype": settings.dtype,
        "mesh": settings.mesh,
        "chat": "",
        "seed": str(settings.seed),
        "quick": "",
        "smoke": "",
    }
    changed = [
        f"--{field.name} {given[field.name]}".strip()
        for field in dataclasses.fields(settings)
        if field.name in given and getattr(settings, field.name) != field.default
    ]
    return " ".join(["python -m experiments", name, *changed])


def check(name: str, settings: Settings) -> None:
    """Refuse settings with which a study cannot run. Raises ValueError or FileNotFoundError."""
    if own_models(name) and settings.models != Settings.models:
        raise ValueError(f"{name} trains the models that it explains: leave --models {' '.join(settings.models)} out.")
    if needs_models(name) and settings.models == Settings.models and not settings.smoke:
        raise ValueError(f"{name} is of pretrained models: give --models A B, hub ids, directories or GGUF files.")
    if not own_models(name):
        prompts_of(settings)
        for model in settings.models:
            find(model)


def own_models(name: str) -> bool:
    """Whether a study trains the models that it explains."""
    return getattr(study(name), "OWN_MODELS", False)


def needs_models(name: str) -> bool:
    """Whether a study is of pretrained models, and so has no default ones."""
    return getattr(study(name), "NEEDS_MODELS", False)


def execute(name: str, settings: Settings) -> dict:
    """Run a study: measure, save, draw, print its rows. Returns the result as saved."""
    check(name, settings)
    keep_compilations()
    module, start = study(name), time.perf_counter()
    measured = module.measure(settings)
    made = {
        "command": command_of(name, settings),
        "scale": settings.scale,
        "seed": settings.seed,
        # Runs and models that were in WORK already are read and not made again.
        "seconds": round(time.perf_counter() - start, 1),
        "device": provenance.device(),
        "git": provenance.git_state(),
        "versions": {"python": platform.python_version()} | provenance.versions(),
    }
    save(name, settings.folder, {"provenance": made, **measured})
    return redraw(name, settings.folder)


def redraw(name: str, folder: Path) -> dict:
    """Draw a study from its saved result and print its rows. Returns the result."""
    module, result = study(name), load(name, folder)
    figure: Figure
    with rc_context(style()):
        figure = module.draw(result)
        written = save_figure(figure, folder / name)
    if hasattr(module, "table"):
        written.append(folder / f"{name}.md")
        written[-1].write_text(module.table(result), encoding="utf-8")
    for row in module.rows(result):
        print(f"{row.claim}: {row.ours} (published: {row.published})")
    print(f"{result_file(name, folder)}, {', '.join(file.name for file in written)}", flush=True)
    return result
