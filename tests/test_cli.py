import contextlib
import dataclasses
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

from andor.core.certificate import reconstruct
from andor.prompts import DEFAULT_PROMPTS, read_prompts
from andor.runs import compare as comparison
from andor.runs import files, session, store
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


@pytest.fixture(scope="module")
def default_run(tmp_path_factory):
    """`andor compare` as it is, once: both embedded models, all 20 prompts. The run, and what was printed."""
    out, printed = tmp_path_factory.mktemp("default") / "run", io.StringIO()
    with contextlib.redirect_stdout(printed):  # which cannot be reconfigured, as in a notebook
        assert main(["compare", "--out", str(out)]) == 0
    return store.read_run(out), printed.getvalue()


def test_the_default_run_is_certified(default_run):
    run, _ = default_run
    assert run.models == ("tiny-llama", "tiny-qwen2")
    assert run.prompts == tuple(dataclasses.replace(p, target=None) for p in read_prompts(DEFAULT_PROMPTS))
    assert len(run.prompts) == 20
    assert run.summary["worst"]["gap"]["value"] < 1e-2
    assert run.summary["worst"]["identity_error"]["value"] < 1e-6
    assert run.summary["worst"]["not_converged"] == 0
    for name in run.models:
        for prompt in run.prompts:
            values, solution = run.values[name][prompt.id], run.effects[name][prompt.id]
            assert solution.status == "converged" and np.ptp(values.v) > 0.1
            rebuilt = reconstruct(solution.and_effects, solution.or_effects) + solution.noise
            assert np.abs(values.v - rebuilt).max() < 1e-6 * np.ptp(values.v)


def test_the_default_run_draws_all_figures(default_run):
    run, printed = default_run
    assert str(run.path / "figures") in printed
    for name in ("matching", "sparsity", "convergence", "orders"):
        for suffix in (".png", ".pdf"):
            assert (run.path / "figures" / f"{name}{suffix}").stat().st_size > 5000


def test_the_default_run_prints_its_tables(default_run):
    _, printed = default_run
    words = ("tiny-llama", "tiny-qwen2", "salient", "cancellation", "spindle", "misfit", "certified gap", "overlap")
    for word in (*words, "identity error", "seconds", "* ", "predicted by tiny-llama"):
        assert word in printed
    assert max(map(len, printed.splitlines()[:-3])) <= 100, "reads well when piped"


def test_compare_takes_directories_a_prompt_file_and_a_limit(models, prompts, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["compare", "--models", *models, "--prompts", prompts, "--limit", "2", "--out", str(out)]) == 0
    printed, progress = capsys.readouterr()
    run = store.read_run(out)
    assert [prompt.id for prompt in run.prompts] == ["one", "prompt-0002"]
    assert "' good'" in printed and "given" in printed, "the table says which target is explained"
    assert "llama-gqa" in printed and "qwen2-gqa" in printed
    assert "Traceback" not in progress and "evaluate llama-gqa" in progress
    (process,) = (out / "processes").iterdir()
    assert json.loads(process.read_text())["command"].startswith("andor compare --models")


