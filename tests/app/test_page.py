"""The page: a visitor reads sentences, whatever is wrong with the run."""

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from ulrec.experiment.config import RunConfig
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES

PAGE = Path(__file__).parents[2] / "ulrec" / "app" / "page.py"
LETTERS = "blue u01aß\x00<>&\"'/\\%[]()!`~ \n\u202e😀"


def open_page(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> AppTest:
    monkeypatch.setattr(sys, "argv", ["page.py", *arguments])
    return AppTest.from_file(str(PAGE), default_timeout=60).run()


def only_error(page: AppTest) -> str:
    assert not page.exception
    assert len(page.error) == 1
    return page.error[0].value.replace("\\", "")


def test_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ulrec demo --run" in only_error(open_page(monkeypatch))


def test_missing_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    message = only_error(open_page(monkeypatch, "--run", str(tmp_path / "none")))
    assert "no run at" in message and "ulrec run" in message


def test_unfinished_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    message = only_error(open_page(monkeypatch, "--run", str(tmp_path)))
    assert "autoencoder" in message and "run the stage" in message


def test_damaged_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "autoencoder" / "manifest.json").write_text("{")
    assert "damaged" in only_error(open_page(monkeypatch, "--run", str(tmp_path)))


def words_of(page: AppTest) -> str:
    elements = (*page.markdown, *page.caption, *page.warning, *page.info)
    html = [element.proto.body for element in page.get("html")]
    return " ".join([*(str(element.value) for element in elements), *html])


def listed(page: AppTest, key: str) -> list[str]:
    value = page.query_params.get(key, [])
    return [value] if isinstance(value, str) else value


def page_of(monkeypatch: pytest.MonkeyPatch, run: Run, **query: str | list[str]) -> AppTest:
    monkeypatch.setattr(sys, "argv", ["page.py", "--run", str(run.folder)])
    page = AppTest.from_file(str(PAGE), default_timeout=60)
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception and not page.error
    return page


def test_a_user_is_shown_with_what_is_made(monkeypatch: pytest.MonkeyPatch, tiny_run: Run) -> None:
    words = words_of(page_of(monkeypatch, tiny_run, quality="Fast", pictures="2"))
    for expected in ("Simulated users", "Liked so far", "collaborative filtering recommends"):
        assert expected in words
    assert words.count('alt="Drawn for this person') == 2
    assert "Nearest liked items" in words


def test_somebody_else_is_drawn_for(monkeypatch: pytest.MonkeyPatch, tiny_run: Run) -> None:
    page = page_of(monkeypatch, tiny_run, quality="Fast", pictures="1")
    before = page.selectbox(key="user").value
    for _ in range(5):
        next(b for b in page.button if b.label == "Somebody else").click().run()
        assert not page.exception and not page.error
    assert page.selectbox(key="user").value in page.selectbox(key="user").options
    page.selectbox(key="user").set_value(before).run()
    assert words_of(page).count('alt="Drawn for this person') == 1


def test_a_visitor_taps_what_they_like(monkeypatch: pytest.MonkeyPatch, tiny_run: Run) -> None:
    page = page_of(monkeypatch, tiny_run, who="Me", quality="Fast", pictures="1")
    assert "Drawn for this person" not in words_of(page)
    key = next(button.key for button in page.button if button.key.startswith("tap-"))
    page.button(key=key).click().run()
    assert len(listed(page, "like")) == 1 and "Made for you" in words_of(page)
    page.button(key=key).click().run()
    assert not listed(page, "like") and len(listed(page, "dislike")) == 1
    assert "Made for you" not in words_of(page)
    assert not page.exception and not page.error


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("The space", "From one to another"),
        ("The catalogue", "Look through it"),
        ("The evidence", "How these numbers came about"),
    ],
)
def test_the_other_tabs(
    monkeypatch: pytest.MonkeyPatch, tiny_run: Run, view: str, expected: str
) -> None:
    page = page_of(monkeypatch, tiny_run, view=view, quality="Fast", pictures="1")
    labels = " ".join(block.label for block in page.expander)
    assert expected in words_of(page) + labels


def test_the_catalogue_from_novel_to_typical(
    monkeypatch: pytest.MonkeyPatch, tiny_run: Run
) -> None:
    def taps(order: str) -> list[str]:
        page = page_of(monkeypatch, tiny_run, view="The catalogue", order=order)
        return [button.key for button in page.button if button.key.startswith("tap-item")]

    typical, novel = taps("Typical first"), taps("Novel first")
    assert typical and not set(typical[:10]) & set(novel[:10])


def test_the_list_does_what_a_tap_on_the_map_does(
    monkeypatch: pytest.MonkeyPatch, tiny_run: Run
) -> None:
    page = page_of(monkeypatch, tiny_run, view="The space", quality="Fast", pictures="1")
    assert page.selectbox(key="spot").value is None and "its latent" not in words_of(page)
    chosen = page.selectbox(key="spot").options[5]
    page.selectbox(key="spot").set_value(chosen.rpartition("(")[2].removesuffix(")")).run()
    assert not page.exception and not page.error
    assert f"({listed(page, 'item')[0]})" in chosen and "from its latent" in words_of(page)
    again = page_of(monkeypatch, tiny_run, view="The space", item=listed(page, "item"))
    assert again.selectbox(key="spot").value == listed(page, "item")[0]


