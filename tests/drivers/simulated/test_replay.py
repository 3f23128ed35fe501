"""Recorded data is read as it was recorded: what is no number is no number, and missing rows are missing."""

import pytest

from drivers.simulated.replay import read_recording


def written(tmp_path, text):
    """Read a recording from text."""
    path = tmp_path / "recording.csv"
    path.write_text(text, encoding="utf-8")
    return read_recording(path)


def test_the_word_bad_and_empty_cells_are_none(tmp_path):
    """An instrument that lies quietly says so in words."""
    recording = written(tmp_path, "time,a,b\n2013-01-01T00:00:00,Bad,1.5\n2013-01-01T00:05:00,,nan\n")
    assert recording.names == ("a", "b")
    assert recording.rows == ((None, 1.5), (None, None))


def test_a_row_missing_from_an_even_raster_is_a_row_of_none(tmp_path):
    """One second, one second, then two that are missing."""
    rows = "".join(f"2020-03-01 15:44:{second:02};{second}\n" for second in (1, 2, 5))
    recording = written(tmp_path, "t;a\n" + rows)
    assert [row[0] for row in recording.rows] == [1.0, 2.0, None, None, 5.0]


def test_a_recording_begins_again_when_it_ends(wwtp):
    """Row n is row n modulo the length."""
    assert wwtp.row(len(wwtp.rows) + 3) == wwtp.row(3)


def test_a_file_without_rows_is_refused(tmp_path):
    """There is nothing to replay."""
    with pytest.raises(ValueError):
        written(tmp_path, "t;a\n")


def test_the_plant_day_holds_what_was_recorded(wwtp, skab):
    """288 rows of five minutes with the block of Bad that begins at 13:55; the pump rig has eight channels."""
    assert len(wwtp.rows) == 288
    assert set(wwtp.rows[13 * 12 + 11 :][0]) == {None}
    assert len(skab.names) == 10
