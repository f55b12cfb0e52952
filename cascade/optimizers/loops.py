"""How much DSPy's optimizers ask for at most: their loops, read off the source of the DSPy that is pinned (3.4.1).

Invariant: every function counts what its optimizer does where nothing stops it early. A class that is not here, a
subclass of one that is here included, is not known; it may say itself, by a static method `upper_bound(options,
given)` that returns `Work`, or a reason why there is no bound.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import dspy

from cascade.experiment import Stage
from cascade.optimizers.ensemble import Ensemble
from cascade.optimizers.finetune import BootstrapFinetune
from cascade.optimizers.work import Given, Work
from cascade.options import parameters

Options = Mapping[str, Any]
Rule = Callable[[Options, Given], "Work | str"]


def work(optimizer: type, options: Options, given: Given) -> Work | str:
    """What an optimizer asks for at most, or a reason why that cannot be known.

    Args:
        options: those that a stage gives.
        given: as the cascade would have it; what options say of examples and teachers takes its place.
    """
    rule = getattr(optimizer, "upper_bound", None) or _RULES.get(f"{optimizer.__module__}.{optimizer.__qualname__}")
    if rule is None:
        return f"{optimizer.__name__} does not say how much it asks for"
    try:
        found: Work | str = rule({**_defaults(optimizer), **options}, _said(options, given))
    except Exception as error:  # Options that the optimizer will refuse too; a bound only informs.
        return f"{optimizer.__name__} with these options: {type(error).__name__}: {error}"
    return found


def _said(options: Options, given: Given) -> Given:
    train, val = options.get("trainset"), options.get("valset", ...)
    return replace(
        given,
        train=given.train if train is None else len(train),
        val=given.val if val is ... else len(val or ()),
        teacher=given.teacher and "teacher" not in options,
    )


def _defaults(optimizer: type) -> dict[str, Any]:
    """Defaults of `compile` and, before them, of the constructor: that is where options go that both take."""
    constructor, compile_ = parameters(optimizer)
    return {name: parameter.default for name, parameter in {**compile_, **constructor}.items()}


def _bootstraps(times: int, options: Options, given: Given) -> Work:
    """`BootstrapFewShot._bootstrap`, so often: every example of train is tried until it is answered well."""
    runs = times * given.train * options.get("max_rounds", 1)
    return Work(teacher_runs=runs) if given.teacher else Work(runs=runs)


def _nothing(options: Options, given: Given) -> Work:  # noqa: ARG001
    """`vanilla.py`: `compile` chooses and calls no LM."""
    return Work()


def _bootstrap_few_shot(options: Options, given: Given) -> Work:
    """`bootstrap.py`."""
    wanted = bool(options["max_bootstrapped_demos"])
    return _bootstraps(int(wanted), options, given)


def _random_search(options: Options, given: Given) -> Work:
    """`random_search.py`: candidates -3 (no demos), -2 (labels), -1 and on (bootstrapped), each on all of val."""
    only = options["restrict"]
    seeds = [seed for seed in range(-3, options["num_candidate_programs"]) if only is None or seed in only]
    bootstrapped = sum(seed >= -1 for seed in seeds)
    return Work(runs=len(seeds) * (given.val or given.train)) + _bootstraps(bootstrapped, options, given)


def _optuna(options: Options, given: Given) -> Work:
    """`teleprompt_optuna.py`: demos once, then trials on val that show one of them each."""
    runs = options["num_candidate_programs"] * (given.val or given.train)
    return _bootstraps(int(bool(options["max_demos"])), options, given) + Work(runs=runs)


def _mipro(options: Options, given: Given) -> Work:
    """`mipro_optimizer_v2.py`: demo sets, then instructions, then trials."""
    from dspy.teleprompt.mipro_optimizer_v2 import AUTO_RUN_SETTINGS, MIN_MINIBATCH_SIZE

    zeroshot = not options["max_bootstrapped_demos"] and not options["max_labeled_demos"]
    trials, sets, minibatch = options["num_trials"], options["num_candidates"], options["minibatch"]
    if not given.val:  # `_set_and_validate_datasets`
        val = min(1000, max(1, int(given.train * 0.80)))
        given = replace(given, train=given.train - val, val=val)
    val, instructions = given.val or 0, sets
    if options["auto"]:  # `_set_hyperparams_from_run_mode`
        auto = AUTO_RUN_SETTINGS[options["auto"]]
        val, sets = min(val, auto["val_size"]), auto["n"]
        minibatch, instructions = val > MIN_MINIBATCH_SIZE, sets if zeroshot else int(sets * 0.5)
        trials = _trials(given.predictors * (1 if zeroshot else 2), sets)
    if trials is None or sets is None:
        return Work()  # refused before anything is asked
    labeled = bool(options["max_labeled_demos"])
    # `create_n_fewshot_demo_sets`: one set without demos, one of labels where there may be any.
    bootstrapped = max(0, sets - 1 - (labeled and sets > 1))
    # `GenerateModuleInstruction.forward`: with the program in view, it is described, its module is, and then one asks.
    each = 3 if options["program_aware_proposer"] else 1
    proposals = given.predictors * min(instructions, max(sets, 1)) * each
    return (
        _bootstraps(bootstrapped, {}, given)
        + Work(prompt_calls=_summary(options, given) + proposals)
        + Work(runs=_searched(trials, val, options, minibatch=minibatch))
    )


def _trials(variables: int, candidates: int) -> int:
    """`MIPROv2._set_num_trials_from_num_candidates`."""
    return int(max(2 * variables * math.log2(candidates), 1.5 * candidates))


def _summary(options: Options, given: Given) -> int:
    """`create_dataset_summary`: a first look, at most nine more, and their summary."""
    if not options["data_aware_proposer"]:
        return 0
    return 2 + max(0, min(9, math.ceil(given.train / int(options["view_data_batch_size"])) - 1))


def _searched(trials: int, val: int, options: Options, *, minibatch: bool) -> int:
    """`_optimize_prompt_parameters`: the default program, then trials, with full evaluations between minibatches."""
    if not minibatch:
        return val * (1 + trials)
    every = int(options["minibatch_full_eval_steps"])
    last = trials + trials // every + (1 if trials % every else 0)
    full, added = 0, 1  # Optuna numbers the trials that are added by hand too, the default program's first
    for trial in range(trials):
        number = trial + added + 1
        if number % (every + 1) == 0 or number == last:
            full, added = full + 1, added + 1
    return val * (1 + full) + trials * min(int(options["minibatch_size"]), val)


def _better_together(options: Options, given: Given) -> Work | str:
    """`bettertogether.py`: the student and the result of every step on val, and the steps themselves."""
    if not given.val:  # `_prepare_trainset_and_valset`
        val = int(options["valset_ratio"] * given.train)
        given = replace(given, train=given.train - val, val=val)
    steps = options["strategy"].split(" -> ")
    total = Work(runs=(1 + len(steps)) * (given.val or 0))
    known = {name: option for name, option in options.items() if isinstance(option, Stage)} or {
        "p": Stage("p", dspy.BootstrapFewShotWithRandomSearch),
        "w": Stage("w", dspy.BootstrapFinetune),
    }
    for step in steps:
        if step not in known:
            return f"the strategy {options['strategy']!r} names {step!r}, which is no option"
        found = work(known[step].optimizer, _nested(step, known[step], options), given)
        if isinstance(found, str):
            return found
        total += found
    return total


def _nested(name: str, inner: Stage, options: Options) -> Options:
    """The options that reach a nested optimizer: `optimizer_compile_args` takes the place of those of its compile."""
    if (said := options["optimizer_compile_args"]) is None:
        return inner.options
    constructor, _ = parameters(inner.optimizer)
    return {key: value for key, value in inner.options.items() if key in constructor} | dict(said.get(name, {}))


def _gepa(options: Options, given: Given) -> Work | str:
    """`gepa/gepa.py` and the package `gepa`: its budget of program runs is looked at between iterations only.

    A metric that asks an LM is asked once more for feedback; the ledger answers.
    """
    own = [name for name in ("instruction_proposer", "code_proposer", "gepa_kwargs") if options.get(name)]
    if any(isinstance(part, dspy.Flex) for _, part in given.program.named_sub_modules()):
        own.append("a dspy.Flex module")
    if own:
        return f"GEPA with {own[0]} may ask for more than its budget of program runs"
    val, batch = given.val or given.train, options["reflection_minibatch_size"] or 3
    if options["auto"]:
        from dspy.teleprompt.gepa.gepa import AUTO_RUN_SETTINGS

        candidates = AUTO_RUN_SETTINGS[options["auto"]]["n"]
        budget = dspy.GEPA.auto_budget(None, max(given.predictors, 1), candidates, val)
    elif options["max_full_evals"] is not None:
        budget = options["max_full_evals"] * (given.train + (given.val or 0))
    else:
        budget = options["max_metric_calls"] or 0
    if budget <= val:  # The first evaluation is made whatever it costs.
        return Work(runs=val)
    # An iteration runs a parent and its child on a batch, or a merged program on five examples, and the one that is
    # accepted on val. A parent costs a batch, so that counts iterations, as its child does where there is one.
    parts = 1 if options["component_selector"] == "round_robin" else given.predictors
    proposals = parts * math.ceil((budget - val) / (2 * batch))
    # A proposal that cannot be used is asked for once more (`_propose_texts_batch_safe`) and has no child.
    failing = 2 * parts * math.ceil((budget - val) / batch)
    return Work(runs=budget - 1 + max(2 * batch, 5) + val, prompt_calls=proposals, prompt_repairs=failing - proposals)


def _simba(options: Options, given: Given) -> Work:
    """`simba.py`: steps that sample and then try candidates on a batch, and the winners on all of train."""
    steps, batch, candidates = options["max_steps"], options["bsize"], options["num_candidates"]
    winners = min(candidates, steps) + 1
    # A rule is asked for at most once a bucket, of which there is one an example. Without failures the first ones do.
    rules = steps * min(batch, candidates + 1)
    return Work(
        runs=steps * batch * (2 * candidates + 1) + winners * given.train,
        prompt_calls=rules,
        prompt_repairs=steps * batch - rules,
    )


def _copro(options: Options, given: Given) -> Work:
    """`copro_optimizer.py`: one predictor tries its newest candidates, one of several all that there are by then.

    One call gives all proposals of a round (`n=`), and counts once.
    """
    breadth, depth, predictors = options["breadth"], options["depth"], given.predictors
    rounds = depth if predictors == 1 else depth * (depth + 1) // 2
    return Work(runs=predictors * rounds * breadth * given.train, prompt_calls=predictors * max(depth, 1))


def _infer_rules(options: Options, given: Given) -> Work:
    """`infer_rules.py`: demos, then candidates; the task's LM writes the rules of each predictor."""
    if not given.val:
        half = int(0.5 * given.train)
        given = replace(given, train=half, val=given.train - half)
    candidates = options["num_candidates"]
    return _bootstraps(1, options, given) + Work(
        runs=candidates * (given.val or 0), task_calls=candidates * given.predictors
    )


_RULES: Mapping[str, Rule] = {
    "dspy.teleprompt.mipro_optimizer_v2.MIPROv2": _mipro,
    "dspy.teleprompt.bootstrap.BootstrapFewShot": _bootstrap_few_shot,
    "dspy.teleprompt.random_search.BootstrapFewShotWithRandomSearch": _random_search,
    "dspy.teleprompt.bettertogether.BetterTogether": _better_together,
    # Stages run ours in their place.
    "dspy.teleprompt.bootstrap_finetune.BootstrapFinetune": BootstrapFinetune.upper_bound,
    "dspy.teleprompt.ensemble.Ensemble": Ensemble.upper_bound,
    "dspy.teleprompt.gepa.gepa.GEPA": _gepa,
    "dspy.teleprompt.simba.SIMBA": _simba,
    "dspy.teleprompt.copro_optimizer.COPRO": _copro,
    "dspy.teleprompt.infer_rules.InferRules": _infer_rules,
    "dspy.teleprompt.vanilla.LabeledFewShot": _nothing,
    "dspy.teleprompt.teleprompt_optuna.BootstrapFewShotWithOptuna": _optuna,
}
"""By full name: finding a class must not import the packages that it needs."""
