"""Names of recipe keys: where a key lives, what it is called elsewhere, which known key an unknown one meant.

Users arrive with the names of other trainers. No aliases are taken (two spellings of one key would both have
to be documented, compared and resumed), but a foreign name is answered with ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from tsugiki.recipe import Recipe
from tsugiki.recipe_values import Section
from tsugiki.shapes import Path, dotted

_CHAT = "the five layouts of conversations are told by their keys: write data.sources.NAME.format: chat"
_LOSS_ON = (
    "say whose tokens are trained: data.sources.NAME.loss_on: assistant, completion, last, all or a list of roles"
)
_STEPS = "say in what: training.max_steps, max_tokens or num_epochs"
_EMBEDDING_RATE = "give the rate's ratio to the other weights' rate: training.embedding_lr_factor"
_ADAMW = "the optimiser is AdamW: set training.weight_decay, adam_beta1, adam_beta2, adam_epsilon"
_ACCUMULATION = "accumulation follows from training.global_batch_size, micro_batch_size and the number of processes"
_RESUME = "a run resumes by itself from the newest whole checkpoint in its run_dir; a new run starts from "
_RESUME += "weights named in model.name_or_path"
_SHUFFLE = "order is always shuffled, as a function of seed, source name and epoch"
_QUANTISED = "weights are trained in training.precision, or frozen in bf16 (training.lora); none are quantised"
_REMOTE = "no remote code is ever run"

# Foreign name -> our dotted key (answered as "is called"), or a sentence where there is no such key.
THESAURUS: dict[str, str] = {
    **dict.fromkeys(
        ("base_model", "model_name_or_path", "pretrained_model_name_or_path", "model_id", "model_name"),
        "model.name_or_path",
    ),
    **dict.fromkeys(("config", "model_config", "hf_config", "config_overrides"), "model.architecture"),
    **dict.fromkeys(
        ("tokenizer_name", "tokenizer_name_or_path", "tokenizer_path", "tokenizer_config"), "model.tokenizer"
    ),
    **dict.fromkeys(("model_revision", "revision_of_model"), "model.revision"),
    **dict.fromkeys(
        ("flash_attn", "flash_attention", "flash_attn_implementation", "use_flash_attention_2", "attention"),
        "model.attn_implementation",
    ),
    **dict.fromkeys(("trust_remote_code", "remote_code"), _REMOTE),
    **dict.fromkeys(
        (
            "sequence_len",
            "cutoff_len",
            "max_length",
            "max_seq_len",
            "max_seq_length",
            "seq_length",
            "seq_len",
            "block_size",
            "context_length",
        ),
        "data.sequence_length",
    ),
    **dict.fromkeys(
        ("datasets", "dataset", "pretraining_dataset", "data_files", "train_data_path", "corpora"),
        "data.sources",
    ),
    **dict.fromkeys(
        ("proportion", "fraction", "ratio", "interleave_prob", "probability", "sampling_weight"),
        "data.sources.*.weight",
    ),
    **dict.fromkeys(
        ("interleave_probs", "mix", "blend", "data_weights", "train_data_weights", "mixture"),
        "each source carries its own weight: data.sources.NAME.weight",
    ),
    **dict.fromkeys(
        ("text_column", "text_field", "dataset_text_field", "json_key", "column", "field"),
        "data.sources.*.text_key",
    ),
    **dict.fromkeys(("epochs_cap", "epochs", "max_repeats"), "data.sources.*.max_epochs"),
    **dict.fromkeys(("data_dir", "file", "files", "paths", "filename"), "data.sources.*.path"),
    **dict.fromkeys(("dataset_config", "config_name", "dataset_config_name"), "data.sources.*.subset"),
    **dict.fromkeys(("lang",), "data.sources.*.language"),
    **dict.fromkeys(
        ("dedup", "deduplicate", "deduplication", "minhash", "near_duplicates", "exact_duplicates"),
        "data.sources.*.filters.duplicates",
    ),
    **dict.fromkeys(("decontaminate", "contamination"), "data.sources.*.filters.decontamination"),
    "type": "documents are plain text, or conversations with format: chat; both are said in data.sources.NAME.format",
    "name": "say whose: model.name_or_path, tracking.run_name; a source's name is its key under data.sources",
    **dict.fromkeys(("hub_id", "dataset_id", "hf_dataset", "dataset_name"), "data.sources.*.hub"),
    **dict.fromkeys(
        ("val_size", "validation_split", "val_set_size", "eval_split", "validation_split_percentage"),
        "data.held_out",
    ),
    **dict.fromkeys(
        (
            "num_workers",
            "dataloader_num_workers",
            "num_proc",
            "dataset_num_proc",
            "preprocessing_num_workers",
        ),
        "data.workers",
    ),
    **dict.fromkeys(("data_cache_path", "dataset_prepared_path", "cache_dir", "prepared_path"), "data.prepared_dir"),
    **dict.fromkeys(("shuffle", "shuffle_seed", "dataset_shuffle"), _SHUFFLE),
    **dict.fromkeys(
        (
            "sample_packing",
            "neat_packing",
            "packing_strategy",
        ),
        "data.packing",
    ),
    **dict.fromkeys(
        ("packed_sequence_size", "pad_to_sequence_len", "eod_mask_loss"),
        "data.packing says how documents fill windows, data.isolate_documents whether they see each other",
    ),
    **dict.fromkeys(
        ("reset_attention_mask", "reset_position_ids", "document_masking", "intra_document_masking"),
        "data.isolate_documents",
    ),
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "local_batch_size",
            "device_train_microbatch_size",
            "train_micro_batch_size_per_gpu",
        ),
        "training.micro_batch_size",
    ),
    **dict.fromkeys(("global_train_batch_size", "train_batch_size", "total_batch_size"), "training.global_batch_size"),
    "batch_size": "say which: training.global_batch_size (windows a step) or micro_batch_size (at a time)",
    "global_batch_tokens": "training.global_batch_size counts windows: tokens over data.sequence_length",
    **dict.fromkeys(("gradient_accumulation_steps", "grad_accum", "gradient_accumulation"), _ACCUMULATION),
    **dict.fromkeys(("train_iters", "train_steps", "num_steps", "total_steps", "max_iters"), "training.max_steps"),
    **dict.fromkeys(("train_tokens", "total_tokens"), "training.max_tokens"),
    "num_train_epochs": "training.num_epochs",
    "max_duration": _STEPS,
    **dict.fromkeys(("lr", "max_lr", "peak_lr"), "training.learning_rate"),
    **dict.fromkeys(("min_learning_rate", "lr_min", "eta_min"), "training.min_lr"),
    **dict.fromkeys(
        ("min_lr_ratio", "cosine_min_lr_ratio", "alpha_f", "min_lr_rate"),
        "give the rate itself: training.min_lr",
    ),
    **dict.fromkeys(("lr_scheduler_type", "lr_decay_style", "scheduler", "schedule"), "training.lr_scheduler"),
    "lr_scheduler_kwargs": "give training.min_lr, warmup_steps and, for wsd, decay_steps",
    **dict.fromkeys(("lr_warmup_iters", "t_warmup", "warmup", "num_warmup_steps"), "training.warmup_steps"),
    "warmup_ratio": "give the number of steps: training.warmup_steps",
    **dict.fromkeys(("num_decay_steps", "lr_wsd_decay_iters"), "training.decay_steps"),
    "lr_decay_iters": "cosine and linear end with the run (training.max_steps); wsd has training.decay_steps",
    **dict.fromkeys(
        (
            "embedding_lr_scale",
            "embedding_lr_mult",
            "embedding_lr_multiplier",
            "embedding_learning_rate_multiplier",
            "embed_lr_scale",
            "embed_lr_mult",
        ),
        "training.embedding_lr_factor",
    ),
    **dict.fromkeys(
        ("embedding_lr", "embedding_learning_rate", "embed_lr", "decoupled_lr", "decoupled_min_lr"), _EMBEDDING_RATE
    ),
    **dict.fromkeys(
        (
            "freeze_non_embeddings",
            "freeze_except_embeddings",
            "train_only_embeddings",
            "train_embeddings_only",
            "embedding_only_steps",
            "embedding_warmup",
        ),
        "training.embedding_warmup_steps",
    ),
    **dict.fromkeys(("optim", "optimizer", "optimizer_type", "adamw"), _ADAMW),
    **dict.fromkeys(("wd", "l2"), "training.weight_decay"),
    **dict.fromkeys(("beta1", "adam_beta_1"), "training.adam_beta1"),
    **dict.fromkeys(("beta2", "adam_beta_2"), "training.adam_beta2"),
    "betas": "give training.adam_beta1 and adam_beta2",
    **dict.fromkeys(("adam_eps", "eps", "epsilon", "adam_epsilon_"), "training.adam_epsilon"),
    **dict.fromkeys(
        ("clip_grad", "grad_clip", "grad_clip_norm", "gradient_clipping", "gradient_clip_val", "max_norm"),
        "training.max_grad_norm",
    ),
    **dict.fromkeys(
        ("loss_reduction", "calculate_per_token_loss"),
        "training.loss_normalization",
    ),
    **dict.fromkeys(
        ("bf16", "fp16", "mixed_precision", "torch_dtype", "dtype", "param_dtype", "tf32"),
        "training.precision",
    ),
    **dict.fromkeys(
        ("gradient_checkpointing", "fsdp_activation_checkpointing", "recompute", "activation_recompute"),
        "training.activation_checkpointing",
    ),
    **dict.fromkeys(("torch_compile", "compile_model"), "training.compile"),
    **dict.fromkeys(("frozen", "freeze_parameters", "unfrozen_parameters", "freeze_layers"), "training.freeze"),
    **dict.fromkeys(("save_interval", "checkpoint_interval", "save_freq"), "training.save_steps"),
    **dict.fromkeys(("keep_last", "max_checkpoints", "save_num_checkpoints_to_keep"), "training.save_total_limit"),
    **dict.fromkeys(("eval_interval", "evaluation_steps", "val_check_interval"), "training.eval_steps"),
    **dict.fromkeys(("eval_iters", "max_eval_samples", "eval_batches"), "training.eval_documents"),
    **dict.fromkeys(("log_interval", "log_freq", "log_every"), "training.logging_steps"),
    **dict.fromkeys(("router_aux_loss_factor", "aux_loss_coef", "moe_aux_loss_coeff"), "training.router_aux_loss_coef"),
    **dict.fromkeys(("output_dir", "save_dir", "out_dir", "save", "logging_dir"), "run_dir"),
    **dict.fromkeys(("random_seed", "data_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("resume_from_checkpoint", "resume", "load", "auto_resume_from_checkpoints"), _RESUME),
    **dict.fromkeys(
        ("sharding_strategy", "fsdp", "fsdp_config", "fsdp_version", "deepspeed", "zero_stage"),
        "parallel.shard",
    ),
    **dict.fromkeys(("dp_replicate", "data_parallel_replicate_degree"), "parallel.replicas"),
    **dict.fromkeys(("ddp_timeout", "distributed_timeout_minutes"), "parallel.timeout_minutes"),
    **dict.fromkeys(("wandb_project", "project_name", "trackio_project"), "tracking.project"),
    **dict.fromkeys(("wandb_name", "wandb_run_name", "wandb_run_id"), "tracking.run_name"),
    **dict.fromkeys(("loggers", "logger", "use_wandb", "wandb", "use_tensorboard"), "tracking.report_to"),
    **dict.fromkeys(
        ("push_to_hub", "hub_model_id", "hub_token"),
        "nothing is uploaded: export, then use the hub's own client",
    ),
    **dict.fromkeys(("adapter", "peft", "use_peft", "peft_config", "lora_config"), "training.lora"),
    **dict.fromkeys(("lora_r", "lora_rank"), "training.lora.rank"),
    "lora_alpha": "training.lora.alpha",
    "lora_dropout": "training.lora.dropout",
    **dict.fromkeys(("lora_target", "lora_target_modules", "lora_target_linear"), "training.lora.target_modules"),
    **dict.fromkeys(("lora_modules_to_save", "additional_target"), "training.lora.modules_to_save"),
    "trainable_token_indices": "training.lora.new_rows",
    **dict.fromkeys(("qlora", "load_in_8bit", "load_in_4bit", "quantization"), _QUANTISED),
    "chat_template": "data.chat.template",
    **dict.fromkeys(("chat_template_kwargs", "template_args"), "data.chat.template_kwargs"),
    **dict.fromkeys(("messages", "conversations", "sharegpt", "alpaca", "instruction", "chat_format"), _CHAT),
    **dict.fromkeys(
        (
            "train_on_inputs",
            "train_on_prompt",
            "train_on_responses_only",
            "mask_history",
            "assistant_only_loss",
            "completion_only_loss",
            "roles_to_train",
        ),
        _LOSS_ON,
    ),
}

# Foreign names that mean something else in one section.
THESAURUS_IN_PLACE: dict[str, str] = {
    "model.name": "model.name_or_path",
    "training.epochs": "training.num_epochs",
    "model.path": "model.name_or_path",
    "model.type": "a configuration's model_type stands in model.architecture",
    "tracking.name": "tracking.run_name",
    "data.sources.*.data_files": "data.sources.*.path",
    "data.sources.*.dataset": "data.sources.*.hub",
    "data.sources.*.name": "a source's name is its key under data.sources; a hub configuration is its subset",
}

# Values of other tools -> what to write here.
FOREIGN_VALUES: dict[str, dict[str, str]] = {
    "training.lr_scheduler": {
        "cosine_with_min_lr": "cosine, and give min_lr",
        "cosine_warmup_with_min_lr": "cosine, and give min_lr and warmup_steps",
        "warmup_stable_decay": "wsd, and give decay_steps",
        "constant_with_warmup": "constant, and give warmup_steps",
    },
    "training.precision": dict.fromkeys(("bf16", "bfloat16", "fp16", "float16"), "fp32-master, which computes in bf16"),
    "data.sources.*.format": dict.fromkeys(
        ("sharegpt", "alpaca", "messages", "openai", "conversation", "conversational", "chat-template"),
        "chat, which tells the layout by a record's keys",
    ),
    "parallel.shard": {"full_shard": "full", "hybrid_shard": "hybrid", "no_shard": "none"},
}


@dataclass(frozen=True)
class _Place:
    """Where a path of the YAML file leads by the sections' annotations."""

    general: str
    """The path as `all_keys` writes it, source names and list places left open."""
    field: FieldInfo | None
    """The innermost declared key on the path; None, as `annotation`, where nothing is declared."""
    annotation: Any


