"""Model FLOPs of a token and the peak of the device, from which MFU (model FLOPs utilisation) follows.

    FLOPs a trained token = 6 · N + 4 · F + 12 · L · d · s

N: parameters that multiply every token: all matrices but the input embedding (a tied head counts once, as head);
of a mixture of experts only the share that a token visits. F: such matrices frozen beside adapters, which pass
gradients on and get none. L layers, d = heads · head size, s sequence length: the attention term of PaLM (arXiv
2204.02311, appendix B), without a discount for the causal half. A model without attention heads (Mamba) has no such
term; of heads whose queries and values differ in size (DeepSeek) their mean counts. Recomputed activations do not
count. MFU = tokens a second and device · FLOPs a token / peak of the device in dense bf16.
"""

import re
from typing import Any

import torch
from transformers import PreTrainedModel

from tsugiki.model.adapters import is_trained
from tsugiki.model.shard import inner_layer, is_tied, towers_beside_the_decoder

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
    head, embedding = model.get_output_embeddings(), inner_layer(model.get_input_embeddings()).weight
    multiplied = {name: p for name, p in model.named_parameters() if p.ndim >= 2 and p is not embedding}
    beside = any(is_trained(name) for name in multiplied)  # adapters: what is frozen computes, but for unread originals
    outside = {id(p) for tower in towers_beside_the_decoder(model) for p in tower.parameters()}
    trained = frozen = 0.0
    for name, parameter in multiplied.items():
        if parameter.requires_grad:
            trained += parameter.numel() * _visited_share(name, text)
        elif beside and id(parameter) not in outside and ".original_module." not in name:
            frozen += parameter.numel() * _visited_share(name, text)
    if head is not None and is_tied(model):
        if embedding.requires_grad or not beside:
            trained += embedding.numel()
        else:
            frozen += embedding.numel()
    return 6.0 * trained + 4.0 * frozen + 12.0 * text.num_hidden_layers * _attention_width(text) * sequence_length


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
