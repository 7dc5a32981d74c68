"""Pretrained."""
import dataclasses
from pathlib import Path
import numpy as np
from andor.prompts import Prompt, read_prompts
from andor.runs.run import Run
from experiments.study import Settings, comparison

OWN = Path(__file__).with_suffix(".jsonl")
SQUAD, EVERY = "squad_next_word/first_700.jsonl", 28
DEMO = "symtrust_demo/prompts.jsonl"
PLAYERS = 7
LEAST_P = 0.3
MASKS = ("delete", "mean")


def candidates(settings: Settings) -> list[Prompt]:
    found = read_prompts(OWN)
    if settings.corpus is not None:
        found += read_prompts(settings.corpus / DEMO) + read_prompts(settings.corpus / SQUAD)[::EVERY]
    return [_with_players(prompt) for prompt in found]


def _with_players(prompt: Prompt) -> Prompt:
    last = prompt.text.rstrip().rfind(" ") + 1
    players = [span for span in prompt.players if span[1] <= last][-PLAYERS:]
    target = prompt.target if not (prompt.id.startswith(("squad", "symtrust"))) else None
    return Prompt(prompt.text, players, target, id=prompt.id)


def screen(settings: Settings, prompts) -> Run:
    one = [dataclasses.replace(prompt, players=prompt.players[-1:]) for prompt in prompts]
    return comparison(settings, prompts=one, own_targets=True, noise=0.02)


def kept(run: Run, prompts):
    found = []
    for prompt in prompts:
        if (run.models[0], prompt.id) not in run:
            continue
        each = [run[model, prompt.id].values for model in run.models]
        if len({v.target for v in each}) == 1 and min(v.target_probability for v in each) >= LEAST_P:
            found.append(dataclasses.replace(prompt, target=each[0].target, exact=True))
    return found


if __name__ == "__main__":
    import sys
    settings = Settings(models=tuple(sys.argv[3:]), corpus=Path("/work/shared/data"), work=Path("/tmp/w/pretrained/work"))
    prompts = candidates(settings)
    print(len(prompts), {n: sum(p.n_players == n for p in prompts) for n in range(9)}, flush=True)
    run = screen(settings, prompts)
    for prompt in prompts:
        if (run.models[0], prompt.id) in run:
            print(prompt.id, [(run[m, prompt.id].target, round(run[m, prompt.id].values.target_probability, 2)) for m in run.models])
        else:
            print(prompt.id, "skipped")
    for each in run.skipped: print(each)
    chosen = kept(run, prompts)
    print(len(chosen), [p.id for p in chosen], flush=True)
    if sys.argv[1] == "all":
        for mask in sys.argv[2].split(","):
            comparison(settings, prompts=chosen, baseline=mask, noise="auto")
            print(mask, "done", flush=True)
