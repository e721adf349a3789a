"""The sample as files: what a run trains on, and what it is asked."""

import json

from tsugiki.quickstart.instruct.sample import GENERATED, write_sample
from tsugiki.quickstart.instruct.written import written


def test_files_hold_all_that_is_trained_and_nothing_held_out(tmp_path):
    sample = write_sample(tmp_path / "conversations")
    assert list(sample.sources) == ["written-en", "written-ja", "generated-en", "generated-ja"]
    records = {
        name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for name, path in sample.sources.items()
    }
    assert sum(len(records[f"written-{language}"]) for language in ("en", "ja")) == len(written()) >= 400
    assert sum(len(records[f"generated-{language}"]) for language in ("en", "ja")) == GENERATED
    watched = [
        json.loads(line) for path in sample.watched.values() for line in path.read_text(encoding="utf-8").splitlines()
    ]
    held_out = sample.held_out_written + sample.held_out_generated
    assert sorted(map(str, watched)) == sorted(str(example.record()) for example in held_out)
    trained = {json.dumps(record, sort_keys=True) for each in records.values() for record in each}
    assert len(sample.held_out_written) == 60
    assert len(sample.held_out_generated) == 200
    for example in held_out:
        assert json.dumps(example.record(), sort_keys=True) not in trained
        assert [*example.prompt(), {"role": "assistant", "content": example.answer()}] == example.record()["messages"]


def test_files_that_are_there_stay(tmp_path):
    first = write_sample(tmp_path).sources
    times = {name: path.stat().st_mtime_ns for name, path in first.items()}
    first["written-en"].write_text("changed", encoding="utf-8")
    second = write_sample(tmp_path).sources
    assert second == first
    assert {n: p.stat().st_mtime_ns for n, p in second.items() if n != "written-en"} == {
        name: time for name, time in times.items() if name != "written-en"
    }
    assert len(second["written-en"].read_text(encoding="utf-8").splitlines()) >= 200
