"""Solvers side by side: how far from the optimum, how long, and what they find of planted effects.

What:      planted games (15 AND and 10 OR effects of normal size plus normal noise of 0.01), orders drawn so that
           strength decays or is flat over orders; with and without the published noise box. Every game is solved by
           HiGHS (scipy, interior point, sparse dictionary), by the published SGD at its step counts, by `FirstOrder`,
           by `InteriorPoint` and by `WorkingSet`, in the same process; "hipo" and "hipdlp" are the solvers of a newer
           HiGHS (highspy[extras]). Times are CPU time of all threads, after compilation. Agreement compares the
           largest 100 effects (at least 1e-3 of the largest) of two runs: two random starts for the published solver;
           for the others, which have no random start, the same game with its players relabelled and v scaled. The
           batch holds as many games of one family as of the other, so its time per prompt compares with HiGHS's mean
           over the games. "joint" solves two related models of each family at once; its time is per pair, over HiGHS's
           for one model. Without "highs", "hipo" is what the others are compared with.
Command:   python -m experiments solver_benchmark [--smoke] [--players 6 8 10] [--seeds 3] [--out DIR]
           For many players, one thread each: OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m experiments
           solver_benchmark --players 12 --seeds 2 --noises 0.02 --solvers hipo hipdlp exact working-set
           On a GPU, where HiGHS has nothing to compare with: --players 10 12 14 --solvers exact
Hardware:  2 CPU cores; 6 to 10 players about 25 minutes, most of it the published solver. The full table is --players
           6 8 10 12, some hours: a game of 12 players takes HiGHS about 50 s, the exact solver 8 s, the first-order
           solver some minutes, and there are 12 of them, each solved twice for the agreement; a joint pair takes about
           a minute. --players 12 --solvers highs exact is 20 minutes of it.
Expected:  exact: gap <= 1e-6 in every game, objective 1.0000, top-100 agreement 100%, time / HiGHS <= 0.3 at 8 players,
           <= 0.8 at 10, <= 0.4 at 12. First-order: gap <= 1e-3 without noise and <= 1e-2 with. Published: objective
           1.05 to 1.16 times the optimum for 6 players, 1.18 to 1.44 for 8 and 1.41 to 3.3 for 10.
"""

import collections
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import scipy.optimize
import scipy.sparse

import andor
from andor.core import lattice
from andor.core.effects import strongest
from andor.core.games import Game, sparse
from andor.measures.metrics import Pair, order_strength
from andor.solvers import FirstOrder, InteriorPoint, Published, WorkingSet
from andor.solvers.extract import extract_joint
from experiments.benchmarks.common import cpu_timed, markdown

Solver = Literal[
    "highs", "published-20k", "published-50k", "first-order", "exact", "working-set", "exact-batch", "joint",
    "hipo", "hipdlp",
]  # fmt: skip
REFERENCES = ("highs", "hipo", "hipdlp")


@dataclasses.dataclass(frozen=True)
class Config:
    """Which games and solvers.

    Attributes:
      players: numbers of players.
      seeds: games per family, number of players and noise bound.
      noises: noise bounds, multiples of |v(N) - v(∅)|.
      solvers: what to run; "exact-batch" solves `batch` prompts in one call, "joint" two related models.
      batch: prompts of "exact-batch".
      out: directory for results.json; nothing is written without it.
      smoke: seconds instead of minutes, numbers without meaning.
    """

    players: tuple[int, ...] = (6, 8, 10)
    seeds: int = 3
    noises: tuple[float, ...] = (0.0, 0.02)
    solvers: tuple[Solver, ...] = (
        "highs", "published-20k", "published-50k", "first-order", "exact", "exact-batch", "joint",
    )  # fmt: skip
    batch: int = 32
    out: Path | None = None
    smoke: bool = False


FAMILIES = {"decaying": 0.5, "flat": 1.0}
"""Kinds of games -> how much rarer effects of one more player are."""


