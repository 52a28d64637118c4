"""What the form of a connection makes of what was typed or picked."""

from __future__ import annotations

import pytest

from services.admin.pages.connection_form import changes_of
from services.admin.pages.forms import PostedForm


@pytest.mark.promise("M5")
@pytest.mark.parametrize("folder", ["two  spaces  ", " Support", "/user/bob/Team "])
def test_a_picked_folder_keeps_the_spaces_at_its_ends(folder: str) -> None:
    form = PostedForm({"mode": ["imap"], "name": [" office "], "folder": [folder]})
    changes = changes_of(form)
    assert (changes["folder"], changes["name"]) == (folder, "office")