def test_what_was_not_judged_is_said(monkeypatch: pytest.MonkeyPatch, tiny_copy: Run) -> None:
    page = page_of(monkeypatch, tiny_copy, view="The evidence")
    assert "what guidance buys (`ulrec curve" in words_of(page)
    assert "`ulrec run" not in words_of(page) and "Sheets" in words_of(page)
    for part in ("metrics.json", "report.html"):
        (tiny_copy.folder / part).unlink()
    shutil.rmtree(tiny_copy.folder / "sheets")
    page = page_of(monkeypatch, tiny_copy, view="The evidence")
    assert "has not been judged" in page.info[0].value
    assert "figures, sheets, a report (`ulrec run" in page.info[0].value
    assert "The configuration of this run" in [block.label for block in page.expander]


def test_a_sheet_that_moves_is_sent_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tiny_copy: Run
) -> None:
    for sheet in (tiny_copy.folder / "sheets").glob("*.png"):
        sheet.unlink()
    (tiny_copy.folder / "sheets" / "samples.webp").write_bytes(b"RIFF of a sheet")
    page = page_of(monkeypatch, tiny_copy, view="The evidence")
    sent = [image.url for element in page.get("image") for image in element.proto.imgs]
    assert sent == ["data:image/webp;base64,UklGRiBvZiBhIHNoZWV0"]


def test_a_sweep_is_shown_where_it_is_of_the_same_media(
    monkeypatch: pytest.MonkeyPatch, tiny_copy: Run
) -> None:
    sweep = tiny_copy.folder.parent / "sweep"
    swept = sweep / "runs" / "c1_b0_seed0" / "config.yaml"
    swept.parent.mkdir(parents=True)
    shutil.copy(tiny_copy.folder / "sheets" / "samples.png", sweep / "sweep.png")
    configuration = (tiny_copy.folder / "config.yaml").read_text()
    swept.write_text(configuration)
    assert "What bits buy" in words_of(page_of(monkeypatch, tiny_copy, view="The evidence"))
    swept.write_text(configuration.replace("height: 16", "height: 24"))
    assert "What bits buy" not in words_of(page_of(monkeypatch, tiny_copy, view="The evidence"))


def test_a_curve_of_other_models_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tiny_copy: Run
) -> None:
    folder = tiny_copy.folder / "curve"
    folder.mkdir()
    row = {"guidance": 1.0, "metric": "HR@20", "mean": 0.2, "low": 0.1, "high": 0.3}
    (folder / "curve.json").write_text(json.dumps({"num_users": 9, "rows": [row]}))
    made_from = {"base": tiny_copy.fingerprint("base")}
    (folder / "manifest.json").write_text(json.dumps({"made_from": made_from}))
    assert "9 validation users" in words_of(page_of(monkeypatch, tiny_copy, view="The evidence"))
    (folder / "manifest.json").write_text(json.dumps({"made_from": {"base": "another"}}))
    words = words_of(page_of(monkeypatch, tiny_copy, view="The evidence"))
    assert "measured with other models" in words and "9 validation users" not in words


def test_words_steer_where_the_run_has_them(
    monkeypatch: pytest.MonkeyPatch,
    tiny_copy: Run,
    make_config: Callable[..., RunConfig],
    open_clip_installed: None,
) -> None:
    def drawn(text: str) -> str:
        page = page_of(monkeypatch, tiny_copy, text=text, quality="Fast", pictures="1")
        words = words_of(page)
        assert ("text" in [box.key for box in page.text_input]) == has_words
        assert ("and your words" in words) == bool(text.strip() and has_words)
        return words.partition('class="ul-hero"')[2].partition("</figure>")[0]

    has_words = False
    assert drawn("") == drawn("blue")
    config = make_config(tiny_copy.folder.parent, "text.pretrained=emoji_clip")
    run_stages(Run(config=config), [STAGES["text-features"]], report=lambda result: None)
    has_words = True
    plain = drawn("")
    assert drawn("blue") != plain and drawn(" ") == plain
    source = random.Random(0)
    for _ in range(10):
        drawn("".join(source.choices(LETTERS, k=source.randrange(1, 90))))


def test_random_urls_are_pages(monkeypatch: pytest.MonkeyPatch, tiny_run: Run) -> None:
    source = random.Random(0)
    keys = ("user", "who", "like", "dislike", "guidance", "pictures", "seed", "quality", "view")
    keys = (*keys, "item", "order", "category", "q", "page", "between", "from", "one", "text")
    values = (
        "",
        "0",
        "-1",
        "1e9",
        "nan",
        "Me",
        "\x00",
        "<b>",
        "The space",
        "The catalogue",
        "[x](y)",
    )
    for _ in range(12):
        chosen = {key: source.choice(values) for key in source.sample(keys, 6)}
        page = page_of(monkeypatch, tiny_run, **{"pictures": "1", **chosen})
        assert not page.exception and page.tabs, chosen


def test_a_damaged_configuration_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tiny_copy: Run
) -> None:
    (tiny_copy.folder / "config.yaml").write_text("generate: [")
    message = only_error(open_page(monkeypatch, "--run", str(tiny_copy.folder)))
    assert "config.yaml is damaged" in message
