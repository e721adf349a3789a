"""What a base states of its licence, and no more."""

import pytest

from tsugiki.errors import ModelError
from tsugiki.licence import find_licence


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE.txt", "licence.md", "LICENSE-2.0.txt", "COPYING", "NOTICE", "Notice.txt",
                                  "USE_POLICY.md", "LICENSE_MODEL", "ACCEPTABLE_USE_POLICY.txt"])  # fmt: skip
def test_files_that_go_with_every_copy(tmp_path, name):
    (tmp_path / name).write_text("text")
    found = find_licence(tmp_path)
    assert [path.name for path in found.files] == [name]
    assert found.known
    assert found.name is None


@pytest.mark.parametrize(
    "name", ["licensed.txt", "model.safetensors", "unnoticed.md", "noticeable", "README.md", "copyingtest"]
)
def test_other_files_are_none(tmp_path, name):
    (tmp_path / name).write_text("no metadata")
    found = find_licence(tmp_path)
    assert found.files == []
    assert not found.known


def test_the_card_states_it(tmp_path):
    (tmp_path / "README.md").write_text("---\r\nlicense: apache-2.0\r\ntags: [a]\r\n---\r\n# text\nlicense: mit\n")
    assert find_licence(tmp_path).stated == {"license": "apache-2.0"}
    assert find_licence(tmp_path).name == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: llama3\nlicense_link: LICENSE\n---\n")
    assert find_licence(tmp_path).name == "llama3"


def test_one_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret").write_text("private")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="leads out of its folder"):
        find_licence(tmp_path / "base")
