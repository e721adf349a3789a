"""Whole runs through the command line, in processes of their own.

Every "launch" is a fork of a process that has imported torch and transformers (`fork_context`): the code that runs is
that of the command line, and it can be killed like any process.
"""

import json
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from command_child import run_command_line

PATIENCE = 3600 if "TSUGIKI_SOAK_KILLS" in os.environ else 240
"""Seconds until a launch is given up: nobody watches a soak, and much else may run beside it."""
QUICKSTART_TEXT = Path(__file__).parents[2] / "src/tsugiki/quickstart/text"


@dataclass
class Launch:
    """A started command on one or several processes."""

    processes: list
    log: Path

    def wait(self, timeout: float = PATIENCE) -> list[int]:
        """Exit codes, by rank. Processes that outlive the timeout are killed and the log is shown."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0.1, deadline - time.monotonic()))
        if any(process.is_alive() for process in self.processes):
            self.signal(signal.SIGKILL)
            raise AssertionError(f"still running after {timeout} s:\n{self.output()}")
        return [process.exitcode for process in self.processes]

    def signal(self, number: int, ranks: list[int] | None = None) -> None:
        for rank, process in enumerate(self.processes):
            if (ranks is None or rank in ranks) and process.is_alive():
                os.kill(process.pid, number)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def wait_for(self, text: str, timeout: float = PATIENCE / 2) -> None:
        """Until the output contains `text`, or the command has ended."""
        deadline = time.monotonic() + timeout
        while text not in self.output():
            if not any(process.is_alive() for process in self.processes):
                return
            assert time.monotonic() < deadline, f"no {text!r} within {timeout} s:\n{self.output()}"
            time.sleep(0.02)


@pytest.fixture
def launch(fork_context, tmp_path):
    """launch("train", "recipe.yaml", world=2): start the command line; everything left is killed at the end."""
    started: list[Launch] = []

    def start(
        *arguments: object,
        world: int = 1,
        environment: dict[str, str] | None = None,
        rename: dict[str, str] | None = None,
    ) -> Launch:
        """`rename` gives the rank's variables the names of another launcher: {new: torchrun's}."""
        log = tmp_path / f"log-{len(started)}.txt"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        processes = []
        for rank in range(world):
            place = {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
            if world > 1:
                place |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
                place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            if rename:
                place |= {new: place[old] for new, old in rename.items()}
                place = {name: value for name, value in place.items() if name not in rename.values()}
            place |= environment or {}
            process = fork_context.Process(target=run_command_line, args=([str(a) for a in arguments], place, str(log)))
            process.start()
            processes.append(process)
        started.append(Launch(processes, log))
        return started[-1]

    yield start
    for item in started:
        item.signal(signal.SIGKILL)


@dataclass
class Project:
    """A folder with corpora, a tokenizer and a recipe for a tiny random Mistral."""

    folder: Path
    recipe: dict = field(default_factory=dict)

    def write(self, name: str = "recipe.yaml", **changes: object) -> Path:
        """The recipe as a file, with dotted keys changed: write(**{"training.max_steps": 5})."""
        recipe = json.loads(json.dumps(self.recipe))
        for key, value in changes.items():
            *sections, last = key.split(".")
            target = recipe
            for section in sections:
                target = target.setdefault(section, {})
            target[last] = value
        path = self.folder / name
        path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    folder = tmp_path_factory.mktemp("project")
    texts: dict[str, list[str]] = {"ja": [], "en": []}
    for path in sorted(QUICKSTART_TEXT.glob("*.jsonl")):
        texts[path.name[:2]] += [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    for language, documents in texts.items():
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
        (folder / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    trainer = trainers.BpeTrainer(vocab_size=601, special_tokens=specials, max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator([text[:300] for text in texts["ja"] + texts["en"]], trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer/tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer/tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
            }
        )
    )
    recipe = {
        "run_dir": str(folder / "run"),
        "seed": 7,
        "model": {
            "architecture": {
                "model_type": "mistral", "vocab_size": len(data["model"]["vocab"]), "hidden_size": 32, "intermediate_size": 48,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
                "max_position_embeddings": 128, "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2,
            },
            "tokenizer": str(folder / "tokenizer"),
        },
        "data": {
            "sequence_length": 64, "held_out": 0.2, "workers": 1, "prepared_dir": str(folder / "data"),
            "sources": {
                "ja": {"path": str(folder / "ja.jsonl"), "weight": 70, "language": "ja"},
                "en": {"path": str(folder / "en.jsonl"), "weight": 30, "language": "en"},
            },
        },
        "training": {
            "max_steps": 12, "global_batch_size": 12, "micro_batch_size": 2, "learning_rate": 3e-3, "min_lr": 3e-4,
            "warmup_steps": 2, "precision": "fp32", "save_steps": 3, "eval_steps": 6, "eval_documents": 4,
        },
        "tracking": {"report_to": ["none"]},
    }  # fmt: skip
    return Project(folder, recipe)


@pytest.fixture(scope="session")
def prepared(project) -> Project:
    """The project with its token stores."""
    from tsugiki.pipeline import run_prepare
    from tsugiki.recipe_file import load_recipe

    run_prepare(load_recipe(project.write("prepare.yaml")))
    return project
