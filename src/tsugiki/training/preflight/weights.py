"""Are these the weights of the files, in the format that was asked for, and can a step move them?"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsugiki.files import read_json
from tsugiki.model.adapters import base_name, is_trained
from tsugiki.model.matmul_speed import SLOW_BF16, bf16_slowness
from tsugiki.model.safe_config import build_config, clean_config
from tsugiki.model.shard import inner_layer, is_tied, local
from tsugiki.model.weight_files import read_headers
from tsugiki.training.preflight.bench import Bench
from tsugiki.training.preflight.frozen_head import first_row
from tsugiki.training.preflight.optimizer import describe_peak
from tsugiki.training.preflight.over_ranks import over_ranks, strided
from tsugiki.training.preflight.report import Finding, fail, judge, ok, warn

HEAD_NAMES = ("lm_head.weight", "embed_out.weight", "output.weight")


def file_weights(bench: Bench) -> Finding:
    """Rows of every tensor of the model's files equal the rows that this rank will train, or train beside."""
    adapters = bench.run.model.adapters
    if bench.run.step > 0 and adapters is None:
        return ok("weights are those of the checkpoint, whose files were verified by digest")
    folder = bench.run.model_folder
    if folder is None:
        return ok("random weights from the seed, or files of another machine: nothing to compare with")
    files = tensor_files(folder)
    if not files:
        return warn(
            f"{folder} holds no safetensors that this process can read, so values were not compared",
            explains_itself=True,
        )
    names = {base_name(name): parameter for name, parameter in bench.hf.named_parameters(remove_duplicate=False)
             if adapters is None or not is_trained(name)}  # fmt: skip
    compared, different = 0, []
    for name, path in files.items():
        same = _same_rows(path, name, names[name]) if name in names else None
        compared += same is not None
        if same is False:
            different.append(name)
    renamed = len(files) - compared
    measured = f"{compared} tensors compared with the files"
    if renamed:
        measured += f", {renamed} are stored under other names or shapes (loading accounted for them)"
    if different:
        return fail(f"{len(different)} tensors differ from the files: {', '.join(different[:3])}", "bitwise equal")
    return ok(measured, "bitwise equal")


def tied(bench: Bench) -> Finding:
    """Input and output embeddings are one tensor if, and only if, the files hold one."""
    one = is_tied(bench.hf)
    says = "one tensor" if one else "two tensors"
    if bench.head is None:
        return ok("no output layer")
    folder = bench.run.model_folder
    if folder is None:
        architecture = bench.run.recipe.model.architecture
        if architecture is None:
            return ok(says)
        expected = _architecture_ties(architecture)
        return judge(
            one == expected, f"input and output embeddings are {says}", "tied" if expected else "untied, as configured"
        )
    files = tensor_files(folder)
    weight = inner_layer(bench.head).weight
    own = {base_name(name) for name, p in bench.hf.named_parameters(remove_duplicate=False) if p is weight}
    stored = [name for name in (*own, *HEAD_NAMES) if name in files and "embed" not in name.replace("embed_out", "")]
    if not files or (stored and one):
        return ok(f"input and output embeddings are {says}")
    expected = not stored
    return judge(
        one == expected, f"input and output embeddings are {says}", f"{'one' if expected else 'two'} in the files"
    )


def formats(bench: Bench) -> Finding:
    """Every weight is in the number format of the preset, adapters in fp32 beside a base in theirs; buffers of RoPE are
    fp32."""
    adapters = bench.run.model.adapters
    wanted = bench.precision.parameters if adapters is None else torch.float32
    base = adapters.dtype if adapters is not None else wanted
    found: dict[str, int] = {}
    as_wanted = True
    for _, parameter in bench.run.model.named_hf_parameters():
        as_wanted &= parameter.dtype == (wanted if adapters is None or parameter.requires_grad else base)
        kind = str(parameter.dtype).removeprefix("torch.")
        found[kind] = found.get(kind, 0) + parameter.numel()
    rounded = [
        name for name, buffer in bench.hf.named_buffers() if "inv_freq" in name and buffer.dtype != torch.float32
    ]  # fmt: skip
    measured = ", ".join(f"{kind} {count:,}" for kind, count in sorted(found.items()))
    if rounded:
        measured += f"; {rounded[0]} is not fp32"
    name, of_base = (str(kind).removeprefix("torch.") for kind in (wanted, base))
    expected = name if adapters is None else f"{name} trained, {of_base} frozen"
    return judge(as_wanted and not rounded, measured, f"{expected} ({bench.precision.name})")


