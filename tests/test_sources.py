"The embedded ESCO against the labels and definitions of the official form, where that file is at hand."

import pytest

from jobmatch.core.runs import root
from jobmatch.core.schema import read_attributes
from jobmatch.core.sources import load_source

OFFICIAL = root().parent / "shared" / "data" / "esco" / "skills_en.csv"
COLUMNS = {"attribute_id": "conceptUri", "name": "preferredLabel", "definition": "description", "aliases": "altLabels"}


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"no {OFFICIAL}")
def test_esco_is_cut_into_names_and_definitions():
    rejects = []
    ours = load_source("esco", rejects=rejects)[0].set_index("attribute_id")
    official = read_attributes(OFFICIAL, columns=COLUMNS, rejects=[]).set_index("attribute_id").reindex(ours.index)
    assert (len(ours), len(rejects)) == (13_939, 0)
    assert (ours["definition"] == official["definition"]).mean() > 0.999
    assert (ours["name"] == official["name"]).mean() > 0.999