def test_default_run_directories_of_one_second_differ(models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = []

    def note(*arguments, out, **settings):
        seen.append(out)
        raise ValueError("enough")

    monkeypatch.setattr("andor.runs.compare.compare", note)
    for _ in range(2):
        assert main(["compare", "--models", models[0]]) == 2
    assert len(set(seen)) == 2 and all(out.parent.name == "runs" for out in seen)


def test_extract_prints_the_strongest_effects_in_words(models, tmp_path, capsys):
    out = tmp_path / "run"
    players = ["not", "good", "[dull]"]
    command = ["extract", models[0], "--prompt", TEXT, "--players", *players, "--target", "good", "--top", "5"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    solution = store.read_run(out).effects[models[0]]["prompt"]
    strongest = max(solution.and_effects[1:].min(), solution.and_effects[1:].max(), key=abs)
    strongest = max(strongest, solution.or_effects.min(), solution.or_effects.max(), key=abs)
    first = next(line for line in printed.splitlines() if line.lstrip().startswith("1 "))
    assert f"{strongest:+.3f}" in first and ("AND" in first or "OR" in first)
    assert printed.index("Players") < printed.index("Strongest"), "what is masked is shown first"
    assert "[dull]" in printed and "<mask>" in printed
    assert (out / "figures" / "effects.png").exists()


def test_a_chat_needs_a_template(models, tmp_path, capsys):
    command = ["extract", models[0], "--prompt", "a good film", "--chat", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "needs a chat template" in capsys.readouterr().err
    folder = tmp_path / "with-template"
    shutil.copytree(models[0], folder)
    (folder / "chat_template.jinja").write_text("<|user|>{{ messages[0].content }}<|assistant|>")
    command[1] = str(folder)
    assert main([*command, "--target", "Yes", "--baseline", "zero"]) == 0
    assert "zero embedding" in capsys.readouterr().out
    (record,) = store.read_run(tmp_path / "run").settings["prompts"]
    assert record["chat"] is True and record["target"] == "Yes"


def test_figures_draws_again(models, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["extract", models[0], "--prompt", "a good film", "--out", str(out)]) == 0
    for path in (out / "figures").iterdir():
        path.unlink()
    assert main(["figures", str(out)]) == 0
    assert str(out / "figures") in capsys.readouterr().out
    assert any(path.suffix == ".png" for path in (out / "figures").iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["compare", "--models", "tiny-nothing"], "unknown model 'tiny-nothing'"),
        (["compare", "--models", "LLAMA", "LLAMA"], "different models"),
        (["compare", "--models", "LLAMA", "--prompts", "nowhere.jsonl"], "no file 'nowhere.jsonl'"),
        (["compare", "--models", "LLAMA", "--prompts", "PROMPTS", "--prompt", "x"], "Keep one"),
        (["compare", "--models", "LLAMA", "--players", "x"], "--players and --target belong to --prompt"),
        (["compare", "--models", "LLAMA", "--prompt", TEXT, "--limit", "3"], "--limit cuts a list of prompts"),
        (["compare", "--models", "LLAMA", "--limit", "0"], "--limit must be at least 1"),
        (["compare", "--models", "LLAMA", "--noise", "-1"], "noise"),
        (["compare", "--models", "LLAMA", "--noise", "much"], "--noise"),
        (["compare", "--models", "LLAMA", "--dtype", "int4"], "int4"),
        (["compare", "--models", "LLAMA", "--tau", "2"], "tau"),
        (["compare", "--models", "LLAMA", "--distributed", "auto"], "--distributed needs --out"),
        (
            ["compare", "--models", "LLAMA", "--distributed", "here", "--out", "x"],
            "--distributed is auto, or HOST:PORT,N,I",
        ),
        (
            ["compare", "--models", "LLAMA", "--distributed", "here:1234,2,2", "--out", "x"],
            "process=...) must be from 0 to 1",
        ),
        (["compare", "--models", "LLAMA", "--out", "MODELS"], "not empty"),
        (["compare", "--no-such-flag"], "--no-such-flag"),
        (["extract", "LLAMA"], "prompt"),
        (["extract", "LLAMA", "--prompt", ""], "must hold some text"),
        (["extract", "LLAMA", "--prompt", " \n"], "must hold some text"),
        (["extract", "LLAMA", "--prompt", TEXT, "--players", "bad"], "'bad' is not in"),
        (["extract", "LLAMA", "--prompt", TEXT, "--target", ""], "target"),
        (
            [
                "extract",
                "LLAMA",
                "--prompt",
                " ".join("abcdefghijklmnopqrstuvwxyz"),
                "--players",
                *"abcdefghijklmnopqrstu",
            ],
            "must name at most 20 players",
        ),
        (["extract", "LLAMA", "--prompt", TEXT, "--top", "0"], "--top must be at least 1"),
        (["figures", "nowhere"], "no run directory 'nowhere'"),
        (["figures", "MODELS"], "settings.json is missing"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_input_gets_one_line_and_a_non_zero_exit(models, prompts, tmp_path, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {"LLAMA": models[0], "PROMPTS": prompts, "MODELS": models[0]}
    code = main([places.get(argument, argument) for argument in arguments])
    printed, errors = capfd.readouterr()
    assert code == 2
    assert errors.startswith("andor: error: ") and errors.count("\n") == 1, errors
    assert message in errors
    assert "Traceback" not in printed + errors
    assert not list(tmp_path.iterdir()), "nothing is left behind"


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_the_prompt_and_says_how_to_go_on(models, tmp_path, monkeypatch, capsys, number):
    monkeypatch.chdir(tmp_path)
    evaluate_all, seen = session.evaluate_all, []

    def interrupted(*arguments, **options):
        for values in evaluate_all(*arguments, **options):
            if not seen:
                signal.raise_signal(number)
            seen.append(values)
            yield values

    monkeypatch.setattr(session, "evaluate_all", interrupted)
    command = ["compare", "--models", models[0], "--prompt", "a good film", "--players", "good", "film"]
    before = signal.getsignal(number)
    assert main(command) == 128 + number
    assert signal.getsignal(number) is before
    errors = capsys.readouterr().err
    assert "andor: stopping after this prompt; again to end at once." in errors
    assert "1 of 1 evaluated and 0 solved" in errors
    (out,) = (tmp_path / "runs").iterdir()
    assert f"--out runs/{out.name} goes on" in errors
    assert main([*command, "--out", f"runs/{out.name}"]) == 0
    assert len(seen) == 1 and store.read_run(out).summary["worst"]["not_converged"] == 0


def test_a_signal_after_the_last_prompt_is_no_success(models, tmp_path, monkeypatch, capsys):
    summarise = comparison.summarise

    def interrupted(run):
        signal.raise_signal(signal.SIGINT)
        return summarise(run)

    monkeypatch.setattr(comparison, "summarise", interrupted)
    command = ["compare", "--models", models[0], "--prompt", "a good film", "--players", "good"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 128 + signal.SIGINT
    assert "all solved and no figures drawn. What is finished is in" in capsys.readouterr().err
    assert store.read_run(tmp_path / "run").prompts and not (tmp_path / "run" / "figures").exists()


def program(code, *arguments, **options):
    """A process of its own, because the code ends it."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.mark.parametrize(("number", "word"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated")])
def test_a_second_signal_ends_at_once_and_says_what_is_finished(models, tmp_path, number, word):
    code = """
        import os, signal, sys, time
        from andor.runs import session
        from andor.show.cli import main

        def endless(*arguments, **options):
            for _ in range(2):
                os.kill(os.getpid(), getattr(signal, sys.argv[1]))
            time.sleep(200)
            yield

        session.evaluate_all = endless
        sys.exit(main(sys.argv[2:]))
    """
    command = ["compare", "--models", models[0], "--prompt", "a good film", "--players", "good", "--out", "run"]
    done = program(code, number, *command, cwd=tmp_path)
    *_, first, second = done.stderr.splitlines()
    assert done.returncode == 128 + getattr(signal, number), done.stderr
    assert first == "andor: stopping after this prompt; again to end at once."
    assert second == f"andor: {word}. What is finished is in run: the same command goes on."


def test_a_signal_before_anything_is_begun_ends_at_once(models, tmp_path):
    code = """
        import signal, sys, time
        import andor.models
        from andor.show.cli import main

        def download(name, **options):
            signal.raise_signal(signal.SIGINT)
            time.sleep(200)

        andor.models.find = download
        sys.exit(main(sys.argv[1:]))
    """
    done = program(code, "compare", "--models", models[0], "--limit", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "andor: interrupted.\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["tyro", "andor.show.cli", "jax", "numpy.linalg", "andor.prompts"])
def test_an_interrupt_while_importing_is_one_line(module):
    code = """
        import signal, sys
        from andor.__main__ import main

        module, sys.argv = sys.argv[1], ["andor", "plan", "tiny-llama", "--prompt", "a good film"]

        class Interrupting:
            def find_spec(self, name, *_):
                if name == module:
                    signal.raise_signal(signal.SIGINT)

        sys.meta_path.insert(0, Interrupting())
        sys.exit(main())
    """
    done = program(code, module)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "andor: interrupted.\n")


@pytest.mark.parametrize("name", ["andor", "andor.show.cli"])
def test_both_modules_are_the_program(name):
    done = subprocess.run([sys.executable, "-m", name, "--help"], capture_output=True, text=True, check=True)
    assert "compare" in done.stdout and not done.stderr


def test_an_interrupt_while_the_command_line_is_read_is_one_line(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tyro.extras.subcommand_cli_from_dict", interrupted)
    assert main(["compare"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == "andor: interrupted.\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such pipes here")
def test_a_pipe_of_prompts_is_not_waited_for(models, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert main(["compare", "--models", models[0], "--prompts", str(tmp_path / "pipe")]) == 2
    errors = capsys.readouterr().err
    assert errors.endswith("it is a pipe or a device. Write the prompts to a file.\n") and errors.count("\n") == 1


def test_figures_that_cannot_be_written_get_one_line(models, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert main(["extract", models[0], "--prompt", "a good film", "--out", str(out)]) == 0
    shutil.rmtree(out / "figures")
    mkdir = pathlib.Path.mkdir

    def read_only(path, *arguments, **options):
        if path == out / "figures":
            raise OSError(30, "Read-only file system", str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(pathlib.Path, "mkdir", read_only)
    capsys.readouterr()
    assert main(["figures", str(out)]) == 2
    errors = capsys.readouterr().err
    assert f"{out / 'figures'} could not be" in errors and "Read-only file system" in errors
    assert errors.count("\n") == 1 and "Errno" not in errors


def test_bad_lines_are_left_out_unless_strict(models, tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"text": "a good film", "players": ["good"], "target": "x"}\n{"text": 3}\n')
    command = ["compare", "--models", models[0], "--prompts", str(path)]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    errors = capsys.readouterr().err
    assert "andor: warning: left out: " in errors and "line 2: 'text' must be a string" in errors
    (process,) = (tmp_path / "run" / "processes").iterdir()
    assert "line 2: 'text' must be a string" in files.read_json(process)["left_out"][0]
    assert main([*command, "--strict", "--out", str(tmp_path / "strict")]) == 2
    assert capsys.readouterr().err.startswith("andor: error: ") and not (tmp_path / "strict").exists()


def test_another_solver_takes_the_values_that_are_there(models, tmp_path, monkeypatch, capsys):
    command = ["compare", "--models", models[0], "--prompt", "a good film", "--players", "good", "film"]
    assert main([*command, "--out", str(tmp_path / "first")]) == 0
    monkeypatch.setattr(session, "evaluate_all", None)  # is not called
    options = ["--solver", "first-order", "--tau", "0.1", "--out", str(tmp_path / "second")]
    assert main([*command, *options]) == 0
    run = store.read_run(tmp_path / "second")
    assert run.settings["solver"]["2"]["name"] == "FirstOrder" and run.settings["tau"] == 0.1
    assert main([*command, *options[:2], "--out", str(tmp_path / "second")]) == 2
    assert "begun with other settings: tau: 0.1 -> 0.05" in capsys.readouterr().err


def test_changed_settings_are_told_before_what_follows_from_them(models, tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    texts = ["a good film", "a film", "a bad film", "good", "bad", "the film", "the cast", "a cast", "dull", "never"]
    records = [{"text": text, "players": text.split()[-1:], "target": "x"} for text in texts]
    path.write_text("\n".join(map(json.dumps, records)))
    command = ["compare", "--models", models[0], "--prompts", str(path), "--out", str(tmp_path / "run")]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--dtype", "bfloat16", "--noise", "0.1", "--tau", "0.2"]) == 2
    told = capsys.readouterr().err.split("other settings: ")[1].split(". Give")[0]
    assert told == 'noise: 0.02 -> 0.1; tau: 0.05 -> 0.2; models[llama-gqa].dtype: "float32" -> "bfloat16"'
    path.write_text("\n".join(json.dumps(record | {"target": "y" * 99}) for record in records))
    assert main([*command, "--tau", "0.2"]) == 2
    told = capsys.readouterr().err.split("other settings: ")[1].split(". Give")[0]
    changed = [f'prompts[prompt-{n:04d}].target: " x" -> " {"y" * 57}…' for n in range(1, 8)]
    assert told == "; ".join(["tau: 0.05 -> 0.2", *changed]) + ", and 3 more"


def test_new_ways_to_evaluate_are_told(models, tmp_path, monkeypatch, capsys):
    command = ["compare", "--models", models[0], "--prompt", "a good film", "--players", "good"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    monkeypatch.setattr("andor.runs.resume.EVALUATION", -1)
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    assert "other settings: models[llama-gqa]: what is evaluated for 1 of 1 prompts. Give" in capsys.readouterr().err


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
