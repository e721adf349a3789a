"""Conversations of any layout and file become exactly what transformers renders; what is none is named and counted."""

import copy
import gzip
import hashlib
import json
from pathlib import Path
from random import Random

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import xxhash
import zstandard
from bad_inputs import damaged_tree
from chat_tokenizers import family, mistral
from report_runs import step_line

from tsugiki.corpus import prepare_chat
from tsugiki.corpus.chat_source import conversation_encoder
from tsugiki.corpus.control_tokens import control_tokens
from tsugiki.corpus.conversation_work import ConversationWork
from tsugiki.corpus.fingerprint import fingerprint
from tsugiki.corpus.inputs import Batch, Position, SourceDocuments
from tsugiki.corpus.pieces import Given
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import MANIFEST, SourceManifest, open_prepared, source_directory, verify
from tsugiki.corpus.records import Document
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import current_manifest, is_ready
from tsugiki.errors import DataError, ModelError, StorageError
from tsugiki.inspection import inspect_path
from tsugiki.recipe_file import show
from tsugiki.report.run_directory import read_run

OWN = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{{- '<|im_start|>assistant\n' if add_generation_prompt }}"
)
NAMES = {"qwen": None, "llama3": "llama-3", "gemma": "gemma"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tokenizer of each family; that of Qwen has a chat template of its own."""
    found = {}
    for name in NAMES:
        tokenizer = copy.deepcopy(family(name))
        tokenizer.chat_template = OWN if name == "qwen" else None
        found[name] = tmp_path_factory.mktemp(name)
        tokenizer.save_pretrained(found[name])
    return found


@pytest.fixture
def chat_recipe(make_recipe, folders):
    """`chat_recipe(path, family="qwen", run="run", chat={}, source={}, **data)`"""

    def make(path, name="qwen", run="run", chat=None, source=None, **data):
        talk = {"path": str(path), "format": "chat", **(source or {})}
        recipe = make_recipe(
            {"talk": talk}, run, chat={"template": NAMES[name], **(chat or {})},
            **{"sequence_length": 256, "held_out": 0, **data},
        )  # fmt: skip
        model = recipe.model.model_copy(update={"tokenizer": str(folders[name])})
        return recipe.model_copy(update={"model": model})

    return make


@pytest.fixture
def opened(folders):
    """`opened(recipe, family="qwen")`: the source, prepared."""

    def prepared(recipe, name="qwen"):
        tokenizer = TextTokenizer.from_folder(folders[name])
        prepare(recipe, tokenizer)
        return open_prepared(recipe, tokenizer)["talk"]

    return prepared


def chat(number: int, turns: int = 2) -> list[dict[str, str]]:
    """Questions and answers, each said once only."""
    said = []
    for turn in range(turns):
        said.append({"role": "user", "content": f"{number}番の質問 {turn}: what is {number * 7 + turn}?"})
        said.append({"role": "assistant", "content": f"It is {number * 7 + turn}. 答え🌱 {'や' * (number % 5)}"})
    return said


def in_layout(layout: str, said: list[dict[str, str]]) -> dict:
    """The record of a conversation in each of the five layouts; a prompt with its one completion."""
    *prompt, answer = said
    return {
        "messages": {"messages": said, "id": 3},
        "sharegpt": {
            "conversations": [
                {"from": "human" if each["role"] == "user" else "gpt", "value": each["content"]} for each in said
            ]
        },
        "alpaca": {"instruction": prompt[-1]["content"], "input": "", "output": answer["content"]},
        "prompt-completion": {"prompt": prompt, "completion": [answer]},
        "llm-recipes": {"input": prompt, "output": answer},
    }[layout]


LAYOUTS = ("messages", "sharegpt", "alpaca", "prompt-completion", "llm-recipes")


def naive(tokenizer, said, source=None):
    """Ids and weights by transformers alone: the prompt of each answer, and what follows it up to the end token."""
    options = {"tokenize": True, "return_dict": False, **({"chat_template": source} if source else {})}
    ids, weights = [], []
    for number, message in enumerate(said):
        if message["role"] != "assistant":
            continue
        prompt = tokenizer.apply_chat_template(said[:number], add_generation_prompt=True, **options)
        whole = tokenizer.apply_chat_template(said[: number + 1], **options)
        assert whole[: len(prompt)] == prompt
        end = next(
            place for place in range(len(prompt), len(whole))
            if whole[place] in {tokenizer.convert_tokens_to_ids(piece) for piece in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")}
        )  # fmt: skip
        assert prompt[: len(ids)] == ids
        weights += [0.0] * (len(prompt) - len(weights)) + [1.0] * (end + 1 - len(prompt))
        ids = whole[: end + 1]
    return ids, weights


def contents(source, part="train"):
    """(file, line) -> ids and weights."""
    store = getattr(source, part)
    found = {}
    for index in range(store.document_count):
        row = store.documents()[index]
        found[int(row["file"]), int(row["line"])] = (store.document(index).tolist(), store.weights(index).tolist())
        store.check(index)
    return found


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def lines(records) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_becomes_what_transformers_renders_with_the_answers_trained(
    name, tmp_path, chat_recipe, opened, folders
):
    chats = [chat(number, 1) for number in range(10)]
    for layout in LAYOUTS:
        (tmp_path / f"{layout}.jsonl").write_bytes(lines(in_layout(layout, each) for each in chats))
    recipe = chat_recipe(tmp_path / "*.jsonl", name)
    source = opened(recipe, name)
    template = conversation_encoder(recipe, "talk", folders[name]).renderer.template.source
    found = contents(source)
    assert len(found) == len(LAYOUTS) * len(chats)
    tokenizer = family(name)
    for (_, line), (ids, weights) in found.items():
        assert (ids, weights) == naive(tokenizer, chats[line - 1], template)
    store, chat_manifest = source.train, source.manifest.chat
    answers = {line: each[-1]["content"] for line, each in enumerate(chats, 1)}
    for index in range(store.document_count):
        answer = answers[int(store.documents()[index]["line"])]
        assert abs(int(store.rows[index]["trained_bytes"]) - len(answer.encode())) <= 2  # the template's own newlines
    assert chat_manifest.counts["conversations"] == chat_manifest.lengths.conversations == len(found)
    assert chat_manifest.trained_tokens == {"train": store.trained_tokens, "held_out": 0}
    assert store.trained_tokens == sum(sum(weights) for _, weights in found.values())
    assert source.manifest.train.tokens == sum(len(ids) for ids, _ in found.values())
    assert store.window_count(256) == chat_manifest.packs


def nested(records):
    """As a table: each row has all columns, and each struct all keys, null where the record has none."""
    keys = dict.fromkeys(key for record in records for key in record)
    return pyarrow.table({key: pyarrow.array([record.get(key) for record in records]) for key in keys})


def test_every_kind_of_file_holds_the_same_conversations(tmp_path, chat_recipe, opened):
    chats = [chat(number) for number in range(12)]
    records = [in_layout("messages" if number % 2 else "sharegpt", each) for number, each in enumerate(chats)]
    plain = lines(records)
    array = json.dumps(records, ensure_ascii=False, indent=2).encode()
    (tmp_path / "a.jsonl").write_bytes(plain)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "c.json.zst").write_bytes(zstandard.ZstdCompressor().compress(array))
    (tmp_path / "d.json").write_bytes(b"\xef\xbb\xbf \n" + array + b"\n")
    pyarrow.parquet.write_table(nested(records), tmp_path / "e.parquet")
    (tmp_path / "f.jsonl").write_bytes(plain.replace(b"\n", b"\r\n\r\n"))
    found = contents(opened(chat_recipe(tmp_path / "[a-f].*")))
    expected = {line: naive(family("qwen"), each, OWN) for line, each in enumerate(chats, 1)}
    assert {place: value for place, value in found.items() if place[0] < 5} == {
        (file, line): value for file in range(5) for line, value in expected.items()
    }
    assert {line: value for (file, line), value in found.items() if file == 5} == {
        2 * line - 1: value for line, value in expected.items()
    }


def test_a_parquet_column_of_structs_gives_no_nulls_to_a_template(tmp_path, chat_recipe, opened):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    call, other = ({"type": "function", "function": {"name": "f", "arguments": {key: 1}}} for key in "ab")
    records = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call, other]}],
            "tools": tools,
        },
    ]
    pyarrow.parquet.write_table(nested(records), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_bytes(lines(records))
    found = contents(opened(chat_recipe(tmp_path / "[ab].*", chat={"template": "qwen"}, sequence_length=900)))
    assert found[0, 1] == found[1, 1]
    assert found[0, 2] == found[1, 2]


BAD = {
    "malformed": ['{"messages": [', "[]", '"text"', '{"messages": NaN}'],
    "duplicate key": ['{"messages": [], "messages": []}'],
    "not a conversation": [
        '{"text": "plain"}', '{"messages": null}', '{"messages": []}', '{"messages": [{"role": "user", "content": "q"}]}',
        '{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "a"}]}',
        '{"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "a"}]}',
        '{"messages": [{"role": "user", "content": "q"}, {"role": "system", "content": "late"}, {"role": "assistant", "content": "a"}]}',
        '{"messages": [{"role": "robot", "content": "q"}, {"role": "assistant", "content": "a"}]}',
        '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "a"}]}',
    ],
    "refused by the template": [
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}',
    ],
}  # fmt: skip


def test_what_is_no_conversation_is_named_by_file_and_line_and_counted(tmp_path, chat_recipe, opened):
    bad = [(kind, text) for kind, texts in BAD.items() for text in texts]
    good = [json.dumps({"messages": chat(number)}) for number in range(3)]
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join([good[0], *(text for _, text in bad), *good[1:]]).encode() + b"\n\xff\n")
    with pytest.raises(DataError, match=rf"(?s)16 of 19 documents cannot be used .*{path}:2: malformed: ") as caught:
        opened(chat_recipe(path, max_bad_documents=0.5))
    assert caught.value.args[0].count("\n") == 5
    source = opened(chat_recipe(path, max_bad_documents=0.9))
    assert set(contents(source)) == {(0, 1), (0, 17), (0, 18)}
    assert source.manifest.bad == {**{kind: len(texts) for kind, texts in BAD.items()}, "encoding": 1}
    listed = [json.loads(line) for line in (source.train.prefix.parent / "left_out.jsonl").read_text().splitlines()]
    assert [(entry["line"], entry["kind"]) for entry in listed] == [
        *((line, kind) for line, (kind, _) in enumerate(bad, 2)), (19, "encoding"),
    ]  # fmt: skip
    assert verify(source.train.prefix.parent) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "no document in the whole file"),
        (b'[{"messages": []}', "stands neither , nor ]"),
        (b'[{"messages": [}]', "element 1 of its array cannot be read"),
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"a": 1}] {}', "more stands behind its array"),
    ],
)
def test_an_array_that_is_not_whole_is_refused(content, message, tmp_path, chat_recipe, opened):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=f"a.json: .*{message}"):
        opened(chat_recipe(tmp_path / "a.json", max_bad_documents=1))


def test_text_files_and_tables_without_conversations_are_refused(tmp_path, chat_recipe, opened):
    (tmp_path / "a.txt").write_text("text")
    pyarrow.parquet.write_table(nested([{"text": "a"}]), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"conversations .* are read from files of jsonl or parquet, not text"):
        opened(chat_recipe(tmp_path / "a.txt"))
    with pytest.raises(DataError, match=r"no column of conversations .* it has text"):
        opened(chat_recipe(tmp_path / "b.parquet"))


def test_what_stands_for_unknown_text_is_text_in_sizes_as_it_is_in_scores(tmp_path, make_recipe, folders):
    """Bits per byte divide what `control_tokens` leaves to score by the sizes that are counted here."""
    tokenizer = mistral("v3")
    tokenizer.save_pretrained(tmp_path / "v3")
    (tmp_path / "a.jsonl").touch()
    recipe = make_recipe(
        {"talk": {"path": str(tmp_path / "a.jsonl"), "format": "chat"}}, chat={"template": "mistral-v3"}
    )
    opened = TextTokenizer.from_folder(tmp_path / "v3")
    work = ConversationWork.of(recipe, SourceDocuments(recipe, "talk", tmp_path / "left-out"), opened)
    assert work.control == {work.encoder.end.id, *control_tokens(opened).tolist()}
    unknown, special = opened.added["<unk>"]
    assert special
    assert unknown not in work.control
    assert {tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("[INST]")} <= work.control


@pytest.mark.parametrize("seed", range(4))
def test_damaged_records_are_taken_or_named_and_none_is_lost(seed, tmp_path, chat_recipe, folders):
    (tmp_path / "x.jsonl").touch()
    recipe = chat_recipe(tmp_path / "x.jsonl")
    documents = SourceDocuments(recipe, "talk", tmp_path / "left-out")
    work = ConversationWork.of(recipe, documents, TextTokenizer.from_folder(folders["qwen"]))
    work.start()
    rng = Random(seed)
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": [1, None]}}, "id": "x"}
    batch = []
    for line in range(1, 101):
        record = copy.deepcopy(in_layout(rng.choice(LAYOUTS), chat(line, rng.choice([1, 3]))))
        if rng.random() < 0.3:
            record = {
                "messages": [*chat(line), {"role": "assistant", "content": "", "tool_calls": [call]}],
                "tools": [call],
            }
        damaged = damaged_tree(rng, record) if line % 10 else record
        batch.append(Document(json.dumps(damaged), line))
    rendered = work(Batch([(0, "a.jsonl", Given(list(batch), 1))], 1, Position()))
    bad = [record for _, record in rendered.counted.bad]
    assert rendered.counted.seen == {0: 100}
    assert rendered.counts.conversations + len(bad) == len(batch)
    assert rendered.counts.conversations == sum(rendered.lengths.values())
    assert len(rendered.records) == rendered.counts.samples
    named = {record.line for record in bad}
    kept = set(rendered.records["line"].tolist()) | {record.line for _, record in rendered.dropped}
    assert named.isdisjoint(kept)
    assert named | kept == set(range(1, 101))
    assert all("\n" not in record.detail and record.detail for record in bad)


def test_any_number_of_processes_and_an_interrupted_run_give_the_same_bytes(tmp_path, chat_recipe, opened, monkeypatch):
    records = [json.dumps({"messages": chat(number)}) for number in range(230)]
    for place in (3, 90, 180):
        records[place] = '{"messages": 3}'
    (tmp_path / "a.jsonl").write_text("\n".join(records[:150]))
    (tmp_path / "b.jsonl").write_text("\n".join(records[150:]))
    options = {"max_bad_documents": 0.1, "held_out": 0.2}
    one = opened(chat_recipe(tmp_path / "[ab].jsonl", run="one", workers=1, **options))
    two = opened(chat_recipe(tmp_path / "[ab].jsonl", run="two", workers=2, **options))
    assert one.held_out.document_count > 20

    def broken(*_args, **_named):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(prepare_chat, "make_packs", broken)
        with pytest.raises(StorageError):
            opened(chat_recipe(tmp_path / "[ab].jsonl", run="three", **options))
    recipe = chat_recipe(tmp_path / "[ab].jsonl", run="three", **options)
    assert not source_directory(recipe, "talk").exists()
    three = opened(recipe)
    made = [digests(source.train.prefix.parent) for source in (one, two, three)]
    assert made[0] == made[1] == made[2]
    assert "train.packs-256" in made[0]


def test_a_conversation_that_stands_twice_falls_on_one_side_whatever_its_layout(tmp_path, chat_recipe, opened):
    chats = [chat(number, 1) for number in range(150)]
    for layout in ("messages", "alpaca"):
        records = [{**in_layout(layout, each), "id": layout} for each in chats]
        (tmp_path / f"{layout}.jsonl").write_bytes(lines(records))
    source = opened(chat_recipe(tmp_path / "*.jsonl", held_out=0.3))
    held = set(contents(source, "held_out"))
    assert 2 * 20 < len(held) < 2 * 75
    assert {line for file, line in held if file == 0} == {line for file, line in held if file == 1}


def test_a_long_conversation_is_divided_and_an_exchange_that_is_too_long_is_left_out(tmp_path, chat_recipe, opened):
    system = {"role": "system", "content": "Be brief."}
    long = [system, *chat(1, 12)]
    chats = [chat(number, 1) for number in range(120)]
    path = tmp_path / "a.jsonl"
    huge = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "word " * 400}]
    path.write_bytes(lines({"messages": each} for each in [long, [*huge, *chat(7, 1)], *chats]))
    source = opened(chat_recipe(path))
    counts = source.manifest.chat.counts
    assert (counts["conversations"], counts["conversations_divided"], counts["exchanges_dropped"]) == (122, 2, 1)
    assert source.manifest.chat.lengths.over_long == 2
    assert source.manifest.chat.lengths.longest > 400
    assert source.train.lengths.max() <= 256
    listed = json.loads((source.train.prefix.parent / "left_out.jsonl").read_text())
    assert (listed["line"], listed["kind"]) == (2, "exchange too long")
    assert source.manifest.bad == {}
    parts = [
        family("qwen").decode(source.train.document(index))
        for index in range(source.train.document_count) if source.train.documents()[index]["line"] == 1
    ]  # fmt: skip
    assert len(parts) > 1
    assert all(part.startswith("<|im_start|>system\nBe brief.<|im_end|>") for part in parts)
    for turn in range(12):
        assert sum(f"質問 {turn}:" in part for part in parts) == 1
    path.write_bytes(lines({"messages": each} for each in [*[[*huge, *chat(7, 1)]] * 2, *chats]))
    with pytest.raises(
        DataError, match=rf"(?s)2 of 124 exchanges are longer than data.sequence_length.*{path}:1: an exc"
    ):
        opened(chat_recipe(path))


def test_another_length_costs_a_table_where_nothing_is_divided_for_either(tmp_path, chat_recipe, opened, folders):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"messages": chat(number)} for number in range(40)))
    first = opened(chat_recipe(path))
    before = {path.name: path.stat().st_mtime_ns for path in first.train.prefix.parent.iterdir()}
    tokenizer = TextTokenizer.from_folder(folders["qwen"])
    longer = chat_recipe(path, sequence_length=400)
    assert current_manifest(longer, "talk", tokenizer) is not None
    assert not is_ready(longer, "talk", tokenizer)
    second = opened(longer)
    assert is_ready(longer, "talk", tokenizer)
    after = {path.name: path.stat().st_mtime_ns for path in second.train.prefix.parent.iterdir()}
    assert after.pop("train.packs-400")
    assert after == before
    assert second.train.window_count(400) < first.train.window_count(256)
    assert verify(second.train.prefix.parent) == []
    # Everybody who is told of packs is told of those of the length that trains.
    said = prepare(longer, tokenizer)["talk"].packing
    folder = second.train.prefix.parent
    windows = second.train.window_count(400)
    assert (said.packs, said.sequence_length) == (windows, 400)
    assert said.padding_share == pytest.approx(1 - second.train.token_count / (400 * windows))
    assert SourceManifest.read(folder / MANIFEST).packing.packs == first.train.window_count(256)
    lines_of, sound = inspect_path(folder)
    assert sound
    assert [f"packs of {length}:" in "\n".join(lines_of) for length in (256, 400)] == [True, True]
    longer.run_dir.mkdir(exist_ok=True)
    (longer.run_dir / "recipe.yaml").write_text(show(longer), encoding="utf-8")
    (longer.run_dir / "metrics.jsonl").write_text(json.dumps(step_line(1)) + "\n", encoding="utf-8")
    shown = read_run(longer.run_dir).manifests["talk"].packing
    assert (shown, shown.padding_share) == (said, said.padding_share)
    table = folder / "train.packs-400"
    whole = table.read_bytes()
    table.write_bytes(whole[:-1])
    assert inspect_path(folder)[1] is False
    run = read_run(longer.run_dir)
    assert "train.packs-400: damaged" in run.problems[0]
    table.write_bytes(whole)
    shorter = chat_recipe(path, sequence_length=80)
    with pytest.raises(DataError, match=r"data\.sequence_length was 256, and some are longer"):
        open_prepared(shorter, tokenizer)
    third = opened(shorter)
    assert third.train.lengths.max() <= 80
    assert not (third.train.prefix.parent / "train.packs-400").exists()
    assert current_manifest(longer, "talk", tokenizer) is None  # which would not have been divided


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"source": {"loss_on": "last"}}, True),
        ({"source": {"loss_on": ["user", "assistant"]}}, True),
        ({"source": {"loss_weight": 0.5, "language": "ja", "weight": 3}}, False),
        ({"chat": {"template": "chatml"}}, True),
        ({"chat": {"template_kwargs": {"a": 1}}}, True),
        ({"chat": {"rewritten_history": "last"}}, True),
        ({"chat": {"tools": [{"name": "f"}]}}, True),
        ({"held_out": 0.001}, True),
    ],
)
def test_what_changes_conversations_prepares_anew_and_nothing_else_does(
    change, again, tmp_path, chat_recipe, opened, folders
):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"messages": chat(number)} for number in range(3)))
    opened(chat_recipe(path))
    tokenizer = TextTokenizer.from_folder(folders["qwen"])
    changed = chat_recipe(path, **change)
    assert (current_manifest(changed, "talk", tokenizer) is None) == again
    if again:
        with pytest.raises(DataError, match="source talk was prepared with other settings"):
            open_prepared(changed, tokenizer)


def test_the_fingerprint_and_manifest_of_text_are_what_they_were(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    recipe = make_recipe({"s": {"path": str(jsonl(tmp_path / "a.jsonl", make_texts(120)))}})
    manifest = prepare(recipe, tokenizer)["s"]
    parts = [
        1, "s", tokenizer.fingerprint, True, True, 0.2, "auto", "text", "utf-8", None, None, "train", None, 67_108_864, 5_000_000,
        [(entry["name"], entry["size"], entry["digest"]) for entry in manifest.files],
    ]  # fmt: skip
    assert fingerprint(recipe, "s", tokenizer, manifest.files) == xxhash.xxh3_128_hexdigest(repr(parts).encode())
    written = json.loads((source_directory(recipe, "s") / MANIFEST).read_text())
    assert "chat" not in written
    assert written["digests"] == {}
    assert [list(written["stores"][part]["shards"][0]) for part in ("train", "held_out")] == [
        ["name", "tokens", "documents", "digests"]
    ] * 2
    assert SourceManifest.read(source_directory(recipe, "s") / MANIFEST) == manifest


def test_a_template_that_does_not_go_with_the_tokenizer_is_named_by_its_key(tmp_path, chat_recipe, opened, folders):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"messages": chat(number)} for number in range(3)))
    with pytest.raises(ModelError, match=r"data\.chat\.template: .*no chat template; name one of chatml"):
        opened(chat_recipe(path, "llama3", chat={"template": None}), "llama3")
    with pytest.raises(ModelError, match=r"data\.chat\.template: .* tokens that this tokenizer does not have"):
        opened(chat_recipe(path, chat={"template": "llama-3"}))


def test_a_template_whose_own_blocks_say_otherwise_stops_the_run(tmp_path, chat_recipe, folders, monkeypatch):
    source = OWN.replace("m.content +", "'' }}{% generation %}{{- m.content }}{% endgeneration %}{{- ")
    tokenizer = copy.deepcopy(family("qwen"))
    tokenizer.chat_template = source.replace(
        "m.content }}", "m.content + 'x' if m.role == 'assistant' else m.content }}"
    )
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"messages": chat(number)} for number in range(3)))
    with pytest.raises(ModelError, match=r"a\.jsonl:1: message 2: the chat template marks"):
        prepare(chat_recipe(path), TextTokenizer.from_folder(tmp_path / "tokenizer"))


def test_weights_of_messages_and_loss_on_reach_the_store(tmp_path, chat_recipe, opened):
    said = [*chat(1, 2)]
    said[1] = {**said[1], "weight": 0.25}
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"messages": said}]))
    ((_, weights),) = contents(opened(chat_recipe(path))).values()
    assert set(weights) == {0.0, 0.25, 1.0}
    assert np.flatnonzero(np.array(weights) == 0.25).max() < np.flatnonzero(np.array(weights) == 1.0).min()
    ((_, everything),) = contents(opened(chat_recipe(path, run="all", source={"loss_on": "all"}))).values()
    assert everything[0] == 0
    assert set(everything[1:]) == {0.25, 1.0}