def _place(path: Path) -> _Place:
    general = ""
    field: FieldInfo | None = None
    annotation: Any = Recipe
    for part in path:
        section = _as_section(annotation)
        if section is not None:
            general += ("." if general else "") + str(part)
            field = section.model_fields.get(str(part))
            annotation = _bare(field.annotation) if field else None
        elif get_origin(annotation) in (dict, list):
            general += ".*" if get_origin(annotation) is dict else "[]"
            annotation = _bare(get_args(annotation)[-1])
        else:
            field = annotation = None
    return _Place(general, field, annotation)


def field_at(path: Path) -> FieldInfo | None:
    """The declared field that a path of the YAML file leads to, or None if none is declared there."""
    return _place(path).field


def section_at(path: Path) -> type[Section] | None:
    """The section whose keys are written under a path, or None if the path leads to a value."""
    return _as_section(_place(path).annotation)


def _as_section(annotation: Any) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _bare(annotation: Any) -> Any:
    """`Annotated[X, ...] | None` -> X."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        members = [member for member in get_args(annotation) if member is not type(None)]
        if type(None) in get_args(annotation) and len(members) == 1:
            annotation = members[0]
            continue
        return annotation


def all_keys(section: type[Section] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every dotted key; `*` stands for a source's name, `[]` for the place in a list."""
    for name, field in section.model_fields.items():
        yield prefix + name
        annotation, below = _bare(field.annotation), prefix + name
        if get_origin(annotation) in (dict, list):
            below += ".*" if get_origin(annotation) is dict else "[]"
            annotation = _bare(get_args(annotation)[-1])
        inner = _as_section(annotation)
        if inner is not None:
            yield from all_keys(inner, below + ".")


