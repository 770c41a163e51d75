"""Searches for settings of pre-training with KerasTuner, by the accuracy on held-out images."""

import os
import pathlib
import shlex
import time
import typing

from sit_keras.config.checks import check_choice
from sit_keras.config.choices import OBJECTIVES, PARAMETERS, SEARCHES
from sit_keras.config.execution import Execution
from sit_keras.config.extras import import_package
from sit_keras.config.presets import run_config
from sit_keras.config.progress import duration
from sit_keras.config.serialization import changed, flat, to_dict
from sit_keras.config.settings import RunConfig
from sit_keras.evaluation.features import FrozenFeatures, head_features
from sit_keras.evaluation.linear import fit_heads
from sit_keras.models.backbone import SiTBackbone
from sit_keras.plots import charts
from sit_keras.runs.cached_step import cached_step, images_fingerprint
from sit_keras.runs.data import RunData
from sit_keras.runs.files import write_text
from sit_keras.runs.folder import run_name
from sit_keras.runs.log import last_losses
from sit_keras.training.guards import Stopped
from sit_keras.workflows.messages import typed
from sit_keras.workflows.pretrain import pretrain
from sit_keras.workflows.search_space import chosen_changes, search_space

keras_tuner = import_package("keras_tuner")
_Tuner: typing.Any = keras_tuner.Tuner

BEST = "best.txt"  # in the folder of a search, one line


class PretrainTuner(_Tuner):
    """Pre-trains an encoder for each trial of an oracle and scores it on held-out images.

    An interrupted trial goes on from its last checkpoint.

    Args:
        oracle: keras_tuner.Oracle that maximises `score`.
        config: RunConfig that the trials change.
        folder: pathlib.Path. Gets KerasTuner's files, and a run in `trials/` for each trial.
        objective: str. One of `OBJECTIVES`.
        data_dir, download, execution: as for `sit_keras.pretrain`.
    """

    def __init__(self, oracle, config, folder, objective, data_dir, download, execution):
        self.config = config
        self.folder = folder
        self.objective_name = objective
        self.data_dir = data_dir
        self.download = download
        self.execution = execution
        self._starts = []  # times at which this call began its trials
        super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)

    def run_trial(self, trial):
        changes = chosen_changes(self.config, trial.hyperparameters.values)
        print(f"\n[trial {trial.trial_id}{self._left()}] {_described(changes)}", flush=True)
        run_dir = self.trial_dir(trial.trial_id)
        try:
            config = changed(self.config, changes)
            pretrain(config, run_dir, self.data_dir, self.download, self.execution)
            value = score(run_dir, config, self.objective_name, self.data_dir, self.download)
        except (Stopped, OSError) as error:  # not because of the settings, so the search stops
            raise keras_tuner.errors.FatalRuntimeError(str(error)) from error
        except (ValueError, ArithmeticError) as error:
            print(f"[trial {trial.trial_id}] failed: {error}", flush=True)
            raise keras_tuner.errors.FailedTrialError(str(error)) from None
        print(f"[trial {trial.trial_id}] {self.objective_name} on held-out images: {value:.2%}")
        return {"score": value}

    def _left(self) -> str:
        """Which trial of how many it is, and how long those left will take; of Hyperband nothing.

        A trial that was finished before this call is not counted in their duration.
        """
        total = getattr(self.oracle, "max_trials", None)
        if not total:
            return ""
        number = len(self.oracle.trials)
        self._starts.append(time.monotonic())
        seconds = self._starts[-1] - self._starts[0]
        if not seconds:
            return f", {number} of {total}"
        left = seconds / (len(self._starts) - 1) * (total - number + 1)
        return f", {number} of {total}, ETA {duration(left)}"

    def trial_dir(self, trial_id: str) -> pathlib.Path:
        """Returns the folder of a trial's run."""
        return self.folder / "trials" / trial_id