def planted(n_players: int, family: str, seed: int) -> Game:
    """15 AND and 10 OR effects; the order of each is geometric (decaying) or uniform (flat) over 1..n_players."""
    return sparse(np.random.default_rng([n_players, seed, family == "flat"]), n_players, FAMILIES[family])


def linear_programme(v: np.ndarray, noise: float) -> dict:
    """The problem as `scipy.optimize.linprog` takes it. B b = sum(b) - complement(A b) keeps it sparse."""
    n_players = lattice.n_players_of(v)
    size = 2**n_players
    pattern = scipy.sparse.csr_matrix(np.array([[1.0, 0.0], [1.0, 1.0]]))
    within = scipy.sparse.identity(1, format="csr")
    for _ in range(n_players):
        within = scipy.sparse.kron(pattern, within, format="csr")
    touching = -within[::-1]
    # Unknowns: AND+-, OR+-, their sum, noise. Rows: one per non-empty subset, and the sum.
    rows = scipy.sparse.hstack(
        [within, -within, touching, -touching, np.ones((size, 1)), scipy.sparse.identity(size)], format="csr"
    )[1:]
    ones, zeros = np.ones((1, size)), np.zeros((1, size))
    total = scipy.sparse.csr_matrix(np.hstack([zeros, zeros, ones, -ones, [[-1.0]], zeros]))
    price = np.r_[np.tile(np.r_[0.0, np.ones(size - 1)], 4), 0.0, np.zeros(size)]
    effect_bounds = [(0, 0)] + [(0, None)] * (size - 1)
    bound = noise * abs(v[-1] - v[0])
    return dict(
        c=price,
        A_eq=scipy.sparse.vstack([rows, total], format="csc"),
        b_eq=np.r_[(v - v[0])[1:], 0.0],
        bounds=effect_bounds * 4 + [(None, None)] + [(0, 0)] + [(-bound, bound)] * (size - 1),
    )


def reference_solution(v: np.ndarray, noise: float, name: str) -> tuple[Pair, float]:
    """((AND, OR) effects, objective) by HiGHS's interior point, as scipy has it ("highs"), or by "hipo" or "hipdlp"."""
    problem = linear_programme(v, noise)
    if name == "highs":
        result = scipy.optimize.linprog(**problem, method="highs-ipm")
        return _effects_of(result.x), float(result.fun)
    return _by_highspy(problem, name)


def _by_highspy(problem: dict, name: str) -> tuple[Pair, float]:
    """The same by a solver of a newer HiGHS, without crossover."""
    import highspy  # only for these references: pip install "highspy[extras]>=1.15"

    columns = problem["A_eq"]
    lower, upper = np.array(problem["bounds"], dtype=float).T
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = columns.shape
    model.col_cost_ = problem["c"]
    model.col_lower_ = np.where(np.isnan(lower), -np.inf, lower)
    model.col_upper_ = np.where(np.isnan(upper), np.inf, upper)
    model.row_lower_ = model.row_upper_ = problem["b_eq"]
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = columns.indptr, columns.indices
    model.a_matrix_.value_ = columns.data
    solver = highspy.Highs()
    options = dict(output_flag=False, solver=name, threads=1, run_crossover="off")
    options |= dict(pdlp_optimality_tolerance=1e-6, time_limit=LIMIT) if name == "hipdlp" else {}
    for option, value in options.items():
        if solver.setOptionValue(option, value) != highspy.HighsStatus.kOk:
            raise ValueError(f"highspy {solver.version()} refuses {option}={value!r}: install highspy[extras]>=1.15.")
    solver.passModel(model)
    solver.run()
    return _effects_of(np.array(solver.getSolution().col_value)), float(solver.getInfo().objective_function_value)


LIMIT = 600.0
"""Seconds after which HiPDLP, a first-order method, is stopped."""


