"""The command line: `andor compare`, `andor extract`, `andor figures`, `andor report`, `andor plan`, `andor masks`.

Imports that take time (jax, transformers, matplotlib) happen inside the commands, so that `andor --help` is instant.
Results go to stdout, progress, warnings and errors to stderr. Bad input is one line, `andor: error: ...`, and exit
code 2. Ctrl-C and SIGTERM end the program at once; what a run has saved is whole, and the same command goes on with it.
"""

import contextlib
import dataclasses
import io
import logging
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import tyro

from andor.core.text import one_line, percent
from andor.runs.bars import bars
from andor.show.interrupts import say_at_end

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
SolverName = Literal["auto", "exact", "first-order", "published"]


def _optional(metavar: str):
    """An argument whose default is told in its help text, not as "(default: None)"."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Words = Annotated[tuple[str, ...], _optional("WORD ...")]
Text = Annotated[str | None, _optional("TEXT")]
Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
Root = Annotated[str | None, _optional("DIR | URL")]


# Help shows the options of the last base first.
@dataclasses.dataclass(frozen=True, kw_only=True)
class _Models:
    """The models to compare."""

    models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODEL ...")] = ("tiny-llama", "tiny-qwen2")
    """Embedded models, directories in HF format, GGUF files, or hub ids."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Listing:
    """Options of commands about many prompts."""

    prompts: Annotated[Path | None, _optional("FILE.jsonl")] = None
    """Prompts, one JSON object per line: text, and optionally id, players, target. Default: the 20 of the package."""
    prompt: Text = None
    """One prompt, instead of a file."""
    limit: Annotated[int | None, _optional("N")] = None
    """Only the first N prompts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Prompting:
    """Options of commands about one prompt."""

    players: Words = ()
    """Words of the prompt to mask, in order of appearance. Default: the 10 content words nearest the target."""
    target: Text = None
    """What to explain after the prompt. Default: what the model predicts; of several, the first."""
    exact: Flag = False
    """The target is the exact text that follows ("ing"), not a word that may need a space before it."""
    chat: Flag = False
    """Wrap each prompt with the model's own chat template."""
    dtype: Dtype = "auto"
    """Of weights and activations. auto: float32 on a CPU if it fits, the checkpoint's own on an accelerator."""
    mesh: Annotated[str | None, _optional("data=D,model=M")] = None
    """Devices: masks divided among D (a power of two), each copy of the weights among M. Default: one device."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Running:
    """Options of commands that run models."""

    noise: float | Literal["auto", "measured"] = "auto"
    """Bound on the noise at the certified optimum: auto (what as many effects as pay leave of v), measured (by
    evaluating a sample of masks again), or a multiple of |v(N) - v(∅)|, of which 0.02 to 0.05 are published."""
    baseline: str = "auto"
    """What becomes of masked tokens: auto (mask, else unk, else pad, else eos token), mean or zero (embeddings), delete
    (they are not there), attention (nobody attends to them), resample:FILE (words of a text instead, mean over 8
    draws), or a token of the vocabulary. andor masks MODEL measures them."""
    score: Literal["product", "sum"] = "product"
    """Of a target of several tokens: log-odds of the product of their probabilities, or sum of their log-odds."""
    out: Root = None
    """The root: a folder or URL (s3://, gs://) that keeps all that is computed. What it holds is not computed again.
    Default: a new one under runs/."""
    no_compilation_cache: Flag = False
    """Compile anew, and keep nothing of it. Default: compiled programs are kept in ~/.cache/andor."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(_Running, _Prompting, _Listing, _Models):
    """Compare models on the same prompts: effects, certificate, closing tables, figures."""

    own_targets: Flag = False
    """Where no target is given, explain each model's own prediction, not the first model's."""
    solver: SolverName = "auto"
    """auto: exact up to 18 players, then first-order. exact: the dense exact solver, up to 13. published: that of the
    papers, not certified."""
    tau: float = 0.05
    """An effect is salient above tau times the largest."""
    distributed: Annotated[str | None, _optional("auto | HOST:PORT,N,I")] = None
    """Join other processes: as Slurm, a TPU pod or Kubernetes say, or as process I of N, with process 0 at HOST:PORT. A
    --mesh of all devices is then one model over all processes; without one each takes a shard of the prompts."""
    shard: Annotated[str | None, _optional("I/N")] = None
    """Work on the I-th of N parts of the prompts. Default: as a Slurm array, --distributed or an indexed Kubernetes job
    says, else on all of them. N may change between starts; whoever comes last writes the summary."""
    reuse: Root = None
    """Another root whose values may be used, after a sample of masks was evaluated again and agrees."""
    strict: Flag = False
    """End at the first prompt that fails. Default: leave it out, and say so."""
    intervals: Flag = False
    """Bound the strongest 20 effects of every certified optimum, and the share of its low orders, over all that is
    nearly optimal: into certain.csv, summary.json and the explanations. Takes 42 more solves for each."""
    control: Annotated[str | None, _optional("MASK")] = None
    """Another mask, as for --baseline: says whether two models agree more than each with itself under that mask. The
    prompts are evaluated with it too, into the folder `control` of the root."""

    def run(self, command: str) -> None:
        start = time.perf_counter()
        left_out: list[str] = []
        prompts = _prompts(self, None if self.strict else left_out)
        if self.distributed is not None:
            if self.out is None:
                raise ValueError("--distributed needs --out: one root that all processes see.")
            _join(self.distributed)
        more = {name: getattr(self, name) for name in ("own_targets", "tau", "strict", "shard", "reuse")}
        if self.control is not None:
            _check_control(self)
        more |= {"left_out": left_out, "solver": _solver(self.solver)}
        if self.intervals:
            from andor.runs.explanation import MOST_SHOWN

            more["intervals"] = MOST_SHOWN
        run = _compare(self, self.models, prompts, command, **more)
        if self.control is not None:
            beside = dataclasses.replace(self, baseline=self.control, out=str(run.path.parent / "control"))
            control = _compare(beside, self.models, run.recipe.prompts, command, **more)

        from andor.devices import processes
        from andor.runs.cache import explanation_path
        from andor.show import tables

        processes.agree(0)  # who ends early would end the others
        if not run.summary:
            left = sum(not explanation_path(run.path, *key).exists() for key in run)
            print(f"This shard is done; {left} of {len(run)} explanations are left to others. Run: {run.path}")
        elif processes.is_first():
            console = _console()
            if self.control is not None and control.summary:  # else other shards are at it
                run.controlled(control)
            console.print(tables.comparison(run))
            console.print(tables.certificate(run))
            _finish(console, run, start)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extract(_Running, _Prompting):
    """The strongest AND and OR effects of one model on one prompt, in words and as figures."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """An embedded model, a directory in HF format, a GGUF file, or a hub id."""
    prompt: Annotated[str, tyro.conf.arg(metavar="TEXT")]
    """The text."""
    top: int = 20
    """Effects to show."""
    intervals: Flag = False
    """Say for the strongest effects of the certified optimum how large they are in all that is nearly optimal, and keep
    that with the explanation. Takes two more solves for each."""
    path: Flag = False
    """Say how the certified optimum changes with the noise bound, from 1 to 40% of the spread of v."""

    def run(self, command: str) -> None:
        start = time.perf_counter()
        if self.top < 1:
            raise ValueError(f"--top must be at least 1; got {self.top}.")
        prompt = _one_prompt(self)
        intervals = self.top if self.intervals else 0
        run = _compare(self, (self.model,), [prompt], command, strict=True, shard="1/1", intervals=intervals)

        from andor.show import tables

        explanation = run[self.model, prompt.id]
        values = explanation.values
        console = _console()
        console.print(tables.effects(explanation, self.top))
        console.print()
        of = f", {tables.SUM}," if values.score == "sum" else ""
        console.print(
            f"Target {values.target!r} ({'the most probable text' if self.target is None else 'given'}): probability "
            f"{percent(values.target_probability)}; v{of} goes from {values.v[0]:+.3f} (all masked) to "
            f"{values.v[-1]:+.3f}."
        )
        if self.intervals:
            console.print(tables.certain(explanation, self.top))
            console.print()
        if self.path:
            console.print(tables.path(explanation, explanation.path()))
            console.print()
        if self.noise == "measured":
            console.print(tables.noise_floor(values))
        console.print(tables.certificate(run))
        _finish(console, run, start, top=self.top)


@dataclasses.dataclass(frozen=True)
class Figures:
    """Draw the figures of a finished run again, or the pictures of one of its prompts, from its saved arrays alone."""

    directory: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The folder of a run, or the root that holds it."""
    prompt: Annotated[str | None, _optional("ID")] = None
    """Only the pictures of this prompt. Default: all figures, and the pictures of the first prompt."""
    models: Annotated[tuple[str, ...], _optional("MODEL ...")] = ()
    """With --prompt: one or two models of the run. Default: its first two."""
    style: Annotated[Literal["words", "matrix"] | None, _optional("words | matrix")] = None
    """With --prompt: its words with the effects over and under them, or a matrix of dots. Default: both."""
    top: int = 20
    """Effects of each model in a picture, at most."""
    tau: Annotated[float | None, _optional("TAU")] = None
    """With --prompt: leave out effects below tau times the strongest. Default: the tau of the run."""
    width: Literal["page", "column"] = "page"
    """7 inches, or 3.4 for one of two columns."""
    debug: Flag = False
    """Show the traceback of an error."""

    def run(self, command: str) -> None:
        del command
        start = time.perf_counter()
        if self.prompt is None and (self.models or self.style is not None or self.tau is not None):
            raise ValueError("--models, --style and --tau belong to --prompt; got no --prompt.")
        from andor.runs.run import read
        from andor.show.draw import draw, draw_prompt

        run = read(self.directory)
        with bars() as progress:
            if self.prompt is None:
                drawn = draw(run, self.top, width=self.width, progress=progress)
            else:
                styles = ("words", "matrix") if self.style is None else (self.style,)
                more = {"width": self.width, "top": self.top, "tau": self.tau, "progress": progress}
                drawn = draw_prompt(run, self.prompt, self.models, styles, **more)
        _print_files(_console(), run.path, drawn, start)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Write the page of a finished run: one HTML file without network, on which words are masked by click."""

    directory: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The folder of a run, or the root that holds it."""
    out: Annotated[str | None, _optional("FILE.html")] = None
    """Where to write it. Default: report.html in the run's folder."""
    values: Annotated[tuple[str, ...], _optional("ID ...")] = ()
    """Prompts whose values the page holds first, where those of all would make it too large (200 prompts of 10 words
    under 2 models do not)."""
    debug: Flag = False
    """Show the traceback of an error."""

    def run(self, command: str) -> None:
        del command
        from andor.runs.run import read

        run = read(self.directory)
        with bars() as progress:
            path = _write_page(run, progress, self.out, self.values)
        _console().print(f"Page: {path} ({path.stat().st_size / 1000:,.0f} kB). Open it in a browser.", soft_wrap=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(_Prompting, _Listing):
    """What evaluating prompts under a model will take: tokens, operations, memory, time. Reads no weights."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """An embedded model, a directory in HF format, a GGUF file, or a hub id."""
    memory: Annotated[float | None, _optional("GB")] = None
    """Memory of an accelerator to plan for (of each of several). Default: what is free on the device here."""
    tflops: Annotated[float | None, _optional("RATE")] = None
    """Its rate at matrix products, in 10**12 operations per second. Default: measured here."""
    tokens_per_batch: Annotated[int | None, _optional("N")] = None
    """Tokens in one forward pass. Default: what suits the device."""
    baseline: str = "auto"
    """What becomes of masked tokens, as for andor compare. Deleted and unattended ones are not evaluated."""

    def run(self, command: str) -> None:
        if (self.memory is None) != (self.tflops is None):
            raise ValueError("--memory and --tflops describe a device together; got one of them. Give both or neither.")
        if self.memory is not None and not (0 < self.memory < 1e9 and 0 < self.tflops < 1e9):
            raise ValueError(f"--memory and --tflops must be positive; got {self.memory} and {self.tflops}.")
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise ValueError(f"--tokens-per-batch must be at least 1; got {self.tokens_per_batch}.")
        from andor.devices.memory import available_bytes
        from andor.devices.mesh import read_sizes
        from andor.evaluation import check_fits, planning
        from andor.models import find, load_config, load_tokenizer
        from andor.prompts import joined, tokenize
        from andor.show import tables

        prompts = _prompts(self)
        sizes = {"data": 1, "model": 1} if self.mesh is None else read_sizes(self.mesh)
        elsewhere = self.memory is not None
        free = round(self.memory * 1e9) if elsewhere else available_bytes()
        devices = sizes["data"] * sizes["model"]
        backend = "gpu" if elsewhere else None
        config, dtype = load_config(self.model, dtype=self.dtype, backend=backend, available=free * devices)
        tokenizer = load_tokenizer(self.model)
        default = planning.TOKENS_PER_BATCH_ACCELERATOR if elsewhere else None
        shares = {}
        for prompt in prompts:
            tokenized = tokenize(joined(prompt, tokenizer), tokenizer, baseline=self.baseline)
            if not len(tokenized.target_ids):  # the model's prediction will be one token
                tokenized = dataclasses.replace(tokenized, target_ids=tokenized.token_ids[-1:])
            check_fits(self.model, config, prompt, tokenized)
            shares[prompt.id] = planning.share(
                config,
                dtype.itemsize,
                tokenized,
                **sizes,
                available=free,
                tokens_per_batch=self.tokens_per_batch,
                in_flight=min(len(prompts), 2),
                default_tokens=default,
            )
        rate = self.tflops * 1e12 if elsewhere else planning.matrix_rate(dtype)
        parameters = find(self.model, weights=False).parameters
        _console().print(tables.plan(self.model, parameters, dtype, free, shares, rate))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masks(_Prompting, _Listing):
    """Measure ways of masking: how far masked prompts are from what a model knows, and what the explanation becomes."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """An embedded model, a directory in HF format, a GGUF file, or a hub id."""
    masks: Annotated[tuple[str, ...], _optional("MASK ...")] = ()
    """As for --baseline of andor compare. Default: the tokenizer's token, mean, zero, delete, attention, resample."""
    noise: float | Literal["auto"] = "auto"
    """Bound on the noise at the certified optimum: auto, or a multiple of |v(N) - v(∅)|."""
    out: Root = None
    """A root that keeps what is evaluated. What it holds is not evaluated again. Default: nothing is kept."""
    no_compilation_cache: Flag = False
    """Compile anew, and keep nothing of it. Default: compiled programs are kept in ~/.cache/andor."""

    def run(self, command: str) -> None:
        prompts = _prompts(self)
        from andor.devices.compilation import keep_compilations
        from andor.devices.mesh import read_mesh
        from andor.models import load
        from andor.runs.masks import measure_masks
        from andor.show import tables

        if not self.no_compilation_cache:
            keep_compilations()
        model = load(self.model, dtype=self.dtype, mesh=None if self.mesh is None else read_mesh(self.mesh))
        with bars() as progress:
            rows = measure_masks(
                model,
                prompts,
                self.masks,
                noise=self.noise,
                out=self.out,
                progress=lambda done, total: progress("measure", "", done, total),
            )
        console = _console()
        console.print(tables.masks(self.model, rows))
        console.print()
        console.print(tables.under_masks(self.model, rows))
        for refused in dict.fromkeys(why for row in rows for why in row.refused.values()):
            warnings.warn(f"left out: {refused}", stacklevel=1)


COMMANDS = {"compare": Compare, "extract": Extract, "figures": Figures, "report": Report, "plan": Plan, "masks": Masks}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for bad input, 1 for a bug, 130 or 143 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _quiet_libraries()
    for stream in (sys.stdout, sys.stderr):
        # An encoding without ∅ is no reason to fail. The streams of a notebook or of a test cannot be reconfigured.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if arguments == ["--version"]:
        print(f"andor {version('andor')}")
        return 0
    command = None
    try:
        command = _parse(arguments)
        with _warnings_in_one_line():
            # Bytes of the command line that are no UTF-8 cannot be recorded as they are.
            command.run(shlex.join(["andor", *arguments]).encode(errors="backslashreplace").decode())
    except SystemExit as done:
        return int(done.code or 0)
    except Exception as error:
        if command is not None and command.debug:
            raise
        return _leave(_report(error))
    return 0


def _leave(code: int) -> int:
    """An exit code; where there are other processes, exit with it: JAX would wait for them minutes, and then abort."""
    from andor.devices import processes

    if processes.n_processes() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _parse(arguments: list[str]):
    """The command, as one of the dataclasses above. Exits like tyro, but with one line for an error."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="andor",
                description="AND-OR interactions of language models, exact and certified. --version prints which.",
                args=arguments or ["--help"],
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as done:
        if done.code:
            # tyro draws a box: a heading, then its message, perhaps the argument's help text, then where to find help.
            lines = [line.strip("│╭╮╰╯─- ") for line in messages.getvalue().splitlines()[1:]]
            message = " ".join(line for line in lines if line)
            message = re.split("Argument helptext:|For full helptext", message)[0].strip().rstrip(".")
            known = "".join(f"{each} " for each in arguments[:1] if each in COMMANDS)
            print(f"andor: error: {one_line(message)}. See `andor {known}--help`.", file=sys.stderr)
        raise


def _report(error: Exception) -> int:
    """Say what went wrong in one line; the exit code."""
    said, notes = str(error), getattr(error, "__notes__", ())
    if isinstance(error, OSError) and error.filename is None:
        said = error.strerror or said  # without "[Errno 28]": it is a sentence
    if said and said[-1] not in ".!?" and notes:
        said += "."
    message = one_line(" ".join([said, *notes]))
    if isinstance(error, BrokenPipeError):  # `andor ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, ValueError | OSError | MemoryError):
        return _say(f"error: {message or type(error).__name__}", 2)
    if "RESOURCE_EXHAUSTED" in message:
        return _say(
            "error: the device has no memory left. Use a smaller --dtype or fewer players, or a larger device.", 2
        )
    if type(error).__name__ == "JaxRuntimeError":  # what the device, the system or another process could not do
        return _say(f"error: the device failed: {message} (--debug shows where)", 2)
    return _say(f"error: {type(error).__name__}: {message} (unexpected; --debug shows where)", 1)


def _say(message: str, code: int) -> int:
    print(f"andor: {message}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """On stderr, each once: what is told of one batch is told of the next."""
    said = set()

    def say(message: Warning, *_) -> None:
        line = one_line(str(message))
        if line not in said:
            said.add(line)
            print(f"andor: warning: {line}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say
        yield


def _join(how: str) -> None:
    """Bring processes together as --distributed says."""
    from andor.devices import processes

    if how == "auto":
        return processes.initialise()
    match = re.fullmatch(r"(.+),(\d+),(\d+)", how)
    if not match:
        raise ValueError(f"--distributed is auto, or HOST:PORT,N,I for process I of N; got {how!r}.")
    processes.initialise(match[1], int(match[2]), int(match[3]))


def _solver(name: SolverName):
    """The solver of that name; None for the default of each number of players."""
    from andor.solvers import FirstOrder, InteriorPoint, Published

    return {"auto": None, "exact": InteriorPoint(), "first-order": FirstOrder(), "published": Published()}[name]


def _prompts(settings: "Compare | Plan | Masks", left_out: list[str] | None = None) -> list:
    """The prompts asked for. Bad lines of a file are said, and added to a list where one is given; else the first is
    raised."""
    if settings.prompts is not None and settings.prompt is not None:
        raise ValueError("--prompts and --prompt are two ways to give prompts; got both. Keep one.")
    if settings.prompt is None and (settings.players or settings.target is not None or settings.exact):
        raise ValueError(
            "--players, --target and --exact belong to --prompt; got no --prompt. In a file they are fields."
        )
    if settings.prompt is not None and settings.limit is not None:
        raise ValueError("--limit cuts a list of prompts; got it with the one --prompt. Leave --limit out.")
    if settings.limit is not None and settings.limit < 1:
        raise ValueError(f"--limit must be at least 1; got {settings.limit}.")
    from andor.prompts import DEFAULT_PROMPTS, read_prompts

    if settings.prompt is not None:
        return [_one_prompt(settings)]

    def leave_out(error: ValueError) -> None:
        left_out.append(str(error))
        warnings.warn(f"left out: {error}", stacklevel=1)

    on_error = None if left_out is None else leave_out
    prompts = read_prompts(settings.prompts or DEFAULT_PROMPTS, on_error=on_error)[: settings.limit]
    return [dataclasses.replace(prompt, chat=True) for prompt in prompts] if settings.chat else prompts


def _one_prompt(settings):
    from andor.prompts import Prompt

    if settings.exact and settings.target is None:
        raise ValueError("--exact says how --target is meant; got no --target. Give it, or leave --exact out.")
    more = {"players": settings.players or None, "target": settings.target, "exact": settings.exact}
    return Prompt(settings.prompt, id="prompt", chat=settings.chat, **more)


def _check_control(settings: Compare) -> None:
    """Raise ValueError unless there are two models, and the control masks otherwise than the run does."""
    from andor.models import load_tokenizer
    from andor.prompts import read_mask

    if len(settings.models) < 2:
        raise ValueError(f"--control compares two models; got {len(settings.models)}.")
    for name in settings.models:
        tokenizer = load_tokenizer(name)
        try:
            control = read_mask(settings.control, tokenizer)
        except ValueError as error:
            raise ValueError(f"--control {settings.control}: {error}") from error
        if control.key == read_mask(settings.baseline, tokenizer).key:
            raise ValueError(
                f"--control {settings.control} masks as --baseline {settings.baseline} does. Name another."
            )


def _compare(settings: Compare | Extract, names: Sequence[str], prompts: Sequence, command: str, **more):
    """Run `andor.compare` with progress bars; for a single prompt, it shows first what is going to be masked."""
    from andor.devices.compilation import keep_compilations
    from andor.devices.mesh import read_mesh
    from andor.prompts import default_players
    from andor.runs.compare import compare
    from andor.runs.recipe import end, model_labels
    from andor.show import tables

    if not settings.no_compilation_cache:
        keep_compilations()
    mesh = None if settings.mesh is None else read_mesh(settings.mesh)
    labels = dict(zip(names, model_labels(tuple(names)), strict=True))

    def show(rows: Sequence, chats) -> None:
        chosen = None if settings.players or prompts[0].id != "prompt" else default_players(prompts[0].text)[0]
        console = _console()
        console.print(tables.players(rows, labels, chats, chosen))
        console.print()

    # To the microsecond: two runs that start in the same second do not want the same directory.
    out = settings.out or str(Path("runs") / datetime.now().strftime("%Y-%m-%d_%H%M%S_%f"))
    begun = []  # what has been computed, and is therefore there
    with_out = "" if settings.out else f" with --out {out}"

    def what_is_left() -> str:
        return one_line(f"What is finished is in {out}: the same command{with_out} goes on.") if begun else ""

    def interrupted() -> str:
        end(out)  # other settings may use the root
        return what_is_left()

    say_at_end(interrupted)
    try:
        with bars(labels) as report:

            def progress(stage: str, *rest) -> None:
                begun.append(stage)
                report(stage, *rest)

            run = compare(
                names,
                prompts,
                out=out,
                noise=settings.noise,
                baseline=settings.baseline,
                dtype=settings.dtype,
                mesh=mesh,
                command=command,
                score=settings.score,
                progress=progress,
                show=show,
                **more,
            )
    except (OSError, RuntimeError, MemoryError) as error:
        if what_is_left():
            error.add_note(what_is_left())
        raise
    say_at_end(lambda: f"All is computed, and no figures are drawn. Run: {run.path}")
    made = run.counts
    there, reused = sum(made.values()) - made["solved"], made["reused"] + made["kept"]
    print(f"Values: evaluated {made['evaluated']}, reused {reused} of {there}. Effects: solved {made['solved']}.\n")
    return run


def _console(stderr: bool = False):
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:  # a file or a pipe has no width
        console.width = 100
    return console


def _finish(console, run, start: float, **options) -> None:
    """Draw the figures of a run and write its page, where they are not there or options are given, and say where all
    is. PDFs take as long as the rest together, and are left to `andor figures`."""
    from andor.show.draw import draw, up_to_date

    kinds, page = ("png", "svg"), run.path / "report.html"
    drawn = None if options else up_to_date(run, kinds)
    with bars() as progress:
        if drawn is None:
            drawn = draw(run, kinds=kinds, progress=progress, **options)
            _write_page(run, progress)
        elif not run.is_up_to_date(page):
            _write_page(run, progress)
    _print_files(console, run.path, drawn, start, page)


def _write_page(run, progress, out: str | None = None, values: Sequence[str] = ()):
    """Write the page of a run, with a bar; its path."""
    progress("page", "", 0, 1)
    path = run.report(out, values=values)
    progress("page", "", 1, 1)
    return path


def _print_files(console, run, files: Sequence, start: float, page=None) -> None:
    console.print()
    names, kinds = (
        ", ".join(dict.fromkeys(getattr(file, part) for file in files if file.suffix != ".md"))
        for part in ("stem", "suffix")
    )
    console.print(f"Figures: {names} ({kinds}) in {run / 'figures'}", soft_wrap=True)
    if page is not None:
        console.print(f"Page:    {page} (open it in a browser)", soft_wrap=True)
    console.print(f"Run:     {run}", soft_wrap=True)
    console.print(f"{time.perf_counter() - start:.1f} seconds in all.")


def _quiet_libraries() -> None:
    """transformers announces that there is no PyTorch, the hub that nobody is logged in: not this program's news. gcsfs
    logs the traceback of what it raises."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