def answer_unknown(path: Path) -> tuple[str, str | None]:
    """What to say about an unknown key, and the dotted key (`*` for names) that was meant, if one was."""
    parent, name = _place(path[:-1]).general, str(path[-1])
    plain = name.strip().lower().replace("-", "_")
    shown = dotted((name,))
    section = section_at(path[:-1])
    here = list(section.model_fields) if section else []
    if plain in here:
        return f"unknown key; it is written {plain}", _join(parent, plain)
    meant = THESAURUS_IN_PLACE.get(_join(parent, plain)) or THESAURUS.get(plain)
    if meant is not None:
        if " " in meant:
            return f"not a key here: {meant}", None
        home, _, ours = meant.rpartition(".")
        called = ours if home == parent else meant.replace("*", "NAME")
        return f"unknown key; {shown} is called {called} here", meant
    homes = [key for key in all_keys() if key.rpartition(".")[2] == plain]
    if homes:
        places = " or ".join(key.replace("*", "NAME") for key in homes)
        return f"unknown key; it belongs elsewhere: write {places}", homes[0] if len(homes) == 1 else None
    near = difflib.get_close_matches(plain, here, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]}?", _join(parent, near[0])
    foreign = difflib.get_close_matches(plain, [key for key in THESAURUS if " " not in THESAURUS[key]], 1, 0.85)
    if foreign:
        meant = THESAURUS[foreign[0]]
        return f"unknown key; did you mean {meant.replace('*', 'NAME')}?", meant
    everywhere = {key.rpartition(".")[2]: key for key in all_keys()}
    near = difflib.get_close_matches(plain, everywhere, n=1, cutoff=0.8)
    if near:
        return f"unknown key; did you mean {everywhere[near[0]].replace('*', 'NAME')}?", everywhere[near[0]]
    return f"unknown key; known here: {', '.join(here)}", None


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def answer_value(path: Path, value: Any) -> str | None:
    """What to write in place of a value that other tools know under this key."""
    return FOREIGN_VALUES.get(_place(path).general, {}).get(str(value).lower().replace("-", "_"))


def is_same_key(path: Path, key: str) -> bool:
    """Whether `path` leads to the dotted `key`, in which `*` stands for any name."""
    return _place(path).general == key
