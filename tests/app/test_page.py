"""The page: a visitor reads sentences, whatever is wrong with the run."""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from ulrec.experiment.runner import Run

PAGE = Path(__file__).parents[2] / "ulrec" / "app" / "page.py"


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


def test_random_urls_are_pages(monkeypatch: pytest.MonkeyPatch, tiny_run: Run) -> None:
    source = random.Random(0)
    keys = ("user", "who", "like", "dislike", "guidance", "pictures", "seed", "quality", "view")
    keys = (*keys, "item", "order", "category", "q", "page", "between", "from", "one")
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
