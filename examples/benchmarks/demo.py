"""How soon the demo answers: pictures, first paint, memory, ten visitors at once.

    python examples/benchmarks/demo.py --run runs/quickstart [--browser]

Pictures are drawn as the page draws them: Fine one after the other, Fast four together. With
``--browser`` the demo is started and looked at in Chromium through Playwright (make test-browser
installs both).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

PICTURES, VISITORS, LIMIT_S = 4, 10, 600
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
MADE = f"() => document.querySelectorAll('.st-key-made .ul-hero img').length === {PICTURES}"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    pictures(options.run, options.repeats)
    if options.browser:
        in_browser(options.run)


def pictures(run: Path, repeats: int) -> None:
    """Time pictures for users as the page draws them, and tell the memory of the process."""
    from ulrec.app.drawing import drawn
    from ulrec.app.loading import load, stamp_of
    from ulrec.app.people import listed_users, user_of
    from ulrec.app.state import Wish

    start = time.perf_counter()
    shown = load(str(run), stamp_of(run))
    print(f"load: {time.perf_counter() - start:.2f} s")
    people = [user_of(shown, user) for user in listed_users(shown)[: repeats + 1]]
    for quality in ("Fine", "Fast"):
        wish = Wish(guidance=shown.guidance, quality=quality, pictures=PICTURES)
        times = []
        for person in people:
            start, before = time.perf_counter(), time.process_time()
            made = list(drawn(shown, person, wish, waiting=lambda ahead: None))
            assert len(made) == PICTURES
            times.append((time.perf_counter() - start, time.process_time() - before))
        wall, busy = zip(*times[1:], strict=True)  # the first one warms up
        spread = f"{statistics.median(wall):.2f} s [{min(wall):.2f}, {max(wall):.2f}]"
        print(f"{PICTURES} pictures, {quality}: {spread}, {statistics.median(busy):.2f} CPU s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory: {peak:.2f} GB")


def in_browser(run: Path) -> None:
    """Start the demo, time its first paint, and let ten visitors in at once."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ulrec", "demo", "--run", str(run), "--port", str(port)]
    environment = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true"}
    server = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://localhost:{port}/"
    try:
        wait(address)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=list(CHROMIUM)
            )
            browser.new_page().goto(f"{address}_stcore/health")  # the browser's own start
            for visit in ("first", "second", "third"):
                paint(browser, address, f"{visit} visitor")
            together(browser, address)
            browser.close()
        print(f"peak memory of the demo: {peak_of(server.pid) / 1e9:.2f} GB")
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def wait(address: str) -> None:
    """Wait until the demo answers."""
    while True:
        try:
            urllib.request.urlopen(f"{address}_stcore/health", timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return


def paint(browser: Any, address: str, visit: str) -> None:
    """Time the first paint (as the browser tells it), the header and all pictures of one visit."""
    page = browser.new_context().new_page()
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".ul-top h1")
    header = time.perf_counter() - start
    page.wait_for_function(MADE, timeout=120_000)
    everything = time.perf_counter() - start
    first = page.evaluate(FIRST_PAINT) / 1000
    print(
        f"{visit}: first paint {first:.2f} s, header {header:.2f} s, "
        f"all pictures {everything:.2f} s"
    )
    page.context.close()


def together(browser: Any, address: str) -> None:
    """Let visitors ask for pictures that nobody has asked for, all at once; all get their own."""
    pages = [browser.new_context().new_page() for _ in range(VISITORS)]
    start = time.perf_counter()
    for seed, page in enumerate(pages, 100):
        page.goto(f"{address}?seed={seed}", wait_until="commit")
    answered: dict[int, float] = {}
    while len(answered) < VISITORS and time.perf_counter() - start < LIMIT_S:
        for number, page in enumerate(pages):
            if number not in answered and page.evaluate(MADE):
                answered[number] = time.perf_counter() - start
        time.sleep(0.1)
    unanswered = {n: p.inner_text("body")[-200:] for n, p in enumerate(pages) if n not in answered}
    if unanswered:
        raise SystemExit(f"no pictures after {LIMIT_S} s for visitors {unanswered}")
    sources = {
        image.get_attribute("src")
        for page in pages
        for image in page.locator(".st-key-made .ul-hero img").all()
    }
    if len(sources) != VISITORS * PICTURES:
        raise SystemExit(f"{VISITORS * PICTURES} pictures expected, got {len(sources)} unlike ones")
    times = sorted(answered.values())
    print(
        f"{VISITORS} visitors at once: each has {PICTURES} pictures of their own after "
        f"{times[0]:.1f} to {times[-1]:.1f} s"
    )


def peak_of(group: int) -> int:
    """Return the peak memory in bytes of the processes of a group, summed (Linux)."""
    peak = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            of_group = int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group
            lines = (folder / "status").read_text().splitlines() if of_group else []
        except OSError:  # it has ended since
            continue
        peak += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return peak


if __name__ == "__main__":
    main()
