"""What a visitor does, at desktop and at phone width, with the console free of errors."""

import io
import re
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

MADE = ".st-key-made .ul-hero img"
TAPS = '[class*="st-key-tap-"] button'


def settled(page: Any) -> None:
    """Wait until the script has run and no picture is outstanding."""
    page.wait_for_function(
        "() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
        " && !document.querySelector('.ul-wait')"
        " && !!document.querySelector('[role=tab]')"
    )
    page.wait_for_timeout(400)


def opened(page: Any, address: str, query: str = "") -> Any:
    page.goto(address + query)
    page.wait_for_selector("[role=tab]")
    settled(page)
    assert page.get_by_text("Something went wrong").count() == 0
    assert "Traceback" not in page.inner_text("body")
    return page


def made(page: Any, number: int) -> list[str]:
    page.wait_for_function(
        "([css, n]) => document.querySelectorAll(css).length === n", arg=[MADE, number]
    )
    return [image.get_attribute("src") for image in page.locator(MADE).all()]


def query_of(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def picture(size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def fits(page: Any) -> bool:
    return bool(
        page.evaluate(
            "() => [...document.querySelectorAll('[data-testid=stMain], body')]"
            ".every(e => e.scrollWidth <= e.clientWidth + 1)"
        )
    )


def test_a_user_sees_what_is_made_and_why(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast")
    pictures = made(page, 4)
    assert len(set(pictures)) == 4
    text = page.inner_text("body")
    for words in ("Liked so far", "collaborative filtering recommends", "Nearest new items"):
        assert words in text
    assert "Simulated users" in text
    assert re.search(r"Nearest liked items\s+-?\d\.\d\d", text)
    assert fits(page)


def test_the_seed_changes_the_pictures_and_the_url(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1")
    before = made(page, 1)
    page.get_by_role("spinbutton", name="Seed").fill("7")
    page.get_by_role("spinbutton", name="Seed").press("Enter")
    page.wait_for_url("**seed=7**")
    page.wait_for_function(
        "([css, src]) => document.querySelector(css)?.src !== src", arg=[MADE, before[0]]
    )
    settled(page)
    after = made(page, 1)
    assert made(opened(page, page.url), 1) == after  # a shared link shows the same


def test_somebody_else(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1")
    page.get_by_role("button", name="Somebody else").click()
    page.wait_for_url("**user=**")
    settled(page)
    assert len(made(page, 1)) == 1
    assert len(query_of(page)["user"]) == 1


def test_a_surprise(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1&guidance=1")
    before = made(page, 1)
    page.get_by_text("Surprise me").click()
    page.wait_for_url("**surprise=true**")
    settled(page)
    assert made(page, 1) != before
    page.get_by_text("The same in Python").wait_for(state="detached")
    assert page.get_by_text("The same in Python").count() == 0


def test_becoming_a_user_by_tapping(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=2&who=Me")
    for number in range(3):
        page.locator(TAPS).nth(number).click()
        page.get_by_text(f"{number + 1} liked, 0 not").wait_for()
    page.locator(TAPS).nth(2).click()
    page.get_by_text("2 liked, 1 not").wait_for()
    settled(page)
    pictures = made(page, 2)
    query = query_of(page)
    assert len(query["like"]) == 2 and len(query["dislike"]) == 1
    assert made(opened(page, page.url), 2) == pictures
    assert "Made for you" in page.inner_text("body")
    page.get_by_role("button", name="Start again").click()
    page.get_by_text("0 liked, 0 not").wait_for()
    assert fits(page)


def test_the_keyboard_is_enough(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1&who=Me")
    page.locator(TAPS).first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.querySelector('img')?.alt")
    page.keyboard.press("Enter")
    page.get_by_text("1 liked, 0 not").wait_for()
    settled(page)
    made(page, 1)
    page.get_by_role("tab", name="For a person").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("Where everything lies").wait_for()
    settled(page)


def test_the_map_is_tapped_and_a_strip_decoded(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1&view=The+space")
    chart = page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")
    chart.first.wait_for()
    page.wait_for_function("() => document.querySelectorAll('.ul-strip img').length === 9")
    settled(page)
    box = chart.first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.45)
    page.wait_for_url("**item=**")
    page.get_by_text("from its latent").wait_for()
    before = page.locator(".ul-strip img").nth(4).get_attribute("src")
    page.get_by_role("radio", name="Two people").click()
    page.wait_for_function(
        "src => { const all = document.querySelectorAll('.ul-strip img');"
        " return all.length === 9 && all[4].src !== src }",
        arg=before,
    )
    settled(page)
    assert fits(page)


def test_the_map_by_keyboard(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1&view=The+space")
    page.get_by_role("combobox", name="Item on the map").focus()
    page.keyboard.type("grinning face with")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**item=**")
    page.get_by_text("from its latent").wait_for()
    settled(page)
    assert fits(page)


def test_the_catalogue_is_searched(page: Any, address: str) -> None:
    opened(page, address, "?view=The+catalogue")
    page.locator(TAPS).nth(3).click()
    page.wait_for_url("**item=**")
    page.get_by_text("bits a pixel").wait_for()
    page.get_by_role("radio", name="Novel first").click()
    page.wait_for_url("**order=**")
    settled(page)
    page.get_by_role("textbox", name="Name").fill("no item is called this")
    page.get_by_role("textbox", name="Name").press("Enter")
    page.get_by_text("Nothing is called that").wait_for()
    settled(page)
    assert fits(page)


def test_searching_by_picture(page: Any, address: str) -> None:
    opened(page, address, "?view=The+catalogue")
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": picture()})
    page.get_by_text("as the model sees it").wait_for()
    settled(page)
    assert page.get_by_text("no picture that can be read").count() == 0
    upload = page.locator("input[type=file]")
    upload.set_input_files(
        {"name": "bad.png", "mimeType": "image/png", "buffer": b"<script>alert(1)</script>"}
    )
    page.get_by_text("no picture that can be read").wait_for()
    settled(page)
    assert page.get_by_text("as the model sees it").count() == 0


def test_the_evidence(page: Any, address: str) -> None:
    opened(page, address, "?view=The+evidence")
    page.locator(".ul-figures dt").nth(1).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    assert download.value.suggested_filename.endswith("report.html")
    page.get_by_text("How these numbers came about").click()
    page.get_by_text("config_hash").wait_for()
    assert fits(page)


def test_the_pictures_are_downloaded(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=2")
    made(page, 2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the pictures").click()
    assert download.value.suggested_filename == "pictures.zip"


@pytest.mark.scheme("dark")
def test_dark_stays_readable(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1")
    made(page, 1)
    colours = page.evaluate(
        "() => { const s = getComputedStyle(document.querySelector('.stApp'));"
        " const h = getComputedStyle(document.querySelector('.ul-head h2'));"
        " return [s.backgroundColor, h.color].map(c => c.match(/[0-9.]+/g).slice(0, 3)"
        ".reduce((sum, v) => sum + Number(v), 0)) }"
    )
    assert colours[0] < 150 and colours[1] > 500


@pytest.mark.parametrize(
    "query",
    [
        "?user=nobody",
        "?user=%3Cscript%3Ealert(1)%3C/script%3E",
        "?who=Me&like=none&dislike=%00&like=../../etc",
        "?guidance=nan&pictures=1e9&seed=-3&quality=Best",
        "?view=Nowhere&item=none",
        "?view=The+space&guidance=inf&pictures=-1&user=nobody",
        "?view=The+catalogue&page=999999&order=x&category=y&q=%5B%5B",
    ],
)
def test_a_hostile_url_gives_a_page(page: Any, address: str, query: str) -> None:
    page = opened(page, address, query)
    assert page.get_by_role("tab").count() >= 4


def test_the_header_is_there_at_once(page: Any, address: str) -> None:
    opened(page, address, "?quality=Fast&pictures=1")  # the first visitor has loaded the models
    start = time.monotonic()
    page.goto(address + "?quality=Fast&pictures=1")
    page.wait_for_selector(".ul-top h1")
    assert time.monotonic() - start < 10  # measured by examples/benchmarks/demo.py
