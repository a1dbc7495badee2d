"The check of scripts/check.py that imports run only downward."

import sys

import pytest

from jobmatch.core.runs import root

sys.path.insert(0, str(root() / "scripts"))
import check  # noqa: E402


@pytest.mark.parametrize(("importer", "name", "wrong"), [
    ("live.stream", "core.splitting", False), ("live.stream", "live.kafka", False), ("cli", "live.stream", False), ("tiny", "data", False), ("core.splitting", "core.schema", False),
    ("core.splitting", "live.kafka", True), ("core.splitting", "data", True), ("data", "bi_train", True), ("data", "live.log", True), ("live.log", "cli", True), ("cli", "data", True),
    ("live.log", "data", True)])
def test_who_may_import_whom(importer, name, wrong):
    assert check.wrong_import(importer, name) == wrong


def test_every_import_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "ROOT", tmp_path)
    (tmp_path / "jobmatch" / "live").mkdir(parents=True)
    path = tmp_path / "jobmatch" / "live" / "odd.py"
    path.write_text("from ..core.runs import root\nfrom .kafka import send\n\ndef f():\n    import jobmatch.data\n    from jobmatch.bi_train import fit_bi\n    import json\n")
    assert list(check.imported(path)) == [(1, "core.runs"), (2, "live.kafka"), (5, "data"), (6, "bi_train")]
    with pytest.raises(check.Failure, match=r"odd.py:5: live.odd imports data(.|\n)*odd.py:6: live.odd imports bi_train"):
        check.layers()
