"""Studies of matching, sparsity, convergence, orders and ablations: smoke runs, and the statistics behind them."""

import dataclasses
import importlib

import numpy as np
import pytest

import andor
from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.core.games import mixture
from andor.measures import metrics
from andor.measures.profile import profile_of
from experiments import study
from experiments.lab import controls, methods, seeds
from experiments.studies import ablations, convergence, nulls, orders

SMOKE = ("matching", "sparsity", "convergence", "orders", "ablations", "nulls")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One folder for all, so that each run is made once."""
    return tmp_path_factory.mktemp("work")


def saved(name, work):
    """The result of a smoke run, made here where the test that makes it ran in another process."""
    settings = study.Settings(smoke=True, work=work)
    if not study.result_file(name, settings.folder).exists():
        study.execute(name, settings)
    return study.load(name, settings.folder)


@pytest.mark.parametrize("name", SMOKE)
def test_smoke(name, work, capsys):
    settings = study.Settings(smoke=True, work=work)
    result = study.execute(name, settings)
    assert result["provenance"]["command"] == f"python -m experiments {name} --smoke"
    assert result["runs"][0]["models"][0]["fingerprint"]
    assert {(work / "smoke" / f"{name}.{end}").exists() for end in ("json", "png", "pdf")} == {True}
    rows = study.study(name).rows(result)
    assert rows and all(row.claim and row.published and row.ours for row in rows)
    assert rows[0].ours in capsys.readouterr().out


def test_convergence_of_smoke_runs_is_bracketed_by_its_baselines(work):
    result = saved("convergence", work)
    overlap = {name: case["mean_overlap"][0] for name, case in result["cases"].items()}
    assert overlap[convergence.AGAIN] > 0.999 > overlap[convergence.TWO_MODELS["certified"]]
    assert overlap[convergence.SHUFFLED] < overlap[convergence.TWO_MODELS["certified"]]
    assert convergence.SEEDS not in overlap  # no corpus, no second seed


def test_ablations_of_smoke_runs_change_nothing_where_nothing_is_changed(work):
    base, *varied = saved("ablations", work)["table"]
    assert base["overlap_difference"] == [0, 0, 0]
    assert {each["group"] for each in varied} == {v.group for v in ablations.variants(study.Settings())}
    table = (work / "smoke" / "ablations.md").read_text()
    assert table.count("\n") == 2 + 1 + len(varied)


def test_permuted_values_stay_among_masks_of_their_size():
    v, sizes = np.arange(32.0), lattice.orders(5)
    found = controls.permuted(v, np.random.default_rng(0))
    assert (found != v).any() and found[0] == v[0] and found[-1] == v[-1]
    for size in range(6):
        assert sorted(found[sizes == size]) == v[sizes == size].tolist()


def test_a_random_model_has_the_architecture_of_another_and_other_weights():
    model, same, other = (controls.random_model("tiny-llama", "float32", seed) for seed in (0, 0, 1))
    loaded = andor.load("tiny-llama")
    assert model.decoder.config == loaded.decoder.config and model.dtype == loaded.dtype
    assert (model.decoder.head == same.decoder.head).all()
    assert not (model.decoder.head == other.decoder.head).any()
    assert not (model.decoder.head == loaded.decoder.head).all()


def test_nulls_are_compared_prompt_by_prompt(work):
    result = saved("nulls", work)
    assert set(result["numbers"]) == {"tiny-llama", "tiny-qwen2", nulls.TOGETHER}
    for numbers in result["numbers"].values():
        for null in ("permuted", "random"):
            difference = numbers["model"]["pairs"][0] - numbers[null]["pairs"][0]
            assert numbers[f"less_{null}"]["pairs"][0] == pytest.approx(difference, abs=1e-6)
        # None of so many Walsh functions do better than the strongest; regression has fewer than 20 of 3 players.
        assert all(numbers[kind]["walsh"][0] >= numbers[kind]["pairs"][0] - 1e-6 for kind in nulls.KINDS)
    one, both = result["numbers"]["tiny-llama"]["model"], result["numbers"][nulls.TOGETHER]["model"]
    assert one["pairs"][1] <= one["pairs"][0] <= one["pairs"][2] and both["pairs"] != one["pairs"]


def test_table_and_draw_read_saved_results(work, capsys):
    main, out = importlib.import_module("experiments.__main__"), ["--out", str(work / "smoke")]
    saved("sparsity", work)
    made = [name for name in SMOKE if study.result_file(name, work / "smoke").exists()]
    capsys.readouterr()
    assert main.main(["table", *out]) == 0
    printed = capsys.readouterr().out
    for name in made:
        assert f"| [{name}]({name}.png) | `python -m experiments {name} --smoke` |" in printed
        for row in study.study(name).rows(study.load(name, work / "smoke")):
            assert row.ours in printed
    picture = work / "smoke" / "sparsity.png"
    drawn = picture.read_bytes()
    picture.unlink()
    assert main.main(["draw", "sparsity", *out]) == 0
    assert picture.read_bytes() == drawn
    assert main.main(["draw", "nothing"]) == 2


def test_studies_of_pairs_ask_for_two_models(work):
    settings = study.Settings(models=("tiny-llama",), smoke=True, work=work)
    for module in (convergence, ablations):
        with pytest.raises(ValueError, match="two models"):
            module.measure(settings)


def test_two_seeds_differ_only_in_their_weights(work, tmp_path):
    assert seeds.trained(study.Settings(smoke=True, work=tmp_path)) == ()
    (tmp_path / "sst2").mkdir()
    rows = [
        f"a {word} film about {topic} \t{label}" for label, word in enumerate(("bad", "good")) for topic in "abcdefghij"
    ]
    for part in ("train", "dev"):
        (tmp_path / "sst2" / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    (tmp_path / "tinystories").mkdir()
    (tmp_path / "tinystories" / "part.txt").write_text("\n<|endoftext|>\n".join(["Once there was a good dog."] * 30))
    settings = study.Settings(smoke=True, work=tmp_path, corpus=tmp_path)
    folders = seeds.trained(settings)
    files = [
        [(tmp_path / "seeds" / folder.rsplit("/", 1)[-1] / name).read_bytes() for folder in folders]
        for name in ("config.json", "tokenizer.json", "model.safetensors")
    ]
    assert [first == second for first, second in files] == [True, True, False]
    written = (tmp_path / "seeds").stat().st_mtime_ns
    assert seeds.trained(settings) == folders and (tmp_path / "seeds").stat().st_mtime_ns == written


def test_shared_by_chance_is_not_beyond_chance():
    rng = np.random.default_rng(0)
    chance = np.array([0.0, 0.9, 0.4, 0.1, 0.1, 0.1, 0.1])[lattice.orders(6)]  # most effects are of low order
    strengths = np.where(rng.random((20, 2, 64)) < chance, rng.uniform(0.5, 1, size=(20, 2, 64)), 0.0)
    pairs = [tuple(each) for each in strengths]
    found = convergence.compared_groups([[pair, metrics.shuffled(pair, rng)] for pair in pairs], seed=0)
    estimate, low, high = found["beyond chance"]["order"]
    assert low < 0 < high and abs(estimate) < 0.3
    # Where many subsets have an effect, accidents are many.
    assert found["chance"]["order"][1] > 0 and found["difference"]["order"][0] > 0


def test_players_permuted_move_v_and_nothing_else():
    v = np.random.default_rng(0).normal(size=16)
    turned = np.array([1, 2, 3, 0])
    first, second = convergence._joint(v, v, 0.0, lambda n: turned)
    same = convergence._joint(v, v, 0.0, np.arange)
    np.testing.assert_allclose(same[0][0], same[1][0], atol=1e-6)
    rebuilt = reconstruct(*second)
    assert rebuilt[0b0001] == pytest.approx(v[0b0010], abs=1e-6)  # player 0 is player 1 of its prompt
    assert rebuilt[0b1001] == pytest.approx(v[0b0011], abs=1e-6)
    assert reconstruct(*first)[0b1001] == pytest.approx(v[0b1001], abs=1e-6)


def test_planted_controls_decay_or_are_a_spindle():
    shares = {}
    for family, share in orders.FAMILIES.items():
        rng = np.random.default_rng(0)
        games = [mixture(rng, 10, share, orders.RATE, orders.RATIO, or_too=True, noise=0.0)[0] for _ in range(30)]
        pairs = [(game.and_effects, game.or_effects) for game in games]
        shares[family] = profile_of(pairs).split.spindle_share
    assert shares["decaying"] < 0.1 and shares["flat"] > 0.9


def test_the_published_answer_is_the_weaker_one():
    strong, weak = (np.array([9.0, 1.0]), np.array([0.0, 2.0])), (np.array([0.0, 1.0]), np.array([0.0, -1.5]))
    assert methods.weaker([strong, weak]) is weak  # v(∅) is no effect
    v = np.stack([np.arange(8.0), np.ones(8)])
    (solver,) = methods.published_solvers(study.Settings(smoke=True))
    assert len(methods.published_solvers(study.Settings())) == 2
    found = methods.by_method(v, (solver, dataclasses.replace(solver, learning_rate=1e-6)))
    assert set(found) == set(methods.LABELS) and all(len(each) == 2 for each in found.values())
    np.testing.assert_allclose(reconstruct(*found["and_only"][0]), v[0])


def test_planted_games_come_back_in_units_of_what_was_planted(work):
    games = saved("orders", work)["games"]
    for family in orders.FAMILIES:
        assert games[family][orders.TRUTH]["total"][0] == pytest.approx(1)
        assert games[family]["certified"]["total"][0] <= 1 + 1e-6


def test_every_variant_maps_every_prompt():
    settings = study.Settings()
    prompts = study.prompts_of(settings)
    for variant in ablations.variants(settings):
        changed = variant.change(prompts)
        assert [p.id for p in changed] == [p.id for p in prompts], variant.name
        if variant.same_players:
            base = ablations.BASE.change(prompts)
            assert [p.words for p in changed] == [p.words for p in base], variant.name
    reworded = ablations.reworded(prompts)
    assert all(one.text != two.text and one.target == two.target for one, two in zip(prompts, reworded, strict=True))
    everywhere = ablations.random_words(prompts, 8, seed=0)
    assert all(p.n_players == 8 for p in everywhere) and {"the"} & {word for p in everywhere for word in p.words}
    assert not any("sentiment" in p.words for p in everywhere)
