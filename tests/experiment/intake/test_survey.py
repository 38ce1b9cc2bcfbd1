import io

import numpy as np
import pytest
from PIL import Image

from ulrec.errors import DataError
from ulrec.experiment.intake.survey import judge_media, survey_folder, survey_pictures


def picture(width, height, seed=0, mode="RGB"):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


@pytest.fixture
def messy(tmp_path):
    (tmp_path / "shoes").mkdir()
    (tmp_path / ".cache").mkdir()
    picture(20, 30).save(tmp_path / "a.jpg")
    picture(20, 30, 1, "RGBA").save(tmp_path / "shoes" / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(40, 30, 2).save(tmp_path / "turned.jpg", exif=exif)
    picture(20, 30, 3).save(tmp_path / "really.png", "JPEG")
    picture(8, 9, 4).save(tmp_path / "small.bmp")
    frames = [picture(20, 20, seed) for seed in (5, 6)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "twin.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    (tmp_path / "likes.csv").write_text("user,item\n1,2\n")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    (tmp_path / ".cache" / "x.jpg").write_bytes(b"")
    return tmp_path


def test_a_messy_folder(messy):
    survey = survey_folder(messy, num_threads=2)
    rows = {row["path"]: row for row in survey.pictures.iter_rows(named=True)}
    assert list(rows) == sorted(rows) and len(rows) == 9
    assert (rows["turned.jpg"]["width"], rows["turned.jpg"]["height"]) == (30, 40)
    assert rows["turned.jpg"]["turned"] and not rows["a.jpg"]["turned"]
    assert rows["shoes/b.png"]["mode"] == "RGBA"
    assert rows["moving.gif"]["animated"]
    assert rows["really.png"]["format"] == "JPEG"
    assert (rows["empty.jpg"]["problem"], rows["page.jpg"]["problem"]) == ("is empty", "no picture")
    assert survey.duplicates == {"twin.jpg": "a.jpg"}
    assert [path.name for path in survey.tables] == ["likes.csv"]
    assert dict(survey.others) == {".pdf": 1}


def test_findings_say_what_to_do(messy):
    findings = judge_media(survey_folder(messy), max_pixels=1000)
    told = {finding.text.split(":")[0]: finding for finding in findings}
    assert "empty.jpg (is empty), page.jpg (no picture)" in told["2 pictures cannot be opened"].text
    large = "1 pictures have more pixels than data.media.max_pixels and will be left out"
    assert "turned.jpg" in told[large].text and "max_pixels" in told[large].remedy
    assert "1 pictures are animated; their first frame counts" in told
    assert "1 pictures have another format than their name says; the content counts" in told
    assert "1 pictures have a side below 16 pixels and will be blurred" in told
    assert all(finding.remedy for finding in findings if finding.level == "warning")


def test_encoded_pictures():
    stream = io.BytesIO()
    picture(12, 34).save(stream, "WEBP")
    found = survey_pictures(["a", "b"], [stream.getvalue(), b"junk"])
    assert found.select("path", "width", "height", "problem").rows() == [
        ("a", 12, 34, ""),
        ("b", 0, 0, "no picture"),
    ]


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="folder of pictures not found"):
        survey_folder(tmp_path / "none")
