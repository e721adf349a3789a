"""Does the optimiser decay what it should, and is the learning rate what the recipe says?"""

from torch import nn

from tsugiki.recipe_training import TrainingSection
from tsugiki.schedule import SHAPES, decay_begins_after
from tsugiki.training.preflight.bench import Bench
from tsugiki.training.preflight.report import Finding, fail, ok, warn

FORGETTING_RATE = 3e-5
"""Above this a 7B model lost much of its old language within 2,000 steps (Swallow's sweep: 2e-5 kept TriviaQA and
GSM8K nearly whole, 6e-5 and 1e-4 did not)."""
LARGE = 5e8
"""Parameters from which on that is asked: smaller models are trained at higher rates."""


def decay_groups(bench: Bench) -> Finding:
    """Every trained tensor is in one group; matrices are decayed, norms, biases and other vectors are not; input
    embeddings and output layer alone have another rate."""
    settings, model = bench.run.recipe.training, bench.run.model
    names = {id(parameter): name for name, parameter in model.named_hf_parameters()}
    embeddings, normalised = set(), set()
    for module in model.hf.modules():
        own = {id(parameter) for parameter in module.parameters(recurse=False)}
        embeddings |= own if isinstance(module, nn.Embedding) else set()
        normalised |= own if "norm" in type(module).__name__.lower() else set()
    ends = [module for module in (model.hf.get_input_embeddings(), bench.head) if module is not None]
    vocabulary = {id(parameter) for module in ends for parameter in module.parameters()}
    seen: list[int] = []
    wrong, wrong_rate = [], []
    decayed = 0
    for group in bench.run.optimizer.torch.param_groups:
        for parameter in group["params"]:
            key = id(parameter)
            seen.append(key)
            vector = parameter.ndim < 2 or key in normalised
            by_choice = key in embeddings | vocabulary and not settings.decay_embeddings
            expected = 0.0 if vector or by_choice else settings.weight_decay
            decayed += group["weight_decay"] > 0
            if group["weight_decay"] != expected:
                wrong.append(f"{names.get(key, '?')} has {group['weight_decay']:g}")
            factor = settings.embedding_lr_factor if key in vocabulary else 1.0
            if group["lr_factor"] != factor:
                wrong_rate.append(f"{names.get(key, '?')} has {group['lr_factor']:g} instead of {factor:g}")
    trained = {id(p) for _, p in model.named_hf_parameters() if p.requires_grad}
    if len(seen) != len(set(seen)) or set(seen) != trained:
        lost = [names[key] for key in trained - set(seen)]
        return fail(
            f"{len(seen)} tensors in the optimiser, {len(trained)} trained; missing: {', '.join(lost[:3]) or 'none'}"
        )
    if wrong:
        return fail(
            f"{len(wrong)} tensors with the wrong decay: {', '.join(wrong[:3])}", "0 on norms, biases and vectors"
        )
    if wrong_rate:
        return fail(f"{len(wrong_rate)} tensors with the wrong factor of the rate: {', '.join(wrong_rate[:3])}")
    return ok(
        f"{decayed} tensors decayed by {settings.weight_decay:g}, {len(seen) - decayed} not",
        "0 on norms, biases and vectors",
    )


def schedule(bench: Bench) -> Finding:
    """The rate is a pure function of the step: warm-up, peak and minimum as the recipe says, at the right steps."""
    settings, total = bench.run.recipe.training, bench.run.total_steps
    rate = bench.run.schedule
    warmup, peak = settings.warmup_steps, settings.learning_rate
    falls, start = SHAPES[settings.lr_scheduler].fall is not None, decay_begins_after(settings, total)
    last = settings.min_lr if falls and warmup < total else peak
    wanted = {1, warmup // 2, warmup, warmup + 1, total // 2, start, (start + total) // 2, total - 1, total}
    marks = sorted(step for step in wanted if 1 <= step <= total)
    forward = [rate(step) for step in marks]
    backward = [rate(step) for step in reversed(marks)][::-1]
    table = ", ".join(f"{step:,}: {value:.3g}" for step, value in zip(marks, forward, strict=True))
    if forward != backward or forward != [rate(step) for step in marks]:
        return fail(f"asked twice, the schedule gives other rates ({table})", "a pure function of the step")
    problems = []
    if 0 < warmup < total and (abs(rate(warmup) / peak - 1) > 1e-6 or abs(rate(1) / (peak / warmup) - 1) > 1e-6):
        problems.append("the warm-up")
    if total > 1 and abs(rate(total) - last) > 1e-6 * peak:
        problems.append("the end")
    if any(not 0 <= value <= peak * (1 + 1e-9) for value in forward):
        problems.append("the range")
    if start > warmup and abs(rate(start) / peak - 1) > 1e-6:
        problems.append("the peak")
    if falls and settings.min_lr < peak and total - start > 4 and not last < rate((start + total) // 2) < peak:
        problems.append("the middle")
    expected = f"{peak:g} after {warmup:,} steps, {last:g} at step {total:,}"
    return (
        fail(f"{' and '.join(problems)} of the schedule is wrong ({table})", expected)
        if problems
        else ok(table, expected)
    )


def peak_rate(bench: Bench) -> Finding:
    """Rates and warm-ups that are known to do harm."""
    settings, recipe = bench.run.recipe.training, bench.run.recipe
    remarks = []
    parameters = sum(parameter.numel() for _, parameter in bench.run.model.named_hf_parameters())
    rates = describe_peak(settings)
    fastest = settings.learning_rate * max(1.0, settings.embedding_lr_factor)
    whole = bench.run.model.adapters is None  # adapters take ten times the rate
    if whole and recipe.model.name_or_path is not None and parameters > LARGE and fastest > FORGETTING_RATE:
        remarks.append(
            f"peak {rates}: with all weights at 6e-5 and 1e-4 a 7B model lost its old language within 2,000 steps, "
            "at 2e-5 it kept it"
        )
    settled = round(1 / (1 - settings.adam_beta2)) if settings.adam_beta2 < 1 else 0
    alone = settings.embedding_warmup_steps
    left = max(0, settings.warmup_steps - alone)  # when the last weights begin to move, their moments empty
    if settings.warmup_steps > 0 and left < settled:
        begun = f" left after {alone:,} of the embeddings alone" if alone else ""
        remarks.append(f"{left} steps of warm-up{begun}, but Adam's second moment settles over {settled}")
    if remarks:
        return warn("; ".join(remarks))
    return ok(f"peak {rates}, {settings.warmup_steps:,} steps of warm-up")


def describe_peak(settings: TrainingSection) -> str:
    """The highest learning rate, and that of the embeddings where it is another."""
    text = f"{settings.learning_rate:g}"
    if settings.embedding_lr_factor != 1:
        text += f" (embeddings {settings.learning_rate * settings.embedding_lr_factor:g})"
    return text