def _effects_of(unknowns: np.ndarray) -> Pair:
    """(AND effects, OR effects) from the unknowns of `linear_programme`."""
    size = (len(unknowns) - 1) // 5
    x = unknowns[: 4 * size].reshape(4, size)
    one_player = lattice.orders(lattice.n_players_of(x)) == 1
    or_effects = x[2] - x[3]
    return x[0] - x[1] + np.where(one_player, or_effects, 0), np.where(one_player, 0, or_effects)


def order_error(game: Game, pair: Pair) -> float:
    """Sum over orders of |strength - planted strength| over the planted strength."""
    found, truth = (
        each.positive + each.negative
        for each in (order_strength(*pair), order_strength(game.and_effects, game.or_effects))
    )
    return float(np.sum(np.abs(found - truth)) / truth.sum())


def relabelled(v: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(subset -> subset after a random relabelling of the players, v `[..., s]` of the relabelled game)."""
    n_players = lattice.n_players_of(v)
    labels = np.random.default_rng(seed).permutation(n_players)
    subsets = np.array([sum(1 << int(labels[i]) for i in lattice.members(s)) for s in range(2**n_players)])
    out = np.empty_like(v)
    out[..., subsets] = v
    return subsets, out


def again(v: np.ndarray, noise: float, solver) -> Pair:
    """Effects of a second run that differs in everything that ought not to matter."""
    if isinstance(solver, Published):
        solution = andor.extract(v, noise, dataclasses.replace(solver, start=0.1, seed=1))
        return solution.and_effects, solution.or_effects
    subsets, game = relabelled(v, seed=0)
    # One game `[s]`, or one of several models `[m, s]`.
    solution = (andor.extract if v.ndim == 1 else extract_joint)(3.7 * game, noise, solver)
    return solution.and_effects[..., subsets], solution.or_effects[..., subsets]


def agreement(solution: andor.Solution, other: Pair) -> float:
    """Fraction of the largest 100 effects that two runs share."""
    top, others = strongest(solution.and_effects, solution.or_effects, 100), strongest(*other, 100)
    return len(top & others) / max(len(top), len(others))


def solvers_of(config: Config, noise: float) -> dict[str, object]:
    """The solvers asked for that are ours, by name."""
    few, many, steps = (200, 200, 200) if config.smoke else (20_000, 50_000, 50_000)
    every = {
        "published-20k": Published(steps=few, start=0.1),
        "published-50k": Published(steps=many, start=0.1),
        "first-order": FirstOrder(tolerance=1e-3 if noise == 0 else 1e-2, max_steps=steps),
        "exact": InteriorPoint(),
        "working-set": WorkingSet(),
    }
    return {name: solver for name, solver in every.items() if name in config.solvers}


UNKNOWN = dict.fromkeys(("objective", "recovered", "agreement", "order_error", "gap"), np.nan)


def run(config: Config) -> list[dict]:
    """One record per number of players, noise bound, game and solver."""
    records = []
    for n_players, noise in itertools.product(config.players, config.noises):
        solvers = solvers_of(config, noise)
        for solver in solvers.values():
            andor.extract(planted(n_players, "decaying", 0).v, noise, solver)  # compile
        found, highs_seconds = [], []
        for family, seed in itertools.product(FAMILIES, range(config.seeds)):
            of_game = one_game(planted(n_players, family, seed), noise, solvers, config)
            found += [{"family": family, "seed": seed} | each for each in of_game]
            highs_seconds += [each["seconds"] for each in of_game if each["solver"] == "highs"]
            print(n_players, noise, family, seed, "done", flush=True)
        reference = float(np.mean(highs_seconds)) if highs_seconds else np.nan
        found += [{"seed": 0} | each for each in several_games(n_players, noise, reference, config)]
        records += [{"n_players": n_players, "noise": noise} | each for each in found]
    return records


def one_game(game: Game, noise: float, solvers: dict[str, object], config: Config) -> list[dict]:
    """A record per solver that solves one game; the first reference is what the others are compared with."""
    truth = strongest(game.and_effects, game.or_effects, 25)
    optimum, reference, records = np.nan, np.nan, []

    def record(name: str, pair: Pair, objective: float, seconds: float, **more) -> None:
        recovered = len(strongest(*pair, len(truth)) & truth) / len(truth)
        ratios = {"objective": objective / optimum, "seconds": seconds, "time": seconds / reference}
        known = {"solver": name, "recovered": recovered, "order_error": order_error(game, pair)}
        records.append(UNKNOWN | known | ratios | more)

    for name in REFERENCES:
        if name in config.solvers:
            (pair, objective), seconds = cpu_timed(reference_solution, game.v, noise, name)
            if np.isnan(reference):
                optimum, reference = objective, seconds
            record(name, pair, objective, seconds)
    for name, solver in solvers.items():
        solution, seconds = cpu_timed(andor.extract, game.v, noise, solver)
        agreed = agreement(solution, again(game.v, noise, solver))
        more = {"gap": solution.gap, "steps": solution.steps, "agreement": agreed}
        record(name, (solution.and_effects, solution.or_effects), solution.primal, seconds, **more)
    return records


def several_games(n_players: int, noise: float, reference: float, config: Config) -> list[dict]:
    """Records of calls that have no single game to be compared with: of a batch, and of two models at once."""

    def record(name: str, family: str, solution: andor.Solution, seconds: float, **more) -> dict:
        numbers = {"gap": float(np.max(solution.gap)), "seconds": seconds, "time": seconds / reference}
        return {"family": family, "solver": name} | UNKNOWN | numbers | more

    records = []
    if "exact-batch" in config.solvers:
        families = (*FAMILIES,)
        batch = np.stack([planted(n_players, families[s % 2], 100 + s).v for s in range(config.batch)])
        if jax.default_backend() != "cpu":  # on a CPU they are solved one by one, by what is compiled already
            andor.extract(batch, noise)
        solution, seconds = cpu_timed(andor.extract, batch, noise)
        records.append(record("exact-batch", "both", solution, seconds / config.batch))
    for family in FAMILIES if "joint" in config.solvers else ():
        one, other = (planted(n_players, family, seed).v for seed in (0, 200))
        pair = np.stack([one, one + 0.3 * other])
        extract_joint(pair, noise)  # compile
        solution, seconds = cpu_timed(extract_joint, pair, noise)
        agreed = agreement(solution, again(pair, noise, None))
        records.append(record("joint", family, solution, seconds, agreement=agreed))
    return records


COLUMNS = {
    "objective": ("objective / optimum", np.mean, "{:.4f}"),
    "gap": ("worst gap", np.max, "{:.1e}"),
    "seconds": ("CPU seconds", np.mean, "{:.3f}"),
    "time": ("time / HiGHS", np.mean, "{:.2f}"),
    "recovered": ("planted in top k", np.mean, "{:.0%}"),
    "order_error": ("order error", np.mean, "{:.2f}"),
    "agreement": ("worst agreement", np.min, "{:.0%}"),
}


def table(records: list[dict]) -> str:
    """Markdown: one line per number of players, noise bound and solver, over the games of both families."""
    groups = collections.defaultdict(list)
    for record in records:
        groups[record["n_players"], record["noise"], record["solver"]].append(record)
    rows = []
    for key, group in groups.items():
        values = [reduce([record[field] for record in group]) for field, (_, reduce, _) in COLUMNS.items()]
        forms = [form for _, _, form in COLUMNS.values()]
        rows.append([*key, *("" if np.isnan(x) else form.format(x) for x, form in zip(values, forms, strict=True))])
    return markdown(["n", "noise", "solver", *(title for title, _, _ in COLUMNS.values())], rows)


def main(config: Config) -> list[dict]:
    """Run, print the table, and save the records if asked."""
    if config.smoke:
        config = dataclasses.replace(config, players=(5,), seeds=1, noises=(0.02,), batch=2)
    records = run(config)
    print(table(records))
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "results.json").write_text(json.dumps(records, indent=1, default=float))
    return records
