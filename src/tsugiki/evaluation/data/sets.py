"""The fourteen evaluation sets: what reads them, where their files are published, under which licence, and how many
items they have.

Digests: those of the files that were at hand byte for byte when this table was written; for SQuAD2, WMT20 and the
validation split of HellaSwag, those that other projects record. Where there is none, `fetch` shows the one it finds.
Addresses name a commit or a tag where the file can change under its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tsugiki.evaluation.data import english, japanese, translation, winograd
from tsugiki.evaluation.data.items import DataFiles, Splits

GITHUB = "https://raw.githubusercontent.com"
HUB = "https://huggingface.co/datasets"
JGLUE = f"{GITHUB}/yahoojapan/JGLUE/v1.1.0/datasets"
JEMHOPQA = f"{GITHUB}/aiishii/JEMHopQA/c7be2b01e525779affcb8cde4c5b68f4bc1f13e0/corpus"
NIILC = f"{GITHUB}/mynlp/niilc-qa/9830b116ceb11f55733d90c59789760c8297110c/data"
XLSUM = f"{HUB}/mkshing/xlsum_ja/resolve/62c56e7d898c93e8d94390abc80660eed64ea39a/data"
MGSM = f"{GITHUB}/google-research/url-nlp/452a21ad3dae5668c06ceeac21ff073e1e40f9be/mgsm"
WMT20 = "https://data.statmt.org/wmt20/translation-task/test.tgz"
WMT21 = f"{GITHUB}/wmt-conference/wmt21-news-systems/cd9d313e041ace3a58d2325a48449c911b7fa38d/txt-ts"
OPENBOOKQA = f"{HUB}/allenai/openbookqa/resolve/main/main"
TRIVIAQA = f"{HUB}/mandarjoshi/trivia_qa/resolve/main/rc.nocontext"
HELLASWAG = f"{GITHUB}/rowanz/hellaswag/a29ff8e9a04bba4bd6588223785ce105328adc57/data"
SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
XWINOGRAD = f"{GITHUB}/yandex-research/crosslingual_winograd/d2cfbbf7dc8f4ec66381e9651f9f5633c2df848d"
GSM8K = f"{GITHUB}/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data"

WMT20_DIGEST = "md5:3b1f777cfd2fb15ccf66e9bfdb2b1699"
"""As sacrebleu records it."""

CC_BY_SA = "CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/)"
CC_BY_NC_SA = "CC BY-NC-SA 4.0, no commercial use (https://creativecommons.org/licenses/by-nc-sa/4.0/)"
CC_BY = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
APACHE = "Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0)"
MIT = "MIT (https://opensource.org/license/mit)"
WMT_TERMS = "WMT news test data: for research, cite the overview paper; no licence is stated with the files"


@dataclass(frozen=True)
class OriginalFile:
    """A file as its makers (or the hub) publish it, and its name below the data folder."""

    path: str
    url: str
    digest: str | None = None
    """`ALGORITHM:HEX` of what stands at the address, as `hashlib` names algorithms."""
    member: str | None = None
    """The file inside the tar archive that stands at the address."""


@dataclass(frozen=True)
class EvaluationSet:
    """What is known of a set before any of it is here."""

    name: str
    load: Callable[[DataFiles], Splits]
    title: str
    items: int
    """Items of the test split in published results (NIILC: without the two questions that have no answer)."""
    licence: str
    citation: str
    files: tuple[OriginalFile, ...]


def _wmt20(source: str, target: str, items: int, examples: tuple[str, str]) -> EvaluationSet:
    """One direction of WMT20, and the newstest2021 pair that its examples come from, with the digests of that pair."""
    test = [f"sgm/newstest2020-{source}{target}-{side}.sgm" for side in (f"src.{source}", f"ref.{target}")]
    folders = {"sources": f"src.{source}", "references": f"ref.A.{target}"}
    pool = [f"{folder}/newstest2021.{source}-{target}.{side}" for folder, side in folders.items()]
    return EvaluationSet(
        name=f"wmt20_{source}_{target}",
        load=lambda files: translation.load_wmt20(files, source, target),
        title=f"WMT20 {source}-{target}",
        items=items,
        licence=WMT_TERMS,
        citation="Barrault et al., Findings of the 2020 Conference on Machine Translation, WMT 2020",
        files=(
            *(OriginalFile(f"wmt20/{path}", WMT20, WMT20_DIGEST, member=path) for path in test),
            *(
                OriginalFile(f"wmt21/{path.split('/')[1]}", f"{WMT21}/{path}", digest)
                for path, digest in zip(pool, examples, strict=True)
            ),
        ),
    )


def _files(folder: str, address: str, digests: Mapping[str, str | None]) -> tuple[OriginalFile, ...]:
    """Files of one address, by name their digests, and their place in a folder."""
    return tuple(OriginalFile(f"{folder}/{name}", f"{address}/{name}", digest) for name, digest in digests.items())


_ALL = (
    EvaluationSet(
        name="jcommonsenseqa",
        load=japanese.load_jcommonsenseqa,
        title="JCommonsenseQA",
        items=1_119,
        licence=CC_BY_SA,
        citation="Kurihara et al., JGLUE: Japanese General Language Understanding Evaluation, LREC 2022",
        files=_files("jcommonsenseqa", f"{JGLUE}/jcommonsenseqa-v1.1", {
            "valid-v1.1.json": "sha256:0d8d76f3bfa0d174866939882faccdd01fbc2bcd5a76c43748ba0c40a7b3b8d4",
            "train-v1.1.json": "sha256:9b55fae5ecb3aedd6f8ce5bc09196c3b629864668ec6c18eee4d65c0aa48229e",
        }),
    ),
    EvaluationSet(
        name="jemhopqa",
        load=japanese.load_jemhopqa,
        title="JEMHopQA",
        items=120,
        licence=CC_BY_SA,
        citation="Ishii et al., JEMHopQA: Dataset for Japanese Explainable Multi-Hop QA, LREC-COLING 2024",
        files=_files("jemhopqa", JEMHOPQA, {
            "dev.json": "sha256:2f3b8a518ca3051fc002f343ba3c26f6f3be902464061b43c30c5a1d37a9269a",
            "train.json": "sha256:c64392b4087299bcfaa02fe2584128b5dc50fe5ea83e1bd600cadfc984669e65",
        }),
    ),
    EvaluationSet(
        name="niilc",
        load=japanese.load_niilc,
        title="NIILC",
        items=198,
        licence=CC_BY_SA,
        citation="Sekine, NIILC-ECQA2015: questions on an encyclopaedia (Development of a QA system, NLP 2003)",
        files=_files("niilc", NIILC, {
            "NIILC-ECQA2015_test.xml": "sha256:4a787463961db87e56e496c49cb40ca59f26d220e3ccc48588ad65b0dd4ce0d2",
            "NIILC-ECQA2015_dev.xml": "sha256:983dcaeb9ef38ca45d1114e8b420fdd4b358e827c235b1bfb4fc5e50ca70caf3",
        }),
    ),
    EvaluationSet(
        name="jsquad",
        load=japanese.load_jsquad,
        title="JSQuAD",
        items=4_442,
        licence=CC_BY_SA,
        citation="Kurihara et al., JGLUE: Japanese General Language Understanding Evaluation, LREC 2022",
        files=_files("jsquad", f"{JGLUE}/jsquad-v1.1", {
            "valid-v1.1.json": "sha256:fb0a57a35281ff03bbe7f0e878cff5b577985fbe6fcb242e7e8ddb63d1c0ab11",
            "train-v1.1.json": None,
        }),
    ),
    EvaluationSet(
        name="xlsum_ja",
        load=japanese.load_xlsum_ja,
        title="XL-Sum ja",
        items=766,
        licence=CC_BY_NC_SA,
        citation="Hasan et al., XL-Sum: Large-Scale Multilingual Abstractive Summarization for 44 Languages, 2021",
        files=_files("xlsum_ja", XLSUM, {
            "test.csv": None,
            "train.csv": None,
        }),
    ),
    EvaluationSet(
        name="mgsm_ja",
        load=japanese.load_mgsm_ja,
        title="MGSM ja",
        items=250,
        licence=CC_BY,
        citation="Shi et al., Language Models are Multilingual Chain-of-Thought Reasoners, ICLR 2023",
        files=_files("mgsm", MGSM, {
            "mgsm_ja.tsv": "sha256:59a2b50debe77981fd784cb3b2bef1505e3abf2a37116dc9d7a366ab029b4637",
            "exemplars.py": None,
        }),
    ),
    _wmt20(
        "en",
        "ja",
        1_000,
        (
            "sha256:1b774fb3b1146df0adee918c9ecd1cb709ac54f69f2037cd03f84f10975016c8",
            "sha256:6df9ed6935da005cafa8a0de88bcc64031d138644aa4f38c14dab5463e0fed24",
        ),
    ),
    _wmt20(
        "ja",
        "en",
        993,
        (
            "sha256:710fde61497df86be0adba3d56aee13360271ada9343f900fd1dcbadc02ce5d5",
            "sha256:6e8e622b7335b517e81391ce7199b6fdf54ddec3dd016d871fc5e51a08e5a8b7",
        ),
    ),
    EvaluationSet(
        name="openbookqa",
        load=english.load_openbookqa,
        title="OpenBookQA",
        items=500,
        licence=APACHE,
        citation="Mihaylov et al., Can a Suit of Armor Conduct Electricity?, EMNLP 2018",
        files=_files("openbookqa", OPENBOOKQA, {
            "test-00000-of-00001.parquet": None,
            "train-00000-of-00001.parquet": None,
        }),
    ),
    EvaluationSet(
        name="triviaqa",
        load=english.load_triviaqa,
        title="TriviaQA",
        items=17_944,
        licence=APACHE,
        citation="Joshi et al., TriviaQA: A Large Scale Distantly Supervised Challenge Dataset, ACL 2017",
        files=_files("triviaqa", TRIVIAQA, {
            "validation-00000-of-00001.parquet": None,
            "train-00000-of-00001.parquet": None,
        }),
    ),
    EvaluationSet(
        name="hellaswag",
        load=english.load_hellaswag,
        title="HellaSwag",
        items=10_042,
        licence=MIT,
        citation="Zellers et al., HellaSwag: Can a Machine Really Finish Your Sentence?, ACL 2019",
        files=_files("hellaswag", HELLASWAG, {
            "hellaswag_val.jsonl": "sha256:0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
            "hellaswag_train.jsonl": None,
        }),
    ),
    EvaluationSet(
        name="squad2",
        load=english.load_squad2,
        title="SQuAD2",
        items=11_873,
        licence=CC_BY_SA,
        citation="Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, ACL 2018",
        files=_files("squadv2", SQUAD, {
            "dev-v2.0.json": "sha256:80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8",
            "train-v2.0.json": "sha256:68dcfbb971bd3e96d5b46c7177b16c1a4e7d4bdef19fb204502738552dede002",
        }),
    ),
    EvaluationSet(
        name="xwinograd_en",
        load=winograd.load_xwinograd_en,
        title="XWinograd en",
        items=2_325,
        licence=APACHE,
        citation="Tikhonov and Ryabinin, It's All in the Heads, Findings of ACL 2021",
        files=_files("xwinograd", XWINOGRAD, {
            "dataset.tsv": "sha256:2c4cdad50f7a35523ce16f4437b7d5c814ebf7a49ad10f618468eeb32f08a873",
        }),
    ),
    EvaluationSet(
        name="gsm8k",
        load=english.load_gsm8k,
        title="GSM8K",
        items=1_319,
        licence=MIT,
        citation="Cobbe et al., Training Verifiers to Solve Math Word Problems, 2021",
        files=_files("gsm8k", GSM8K, {
            "test.jsonl": "sha256:3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
            "train.jsonl": "sha256:17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
        }),
    ),
)  # fmt: skip

SETS: dict[str, EvaluationSet] = {entry.name: entry for entry in _ALL}
"""Every set by its name, in the order of the tables."""
