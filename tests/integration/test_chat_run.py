"""A run of conversations on a base without a chat template, by the command line, also on two processes: other tools open
what comes out, write the prompts that it was trained on, and stop where it was taught to."""

import json

import pytest
import yaml
from chat_models import chat_folder

QUESTIONS = {"Hi <|im_end|>": "Yes, I am here.", "接ぎ木は？": "木をつなぐことです。"}


@pytest.mark.parametrize("lora", [None, {"rank": 8, "alpha": 16, "new_rows": True}], ids=["all weights", "lora"])
def test_plain_transformers_answers_with_the_saved_template_and_stops_by_itself(
    launch, tmp_path, tiny_model_folder, lora
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if lora is not None:
        pytest.importorskip("peft")
    base = chat_folder(tmp_path / "base", "llama3", tiny_model_folder, hidden_size=64, intermediate_size=64)
    (base / "chat_template.jinja").unlink()
    records = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in QUESTIONS.items()
    ]
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, records * 4)), encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({
        "run_dir": str(tmp_path / "run"), "model": {"name_or_path": str(base)},
        "data": {
            "sequence_length": 128, "held_out": 0, "workers": 1, "add_bos": True,
            "chat": {"template": "chatml", "add_template_tokens": True},
            "sources": {"talk": {"path": str(tmp_path / "talk.jsonl"), "format": "chat", "weight": 1}},
        },
        "training": {
            "num_epochs": 24, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 2,
            "save_steps": 100, "weight_decay": 0.0, "precision": "fp32", **({"lora": lora} if lora else {}),
        },
        "tracking": {"report_to": ["none"]},
    }), encoding="utf-8")  # fmt: skip
    run = launch("run", str(recipe), world=1 if lora else 2)
    assert set(run.wait()) == {0}, run.output()

    folder = tmp_path / "run/export"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert tokenizer.pad_token_id != tokenizer.convert_tokens_to_ids("<|im_end|>")
    for asked, said in QUESTIONS.items():
        turns = [{"role": "user", "content": asked}]
        prompt = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True, sanitize_control_tokens=True
        )
        assert prompt["input_ids"][0, 0] == tokenizer.bos_token_id
        made = model.generate(**prompt, do_sample=False, max_new_tokens=60)[0, prompt["input_ids"].shape[1] :]
        assert tokenizer.decode(made, skip_special_tokens=False) == f"{said}<|im_end|>"
