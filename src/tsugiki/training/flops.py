"""Model FLOPs of a token and the peak of the device, from which MFU (model FLOPs utilisation) follows.

    FLOPs a trained token = 6 · N + 12 · L · d · s

N: parameters that multiply every token: all matrices but the input embedding (a tied head counts once, as head);
of a mixture of experts only the share that a token visits. L layers, d = heads · head size, s sequence length: the
attention term of PaLM (arXiv 2204.02311, appendix B), without a discount for the causal half. A model without
attention heads (Mamba) has no such term; of heads whose queries and values differ in size (DeepSeek) their mean counts.
Recomputed activations do not count. MFU = tokens a second and device · FLOPs a token / peak of the device in dense
bf16.
"""

import re
from typing import Any

import torch
from transformers import PreTrainedModel

# Dense bf16 tensor peak in FLOP/s by a piece of the device's name: NVIDIA data sheets, without sparsity.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A40": 150e12,
    "RTX 4090": 165e12,
    "RTX A6000": 155e12,
}


def flops_per_token(model: PreTrainedModel, sequence_length: int) -> float:
    """Model FLOPs of one trained token (forward and backward) of a Hugging Face causal LM."""
    text = model.config.get_text_config()
    head = model.get_output_embeddings()
    matrices: float = sum(
        parameter.numel() * _visited_share(name, text)
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and parameter is not model.get_input_embeddings().weight and parameter.requires_grad
    )
    if head is not None and head.weight is model.get_input_embeddings().weight:
        matrices += head.weight.numel()
    return 6.0 * matrices + 12.0 * text.num_hidden_layers * _attention_width(text) * sequence_length


def _attention_width(config: Any) -> float:
    """Heads times head size; 0 for a model without attention heads."""
    heads = getattr(config, "num_attention_heads", None) or 0
    if heads and getattr(config, "qk_nope_head_dim", None) is not None:  # latent attention: values have their own size
        return heads * (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim) / 2
    return heads * (getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0


EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
VISITED = ("num_experts_per_tok", "moe_topk", "top_k_experts")
"""How configurations call the number of experts and of those that a token visits."""


def _visited_share(name: str, config: Any) -> float:
    """The share of an expert's weights that one token uses; 1 for everything else."""
    if ".experts." not in name:
        return 1.0
    experts, visited = (
        next((value for key in keys if (value := getattr(config, key, None))), None) for keys in (EXPERTS, VISITED)
    )
    return visited / experts if experts and visited else 1.0


def device_peak(device: torch.device) -> float | None:
    """Dense bf16 peak of the device in FLOP/s, or None where it is not known (CPUs, unlisted GPUs)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for piece, peak in PEAKS.items() if re.search(rf"\b{piece}\b", name)), None)