def movable_weights(bench: Bench) -> Finding:
    """The share of weights that one step at the peak rate of their group can move, by class of tensor: computed on
    copies, and also of weights that are frozen at this step."""
    settings, optimizer = bench.run.recipe.training, bench.run.optimizer
    factors = {id(tensor): group["lr_factor"] for group in optimizer.torch.param_groups for tensor in group["params"]}
    counts: dict[str, Tensor] = {}
    for name, parameter in optimizer.parameters.items():
        kind = tensor_class(bench, name, parameter)
        sample = strided(parameter).to(parameter.dtype)
        # Adam's update is about the learning rate, whatever the gradient.
        peak = settings.learning_rate * factors.get(id(parameter), 1.0)
        moved = ((sample.float() - peak).to(parameter.dtype) != sample).sum()
        counts[kind] = counts.get(kind, torch.zeros(2)) + torch.tensor([float(moved), float(sample.numel())])
    shares = {}
    for kind in ("embedding", "head", "matrix", "norm", "bias"):
        moved_of = over_ranks(counts.get(kind, torch.zeros(2)).clone())
        if moved_of[1] > 0:
            shares[kind] = float(moved_of[0] / moved_of[1])
    each = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
    measured = f"a step of {describe_peak(settings)} moves {each}"
    if bench.precision.stochastic_rounding:
        return ok(measured + " by rounding to nearest; stochastic rounding moves all of them on average", "")
    return (
        ok(measured, "at least 95 %") if min(shares.values(), default=1.0) >= 0.95 else warn(measured, "at least 95 %")
    )


def buffers(bench: Bench) -> Finding:
    """Every buffer is finite, and RoPE's frequencies equal those computed anew from the configuration."""
    rope, wrong = 0, []
    for name, buffer in bench.hf.named_buffers():
        if buffer.is_floating_point() and not bool(torch.isfinite(buffer).all()):
            wrong.append(f"{name} is not finite")
    for name, module in bench.hf.named_modules():
        own = dict(module.named_buffers(recurse=False))
        if any("inv_freq" in key for key in own) and hasattr(module, "config"):
            rope += 1
            wrong += [f"{name}.{key}" for key in _stale_frequencies(module, own)]
        scale = getattr(module, "scalar_embed_scale", None)
        if "embed_scale" in own and scale is not None and abs(float(own["embed_scale"]) - scale) > 4e-3 * scale:
            wrong.append(f"{name}.embed_scale is {float(own['embed_scale']):.4g}, not {scale:.4g}")
    theta = _lost_theta(bench)
    if theta:
        wrong.append(theta)
    if wrong:
        return fail(f"{len(wrong)} buffers are wrong: {', '.join(wrong[:3])}", "as computed from the configuration")
    return ok(f"all finite, {rope} RoPE tables as computed anew from the configuration")


def bf16_speed(bench: Bench) -> Finding:
    """bf16 on a CPU that has no instructions for it can be hundreds of times slower than fp32."""
    if bench.run.processes.device.type != "cpu" or bench.precision.compute != torch.bfloat16:
        return ok(f"{bench.precision.name} on {bench.run.processes.device.type}")
    ratio = bench.run.processes.broadcast(bf16_slowness())
    measured = f"a bf16 matrix product takes {ratio:.1f} times as long as an fp32 one here"
    threshold = f"at most {SLOW_BF16:g} times; training.precision: fp32 is faster on this CPU"
    return ok(measured) if ratio <= SLOW_BF16 else warn(measured, threshold)