def score(
    run_dir: str | os.PathLike,
    config: RunConfig,
    objective: str = "knn",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> float:
    """Returns the accuracy of a finished run's encoder on the images that the run held out.

    Test images are not used.

    Args:
        run_dir: the folder of the run.
        config: RunConfig of the run.
        objective: str. `knn`, which the run's log holds for each epoch, or `linear`.
        data_dir, download: as for `sit_keras.data.load_source`.
    """
    run_dir = pathlib.Path(run_dir)
    if objective == "knn":
        return last_losses(run_dir / "log.csv")["knn_accuracy"]

    def probe(folder):
        data = RunData.load(config, data_dir, download)
        train, held_out = data.probe_images(data.held_out)
        features = FrozenFeatures(SiTBackbone.from_preset(run_dir))
        bank, queries = (head_features(features.of(images)) for images in (train, held_out))
        heads = fit_heads(bank, train.class_labels(), config.seed)
        return {"accuracy": heads.accuracy(queries, held_out.class_labels())}

    return cached_step(run_dir / "held-out", {"seed": config.seed}, probe)["accuracy"]


def tune(
    config: RunConfig,
    output: str | os.PathLike,
    search: str = "random",
    trials: int = 10,
    parameters: typing.Sequence[str] = PARAMETERS,
    objective: str = "knn",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    execution: Execution | None = None,
) -> dict:
    """Searches for better settings, and prints the command that trains with the best ones.

    An interrupted call can be repeated: finished trials are kept, and the last one is continued.

    Args:
        config: RunConfig to start from. It must hold out images.
        output: the folder, which gets `results.json`, `best.txt` (a line about the best trial),
            `tuning.png`, and a run for each trial in `trials/`.
        search: str. One of `SEARCHES`; Hyperband gives most trials few of the config's epochs.
        trials: int. Their number; Hyperband chooses it itself.
        parameters: some of `PARAMETERS`.
        objective: str. One of `OBJECTIVES`, on the images held out from training.
        data_dir, download, execution: as for `sit_keras.pretrain`.

    Returns:
        What `results.json` holds: all trials, and the `best` of them with its `command`.

    Raises:
        ValueError: for settings that cannot be searched, a folder with another search in it, or if
            every trial failed.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
    """
    check_choice("search", search, SEARCHES)
    check_choice("objective", objective, OBJECTIVES)
    space = search_space(config, parameters)
    data = RunData.load(config, data_dir, download)
    data.refuse_as_output(output)
    bank, queries = data.probe_images(data.held_out)
    if not len(bank) or not len(queries):
        raise ValueError(
            f"A search needs labelled images that are held out from training: {config.dataset} has "
            f"{len(queries)} with holdout={config.holdout}. Raise it, or use images with labels."
        )
    settings = {
        "config": to_dict(config),
        "search": search,
        "trials": trials,
        "parameters": list(parameters),
        "objective": objective,
        "train": images_fingerprint(data.train),
        "held_out": images_fingerprint(data.held_out),
    }

    def search_in(path):
        oracle = _oracle(search, config, space, trials)
        tuner = PretrainTuner(oracle, config, path, objective, data_dir, download, execution)
        try:
            tuner.search()
        except keras_tuner.errors.FatalRuntimeError as error:
            raise Stopped(str(error)) from error
        return _results(tuner)

    if data.test is None:
        print(
            f"{config.dataset} has no test images of its own, so `evaluate` will test on images "
            "that this search also uses: divide them into PATH/train and PATH/test for a fair test."
        )
    folder = pathlib.Path(output)
    results = cached_step(folder, settings, search_in)
    best = results["best"]
    write_text(
        folder / BEST,
        f"Trial {best['trial']} is the best: {best['score']:.2%} by {objective} on held-out "
        f"images ({_described(best['changes'])}). Its run is trials/{best['trial']}.\n",
    )
    print(summary(results, folder))
    return results


def _oracle(search, config, space, trials):
    common = {
        "objective": keras_tuner.Objective("score", "max"),
        "seed": config.seed + 1,  # KerasTuner takes 0 for no seed
        "hyperparameters": space,
        "allow_new_entries": False,
        "max_consecutive_failed_trials": 10**6,  # failed trials are reported at the end
    }
    if search == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=config.epochs, **common)
    elif search == "bayesian":
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(max_trials=trials, **common)
    else:
        oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=trials, **common)
    oracle.verbose = 0
    return oracle


def _results(tuner: PretrainTuner) -> dict:
    """Returns the scores of all trials as plain values, and plots them."""
    rows = []
    # KerasTuner itself puts a trial that was interrupted behind the others.
    for trial in sorted(tuner.oracle.trials.values(), key=lambda trial: trial.trial_id):
        error = (trial.message or "").strip().splitlines()
        rows.append(
            {
                "trial": trial.trial_id,
                "score": trial.score,
                "changes": chosen_changes(tuner.config, trial.hyperparameters.values),
                "error": error[-1] if error else None,
                "run": str(tuner.trial_dir(trial.trial_id)),
            }
        )
    done = [row for row in rows if row["score"] is not None]
    if not done:
        raise ValueError(f"Every trial failed, the last one with: {rows[-1]['error']}")
    best = dict(max(done, key=lambda row: row["score"]))
    charts.search_chart(done, tuner.folder / "tuning.png")
    best["command"] = command(tuner.config, best["changes"], tuner.data_dir)
    return {"trials": rows, "best": best}


def command(config: RunConfig, changes: dict, data_dir: str | os.PathLike | None = None) -> str:
    """Returns the command that trains with the settings of a trial.

    Args:
        config: RunConfig that the search started from.
        changes: of `chosen_changes`.
        data_dir: as for `sit_keras.data.load_source`.
    """
    begin = flat(run_config(config.preset, recipe=config.recipe, dataset=config.dataset))
    wanted = flat(changed(config, changes))
    parts = [*typed("train").split(), f"--dataset={config.dataset}", f"--preset={config.preset}"]
    parts += [f"--recipe={config.recipe}"] if config.recipe != "paper" else []
    for name, value in wanted.items():
        if value != begin[name]:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            parts.append(f"--set={name}={text}")
    parts.append(f"--run_dir=runs/{run_name(config)}-tuned")
    parts += [f"--data_dir={data_dir}"] if data_dir else []
    return shlex.join(parts)


def summary(results: dict, folder: pathlib.Path) -> str:
    """Returns the trials as a table, best first, and the command that trains with the best."""
    rows = sorted(results["trials"], key=lambda row: -(row["score"] or 0))
    lines = [""]
    best = results["best"]["trial"]
    for row in rows:
        outcome = "failed" if row["score"] is None else f"{row['score']:.2%}"
        mark = " (best)" if row["trial"] == best else ""
        lines.append(f"{outcome:>8}  trial {row['trial']}{mark}  {_described(row['changes'])}")
        if row["error"]:
            lines.append(f"          {row['error']}")
    lines += ["", f"Trials and chart: {folder}", f"Best encoder:     {results['best']['run']}"]
    lines += ["Train with the best settings:", "", results["best"]["command"]]
    return "\n".join(lines)


def _described(changes) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items() if value is not None)
