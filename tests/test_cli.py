import contextlib
import csv
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
from tiny_models import tiny_tokenizer

import andor
from andor.core.certificate import reconstruct
from andor.prompts import DEFAULT_PROMPTS, read_prompts
from andor.runs import files, work
from andor.show.cli import main

TEXT = "the film is not good , but it is never [dull] ."


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    records = [
        {"id": "one", "text": TEXT, "players": ["not", "good", "dull"], "next_word": "good"},
        {"text": "a good film is a film", "players": ["good", "film"]},
        {"id": "never-read", "text": "a film", "players": ["film"]},
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


@pytest.fixture
def undrawn(monkeypatch):
    """No figures and no page, which take seconds."""
    monkeypatch.setattr("andor.show.draw.draw", lambda run, **_: [])
    monkeypatch.setattr("andor.runs.run.Run.report", lambda run, *_, **__: run.path / "report.html")


@pytest.fixture(scope="module")
def default_run(tmp_path_factory):
    """`andor compare` as it is, of three prompts: both embedded models. The run, and what was printed."""
    out, printed = tmp_path_factory.mktemp("default") / "run", io.StringIO()
    with contextlib.redirect_stdout(printed):  # which cannot be reconfigured, as in a notebook
        assert main(["compare", "--limit", "3", "--out", str(out)]) == 0
    return andor.read(out), printed.getvalue()


@pytest.mark.parametrize("whole", [False, True], ids=["three prompts", "README's first command"])
def test_the_default_run_is_certified(default_run, whole):
    run, prompts = default_run[0], tuple(read_prompts(DEFAULT_PROMPTS))
    if whole:
        if "ANDOR_DEFAULT_RUN" not in os.environ:
            pytest.skip("ANDOR_DEFAULT_RUN, the run of README's first command, is given by .ci/run alone")
        run = andor.read(os.environ["ANDOR_DEFAULT_RUN"])
    assert run.models == ("tiny-llama", "tiny-qwen2")
    assert len(prompts) == 20 and run.prompts == (prompts if whole else prompts[:3])
    assert run.summary["worst"]["gap"]["value"] < 1e-2
    assert run.summary["worst"]["identity_error"]["value"] < 1e-6
    assert run.summary["worst"]["not_converged"] == 0
    for name in run.models:
        for prompt in run.prompts:
            values, solution = run[name, prompt.id].values, run[name, prompt.id].solution
            assert solution.status == "converged" and np.ptp(values.v) > 0.1
            rebuilt = reconstruct(solution.and_effects, solution.or_effects) + solution.noise
            assert np.abs(values.v - rebuilt).max() < 1e-6 * np.ptp(values.v)


def test_the_default_run_draws_all_figures(default_run):
    run, printed = default_run
    assert str(run.path / "figures") in printed
    for name in ("matching", "sparsity", "convergence", "orders"):
        for suffix in (".png", ".svg"):
            assert (run.path / "figures" / f"{name}{suffix}").stat().st_size > 5000


def test_the_default_run_has_a_page_that_opens_at_once(default_run):
    run, printed = default_run
    assert str(run.path / "report.html") in printed
    assert 50_000 < (run.path / "report.html").stat().st_size < 400_000
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert all(f"<strong>{name}.</strong>" in html for name in ("matching", "sparsity", "convergence", "orders"))


def test_the_default_run_prints_its_tables(default_run):
    _, printed = default_run
    words = ("tiny-llama", "tiny-qwen2", "salient", "cancellation", "spindle", "misfit", "certified gap", "overlap")
    for word in (*words, "identity error", "seconds"):
        assert word in printed
    assert max(map(len, printed.splitlines()[:-4])) <= 100, "reads well when piped"


def test_compare_takes_directories_a_prompt_file_and_a_limit(models, prompts, tmp_path, capsys, undrawn):
    out = tmp_path / "run"
    assert main(["compare", "--models", *models, "--prompts", prompts, "--limit", "2", "--out", str(out)]) == 0
    printed, progress = capsys.readouterr()
    run = andor.read(out)
    assert [prompt.id for prompt in run.prompts] == ["one", "prompt-0002"]
    assert "Values: evaluated 4, reused 0 of 4. Effects: solved 4." in printed
    assert "' good'" in printed and "given" in printed, "the table says which target is explained"
    assert "* " in printed and "*: the most probable next text of llama-gqa" in printed
    assert "llama-gqa" in printed and "qwen2-gqa" in printed
    assert "Traceback" not in progress
    for name in ("llama-gqa", "qwen2-gqa"):
        assert all(f"{stage} {name}" in progress for stage in ("load", "compile", "evaluate", "solve"))
    assert run.recipe.made["command"].startswith("andor compare --models")


def test_the_same_command_computes_nothing_and_draws_nothing(models, prompts, tmp_path, capsys):
    command = ["compare", "--models", models[0], "--prompts", prompts, "--limit", "1", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    tables = capsys.readouterr().out.split("\n", 1)[1].rsplit("\n", 2)[0]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Values: evaluated 0, reused 1 of 1. Effects: solved 0." in printed
    assert tables.split("Effects: solved")[1].split("\n", 1)[1] in printed
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert main([*command, "--tau", "0.5"]) == 0
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert {"summary.json", "prompts.csv", "matching.png", "captions.md"} <= changed
    assert not any(name.endswith(".npz") for name in changed)


def test_values_of_another_root_are_asked_for(models, prompts, tmp_path, capsys, undrawn):
    command = ["compare", "--models", models[0], "--prompts", prompts, "--limit", "1", "--out"]
    assert main([*command, str(tmp_path / "one")]) == 0
    assert main([*command, str(tmp_path / "two"), "--reuse", str(tmp_path / "one")]) == 0
    assert "Values: evaluated 0, reused 1 of 1. Effects: solved 1." in capsys.readouterr().out
    assert andor.read(tmp_path / "two").recipe.made["reuse"] == str(tmp_path / "one")


def test_default_run_directories_of_one_second_differ(models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = []

    def note(*arguments, out, **settings):
        seen.append(out)
        raise ValueError("enough")

    monkeypatch.setattr("andor.runs.compare.compare", note)
    for _ in range(2):
        assert main(["compare", "--models", models[0]]) == 2
    assert len(set(seen)) == 2 and all(pathlib.Path(out).parent.name == "runs" for out in seen)


def test_extract_prints_the_strongest_effects_in_words(models, tmp_path, capsys):
    out = tmp_path / "run"
    players = ["not", "good", "[dull]"]
    command = ["extract", models[0], "--prompt", TEXT, "--players", *players, "--target", "good", "--top", "5"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    explanation = andor.read(out)[models[0], "prompt"]
    (strongest,) = explanation.top(1)
    sizes = [np.abs(effects[1:]).max() for effects in explanation.effects]
    assert abs(strongest.effect) == max(sizes)
    first = next(line for line in printed.splitlines() if line.lstrip().startswith("1 "))
    assert f"{strongest.effect:+.3f}" in first and strongest.kind in first and strongest.name in first
    assert printed.index("Players") < printed.index("Strongest"), "what is masked is shown first"
    assert "[dull]" in printed and "<mask>" in printed
    assert (andor.read(out).path / "figures" / "prompt-words.png").exists()
    assert "Target ' good' (given)" in printed and "Least strength: worst certified gap" in printed


def test_intervals_are_added_to_what_is_solved(models, tmp_path, capsys, undrawn):
    command = ["extract", models[0], "--prompt", "a good film is never dull", "--players", "good", "never"]
    command += ["--target", "good", "--top", "2", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    before = andor.read(tmp_path / "run")
    assert before[models[0], "prompt"].intervals is None and not (before.path / "certain.csv").exists()
    assert before.summary["prompts"]["prompt"]["models"][models[0]]["certain"]["effects"] is None
    capsys.readouterr()
    assert main([*command, "--intervals", "--path"]) == 0
    printed = capsys.readouterr().out
    assert "Effects: solved 0." in printed and "what is certain" in printed and "by the noise bound" in printed
    run = andor.read(tmp_path / "run")
    explanation = run[models[0], "prompt"]
    rows = list(csv.DictReader((run.path / "certain.csv").open(encoding="utf-8")))
    assert [(row["kind"], float(row["at_least"]), float(row["at_most"])) for row in rows] == [
        (each.kind, low, high) for each, low, high in explanation.certain(2)
    ]
    numbers = run.summary["prompts"]["prompt"]["models"][models[0]]["certain"]
    assert numbers["effects"] == len(rows) == len(explanation.intervals) > 0
    assert numbers["surely_there"] == sum(float(row["at_least"]) > 0 for row in rows)
    assert main([*command, "--intervals"]) == 0
    assert andor.read(tmp_path / "run")[models[0], "prompt"].digest == explanation.digest


def test_a_chat_needs_a_template(models, tmp_path, capsys, undrawn):
    command = ["extract", models[0], "--prompt", "a good film", "--chat", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "needs a chat template" in capsys.readouterr().err
    folder = tmp_path / "with-template"
    shutil.copytree(models[0], folder)
    (folder / "chat_template.jinja").write_text("<|user|>{{ messages[0].content }}<|assistant|>")
    command[1] = str(folder)
    assert main([*command, "--target", "Yes", "--baseline", "zero"]) == 0
    out = capsys.readouterr().out
    assert "zero embedding" in out and "reads the text between '<|user|>' and '<|assistant|>'" in out
    (prompt,) = andor.read(tmp_path / "run").prompts
    assert prompt.chat is True and prompt.target == "Yes"


def test_an_exact_target_and_the_sum_of_its_tokens(models, tmp_path, capsys, undrawn):
    command = ["extract", models[0], "--prompt", "a good film is du", "--out", str(tmp_path / "run")]
    assert main([*command, "--target", "ll!", "--exact", "--score", "sum"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Target 'll!' (given)" in out and "v, the sum of the log-odds of the target's tokens, goes" in out
    assert "Nobody named players, so these are all content words." in out
    assert main([*command, "--exact"]) == 2
    assert "--exact says how --target is meant" in capsys.readouterr().err
    assert main(["compare", "--exact"]) == 2
    assert "--target and --exact belong to --prompt" in capsys.readouterr().err


def test_the_players_that_are_chosen_are_told(models, tmp_path, capsys, undrawn):
    text = "good film , dull film , good film , dull film , good film , dull film is the"
    assert main(["extract", models[0], "--prompt", text, "--target", "film", "--out", str(tmp_path / "run")]) == 0
    assert "these are the 10 nearest the target of 12 content words." in " ".join(capsys.readouterr().out.split())


def test_words_that_share_a_token_are_told(models, tmp_path, capsys, undrawn):
    pytest.importorskip("icu4py")
    model = shutil.copytree(models[0], tmp_path / "model")
    tiny_tokenizer(300, ["这部电影"]).save(str(model / "tokenizer.json"))
    question = ["--prompt", "这部电影不好看。\n情感：", "--target", "x"]
    assert main(["extract", str(model), *question, "--out", str(tmp_path / "run")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "these are all content words, as 3 players: neighbours that share a token are one." in out
    assert main(["plan", str(model), *question]) == 0


def test_figures_draws_again(models, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["extract", models[0], "--prompt", "a good film", "--out", str(out)]) == 0
    run = andor.read(out).path
    folder = run / "figures"
    drawn = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"prompt-words.svg", "prompt-matrix.png", "matching.svg", "captions.md"} <= set(drawn)
    assert not [each for each in drawn if each.endswith(".pdf")], "PDFs take long, and are left to this command"
    for place in (out, run):
        shutil.rmtree(folder)
        assert main(["figures", str(place)]) == 0
        assert str(folder) in capsys.readouterr().out
        again = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {name: each for name, each in again.items() if not name.endswith(".pdf")} == drawn
        assert {f"{pathlib.Path(name).stem}.pdf" for name in drawn} - {"captions.pdf"} <= set(again)
    shutil.rmtree(folder)
    assert main(["figures", str(out), "--prompt", "prompt", "--style", "words", "--width", "column"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [f"prompt-words.{x}" for x in ("pdf", "png", "svg")]
    assert main(["figures", str(out), "--style", "words"]) == 2
    assert "--models, --style and --tau belong to --prompt" in capsys.readouterr().err


def test_more_players_than_memory_allows_get_one_line(models, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("andor.solvers.interior_point.exact_bytes", lambda: 1000)
    assert main(["extract", models[0], "--prompt", TEXT]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith("andor: error: ") and errors.count("\n") == 1 and "memory" in errors


def test_plan_says_what_a_run_will_take(capsys):
    command = ["plan", "tiny-llama", "--prompt", "the film is not good .", "--players", "film", "not", "good"]
    assert main(command) == 0
    here = capsys.readouterr().out
    # 1 BOS, then: the, film, is, not, good, "." in one token each.
    assert "1,311,872 parameters, 5.2 MB in float32" in here
    assert f"{1 + 1 + 2 + 2 + 4 + 8 + 8:,} tokens evaluated ({8 * 7:,} from scratch)" in here
    assert main([*command, "--memory", "80", "--tflops", "700"]) == 0
    there = capsys.readouterr().out
    assert "50% of 700 TFLOP/s" in there and "of 80.00 GB" in there


def test_masks_are_measured_side_by_side(models, capsys):
    command = ["masks", models[0], "--prompt", "so good a film is never dull", "--players", "good", "never", "dull"]
    assert main([*command, "--masks", "token:<mask>", "delete", "attention", "--no-compilation-cache"]) == 0
    printed = capsys.readouterr()
    first, second = printed.out.split("Explanations by")
    lines = {line.split()[0]: line.split() for line in first.splitlines() if line.strip()}
    assert lines["<mask>"][1] == lines["delete"][1] == "1" and lines["attention"][1] == "0"
    assert np.isfinite([float(number) for row in ("<mask>", "delete") for number in lines[row][2:]]).all()
    explained = {line.split()[0]: line.split() for line in second.splitlines() if line.strip()}
    for row in ("<mask>", "delete"):
        *_, share, low, high, warned = explained[row]
        assert float(low) <= float(share) <= float(high) and warned == "100%"  # the last word is a player
    assert "loss per background token" in first and "R² of 20" in first
    assert "player 'dull' holds the last token" in printed.err
    assert main([*command, "--masks", "attention"]) == 2
    assert "no prompt can be masked" in capsys.readouterr().err


def test_masks_that_were_measured_are_not_evaluated_again(models, tmp_path, monkeypatch, capsys):
    command = ["masks", models[0], "--prompt", "a good film is never dull", "--players", "good", "never"]
    command += ["--masks", "delete", "mean", "--out", str(tmp_path), "--no-compilation-cache"]
    assert main(command) == 0
    first = capsys.readouterr().out

    def no_evaluation(*_, **__):
        raise AssertionError

    for name in ("evaluate", "background_loss"):
        monkeypatch.setattr(f"andor.runs.masks.{name}", no_evaluation)
    assert main(command) == 0
    assert capsys.readouterr().out == first
    (loss, *_) = tmp_path.glob("values/*/*.loss.json")
    loss.write_text("{}")
    assert main(command) == 1
    assert "is damaged" in capsys.readouterr().err


def test_plan_reads_prompt_files_and_no_weights(models, prompts, tmp_path, capsys):
    folder = tmp_path / "without-weights"
    shutil.copytree(models[0], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    assert main(["plan", str(folder), "--prompts", prompts, "--limit", "2"]) == 0
    assert "2 prompts:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "80"], "describe a device together"),
        (["--memory", "0", "--tflops", "1"], "must be positive"),
        (["--memory", "nan", "--tflops", "1"], "must be positive"),
        (["--memory", "80", "--tflops", "inf"], "must be positive"),
        (["--tokens-per-batch", "0"], "at least 1"),
        (["--prompt", "film " * 300, "--players", "film"], "at most 256"),
        (["--memory", "0.004", "--tflops", "1"], "the weights take 0.0 GB, and"),
        (["--memory", "0.006", "--tflops", "1"], "masked prompts take"),
        (["--players", "film"], "belong to --prompt"),
    ],
)
def test_plan_refuses(capsys, arguments, message):
    assert main(["plan", "tiny-llama", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="unknown model"):
        main(["compare", "--models", "tiny-nothing", "--debug"])


def test_a_device_without_memory_gets_one_line(monkeypatch, capsys):
    def full(*arguments, **settings):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1099511627776 bytes.\n[tf-...]")

    monkeypatch.setattr("andor.prompts.read_prompts", full)
    assert main(["compare"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("andor: error: the device has no memory left. Use") and errors.count("\n") == 1


def program(code, *arguments, **options):
    """A process of its own, because the code ends it. It begins as the program does; `interrupt` sends it a signal."""
    prelude = """
        import os, signal, sys, time
        from andor.show.interrupts import end_at_once

        if "ignored" in sys.argv:
            sys.argv.remove("ignored")
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_at_once()
        from andor.show.cli import main

        def interrupt(number=signal.SIGINT):
            os.kill(os.getpid(), number)
            time.sleep(200)  # as a compilation might take
    """
    command = [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, **options)


ONE = ("--prompt", "a good film", "--players", "good", "film")


def test_a_signal_ends_at_once_and_says_what_is_finished(models, tmp_path, capsys, undrawn):
    """While prompts are evaluated; the same command goes on, and another may be given."""
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"text": text, "players": ["film"]}) + "\n" for text in ("a good film", "the film"))
    )
    code = """
        from andor.runs import work

        outcomes = work.outcomes

        def endless(*arguments, **options):
            yield next(outcomes(*arguments, **options))
            interrupt()

        work.outcomes = endless
        sys.exit(main())
    """
    command = ["compare", "--models", models[0], "--prompts", str(tmp_path / "prompts.jsonl"), "--out", "run"]
    done = program(code, *command, cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    *_, last = done.stderr.splitlines()
    assert last == "andor: interrupted. What is finished is in run: the same command goes on."
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("run/values/*/*.npz"))) == 1 and not (tmp_path / "run" / "unfinished.json").exists()
    for noise, counts in (("0.1", "evaluated 1, reused 1 of 2"), ("0.02", "evaluated 0, reused 2 of 2")):
        assert main([*command[:-1], str(tmp_path / "run"), "--noise", noise]) == 0
        assert f"Values: {counts}. Effects: solved 2." in capsys.readouterr().out


def test_without_out_a_signal_says_where_to_go_on(models, tmp_path):
    code = """
        from andor.runs import work

        work.extract = lambda *_, **__: interrupt(signal.SIGTERM)
        sys.exit(main())
    """
    done = program(code, "compare", "--models", models[0], *ONE, cwd=tmp_path)
    (out,) = (tmp_path / "runs").iterdir()
    *_, last = done.stderr.splitlines()
    assert done.returncode == 128 + signal.SIGTERM
    assert last == (
        f"andor: terminated. What is finished is in runs/{out.name}: the same command with --out runs/{out.name} "
        "goes on."
    )


def test_a_signal_while_figures_are_drawn_says_that_all_is_computed(models, tmp_path):
    code = """
        import andor.show.draw

        andor.show.draw.draw = lambda *_, **__: interrupt(signal.SIGTERM)
        sys.exit(main())
    """
    done = program(code, "extract", models[0], *ONE, "--out", "run", cwd=tmp_path)
    *_, last = done.stderr.splitlines()
    assert done.returncode == 128 + signal.SIGTERM
    assert last == "andor: terminated. All is computed, and no figures are drawn. Run: run/noise-auto"
    assert andor.read(tmp_path / "run").prompts and "Strongest effects" in done.stdout


def test_a_signal_before_anything_is_begun_leaves_nothing(models, tmp_path):
    code = """
        import andor.models

        andor.models.find = lambda name, **options: interrupt()  # as a download might take
        sys.exit(main())
    """
    done = program(code, "compare", "--models", models[0], "--limit", "2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "andor: interrupted.\n")
    assert not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As Ctrl-C is for what a shell script runs in the background; SIGTERM still ends it."""
    code = """
        import andor.prompts

        def still_here(*_, **__):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
            print("still here", flush=True)
            interrupt(signal.SIGTERM)

        andor.prompts.read_prompts = still_here
        sys.exit(main())
    """
    done = program(code, "ignored", "compare", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (143, "still here\n", "andor: terminated.\n")


@pytest.mark.parametrize("module", ["tyro", "jax", "andor.prompts"])
def test_a_signal_while_importing_is_one_line(module):
    code = """
        import os, signal, sys, time
        from andor.__main__ import main

        module, sys.argv = sys.argv[1], ["andor", "plan", "tiny-llama", "--prompt", "a good film"]

        class Interrupting:
            def find_spec(self, name, *_):
                if name == module:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(200)

        sys.meta_path.insert(0, Interrupting())
        sys.exit(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), module]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "andor: interrupted.\n")


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "andor",
        "extract",
        "tiny-llama",
        "--prompt",
        "a film",
        "--out",
        str(tmp_path / "x"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"JAX_PLATFORMS": "no"}
    )
    assert done.returncode == 2 and not (tmp_path / "x").exists()
    assert done.stderr.startswith("andor: error: JAX finds no device of JAX_PLATFORMS=no") and "Unset" in done.stderr


def test_the_module_is_the_program():
    done = subprocess.run([sys.executable, "-m", "andor", "--help"], capture_output=True, text=True, check=True)
    assert "compare" in done.stdout and not done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such pipes here")
def test_a_pipe_of_prompts_is_not_waited_for(models, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert main(["compare", "--models", models[0], "--prompts", str(tmp_path / "pipe")]) == 2
    errors = capsys.readouterr().err
    assert errors.endswith("it is a pipe or a device. Write the prompts to a file.\n") and errors.count("\n") == 1


def full(*_):
    raise OSError(28, "No space left on device")


def test_figures_that_cannot_be_written_get_one_line(models, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert main(["extract", models[0], "--prompt", "a good film", "--out", str(out)]) == 0
    shutil.rmtree(out / "noise-auto" / "figures")
    monkeypatch.setattr(files.os, "replace", full)
    capsys.readouterr()
    assert main(["figures", str(out)]) == 2
    *progress, error = capsys.readouterr().err.splitlines()
    assert all(line.startswith("draw ") for line in progress)
    assert f"{out / 'noise-auto' / 'figures'}" in error and "could not be written: No space left on device." in error
    assert "Errno" not in error


def test_a_disk_that_fills_up_says_what_is_finished(models, tmp_path, monkeypatch, capsys, undrawn):
    replace = files.os.replace

    def filling(source, target):
        if "noise-auto" in str(target) and str(target).endswith(".npz"):
            full()
        replace(source, target)

    command = ["compare", "--models", models[0], *ONE, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", filling)
        assert main(command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("andor: error: ") and "prompt.npz could not be written: No space left on device." in error
    assert f"What is finished is in {tmp_path / 'run'}: the same command goes on." in error
    assert main(command) == 0
    assert "Values: evaluated 0, reused 1 of 1. Effects: solved 1." in capsys.readouterr().out


def test_bad_lines_are_left_out_unless_strict(models, tmp_path, capsys, undrawn):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"text": "a good film", "players": ["good"], "target": "x"}\n{"text": 3}\n')
    command = ["compare", "--models", models[0], "--prompts", str(path)]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    errors = capsys.readouterr().err
    assert "andor: warning: left out: " in errors and "line 2: 'text' must be a string" in errors
    (left_out,) = andor.read(tmp_path / "run").recipe.made["left_out"]
    assert "line 2: 'text' must be a string" in left_out
    assert main([*command, "--strict", "--out", str(tmp_path / "strict")]) == 2
    assert capsys.readouterr().err.startswith("andor: error: ") and not (tmp_path / "strict").exists()


def test_another_solver_takes_the_values_that_are_there(models, tmp_path, monkeypatch, capsys, undrawn):
    command = ["compare", "--models", models[0], *ONE, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    before = (tmp_path / "run" / "noise-auto" / "summary.json").read_bytes()
    monkeypatch.setattr(work, "outcomes", None)  # is not called
    assert main([*command, "--solver", "first-order", "--tau", "0.1"]) == 0
    run = andor.read(tmp_path / "run" / "noise-auto_FirstOrder")
    assert run.recipe.solvers["2"]["name"] == "FirstOrder" and run.tau == 0.1
    assert (tmp_path / "run" / "noise-auto" / "summary.json").read_bytes() == before
    assert main(["figures", str(tmp_path / "run")]) == 2
    assert "holds 2 runs" in capsys.readouterr().err


def test_a_warning_is_told_once(monkeypatch, capsys):
    def warned(*arguments, **settings):
        for text in ("one", "two", "one"):
            warnings.warn(text, stacklevel=1)
        raise ValueError("enough")

    monkeypatch.setattr("andor.prompts.read_prompts", warned)
    assert main(["compare"]) == 2
    assert capsys.readouterr().err == "andor: warning: one\nandor: warning: two\nandor: error: enough\n"


def test_a_bug_is_called_unexpected(monkeypatch, capsys):
    def broken(*arguments, **settings):
        raise KeyError("oops")

    monkeypatch.setattr("andor.prompts.read_prompts", broken)
    assert main(["compare"]) == 1
    assert capsys.readouterr().err == "andor: error: KeyError: 'oops' (unexpected; --debug shows where)\n"


def test_help_is_fast_and_light():
    code = (
        "import sys; from andor.show.cli import main; assert main(['--help']) == 0; "
        "assert not {'jax', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    start = time.perf_counter()
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "compare" in printed and "extract" in printed and "figures" in printed
    assert time.perf_counter() - start < 10  # 0.2 s on an idle machine


def test_a_control_is_evaluated_beside_the_run(models, tmp_path, capsys, undrawn):
    command = ["compare", "--models", *models, *ONE, "--out", str(tmp_path / "run")]
    for control, said in (("auto", "--control auto masks as --baseline auto does"), ("nomask", "--control nomask: ")):
        assert main([*command, "--control", control]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main(["compare", "--models", models[0], *ONE, "--control", "delete", "--out", str(tmp_path / "one")]) == 2
    assert "--control compares two models; got 1" in capsys.readouterr().err
    assert main([*command, "--control", "delete"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "and each with itself under the other mask, nothing (deleted): overlap of effects" in printed
        and "too few to tell" in printed
    )
    assert andor.read(tmp_path / "run").recipe.models[0].baseline != "nothing (deleted)"
    assert andor.read(tmp_path / "run" / "control").recipe.models[0].baseline == "nothing (deleted)"
    summary = andor.read(next((tmp_path / "run").glob("*/summary.json")).parent).summary
    assert summary["control"] == "nothing (deleted)" and 0 <= summary["pairs"][0]["control_overlap"] <= 1