def tensor_class(bench: Bench, name: str, parameter: nn.Parameter) -> str:
    """embedding, head, bias, norm or matrix, by module and shape."""
    if parameter is inner_layer(bench.hf.get_input_embeddings()).weight:
        return "embedding"
    if bench.head is not None and parameter is getattr(inner_layer(bench.head), "weight", None):
        return "head"
    if parameter.ndim >= 2:
        return "matrix"
    return "bias" if name.endswith("bias") and "norm" not in name.lower() else "norm"


def tensor_files(folder: Path) -> dict[str, Path]:
    """The safetensors file of each tensor name in a model's folder; empty where there is none. Raises ModelError where
    one is damaged."""
    return {name: folder / file for file, header in read_headers(folder).items() for name in header.tensors}


def _same_rows(path: Path, name: str, parameter: nn.Parameter) -> bool | None:
    """Whether the first, middle and last row that this rank holds equal the file's, after the cast to its format.

    None where the file holds the tensor in another shape: transformers converts some while loading."""
    from safetensors import safe_open

    ours = local(parameter.detach())
    with safe_open(path, framework="pt") as file:
        part = file.get_slice(name)
        if list(part.get_shape()) != list(parameter.shape):
            return None
        if ours.ndim == 0 or len(ours) == 0:
            return True
        first = first_row(parameter)
        rows = sorted({0, len(ours) // 2, len(ours) - 1})
        return all(
            torch.equal(part[first + row : first + row + 1].to(ours.dtype), ours[row : row + 1].cpu()) for row in rows
        )


def _architecture_ties(architecture: dict[str, Any]) -> bool:
    values, _ = clean_config(architecture, "model.architecture")
    return bool(build_config(values, "model.architecture").get_text_config().tie_word_embeddings)


def _stale_frequencies(module: nn.Module, own: dict[str, Tensor]) -> list[str]:
    """Buffers of a rotary embedding that differ from those of a new one of the same configuration."""
    config: Any = module.config
    kinds = vars(module).get("rope_type", "default")
    if "dynamic" in str(kinds) or "longrope" in str(kinds):
        own = {key: buffer for key, buffer in own.items() if "original" in key}  # the others follow the sequence
    with torch.device("cpu"):
        fresh = dict(type(module)(config=config).named_buffers())
    stale = []
    for key, buffer in own.items():
        value = buffer.detach().float().cpu()
        if key in fresh and not torch.allclose(value, fresh[key].float(), rtol=1e-6, atol=0):
            stale.append(key)
        elif key == "inv_freq" and kinds == "default" and not _by_formula(config, value):
            stale.append(f"{key} (not theta^(-2i/d))")
    return stale


def _by_formula(config: Any, found: Tensor) -> bool:
    """theta^(-2i/d), Su et al., arXiv 2104.09864; d is twice the number of frequencies."""
    theta = (getattr(config, "rope_parameters", None) or {}).get("rope_theta")
    if theta is None:
        return True
    expected = float(theta) ** (-torch.arange(len(found), dtype=torch.float64) / len(found))
    return torch.allclose(found.double(), expected, rtol=1e-5)


def _lost_theta(bench: Bench) -> str | None:
    """The rope_theta of the model's own config.json, if the loaded model does not use it."""
    folder = bench.run.model_folder
    path = folder / "config.json" if folder else None
    if path is None or not path.is_file():
        return None
    values = read_json(path)
    values = values.get("text_config") or values
    stated = values.get("rope_theta", (values.get("rope_parameters") or {}).get("rope_theta"))
    parameters = getattr(bench.text_config, "rope_parameters", None) or {}
    used = [part.get("rope_theta") for part in (parameters, *parameters.values()) if isinstance(part, dict)]
    if stated is None or not any(used) or stated in used:
        return None
    return f"config.json says rope_theta {stated:g}, the model uses {', '.join(str(theta) for theta in used if theta)}"
