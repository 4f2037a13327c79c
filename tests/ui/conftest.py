"""The page at /ui/ in a headless Chromium, before a whole tandem and scripted backends: harness and fixtures are those of the
process tests. Whatever a test looks at, a broken policy, a script's error or a request that leaves the gateway fails it."""

import importlib.util
import os
import shutil
import sys
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

PROCESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "process")
sys.path.insert(0, PROCESS)

_spec = importlib.util.spec_from_file_location("process_conftest", os.path.join(PROCESS, "conftest.py"))
_process = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_process)

attached, SANITIZED = _process.attached, _process.SANITIZED
pytest_configure, pytest_runtest_setup = _process.pytest_configure, _process.pytest_runtest_setup
folder, fake, tandem, pair = _process.folder, _process.fake, _process.tandem, _process.pair

from harness import DEADLINE  # noqa: E402 - found by then

expect.set_options(timeout=DEADLINE * 1000)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# Pictures go into the documents where that is asked for: a test changes no file of the tree by itself.
IMAGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir, "docs", "images") if os.environ.get("PICTURES") else None


@pytest.fixture(scope="session")
def chromium():
    assert CHROMIUM, "no chromium is installed: etc/setup/deps.sh ui"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Page:
    """The page of a tandem, and what went wrong in it."""

    def __init__(self, browser, t, images, view="", **options):
        self.tandem, self.images, self.wrong, self.left = t, images, [], []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", **options})
        self.context.set_default_timeout(DEADLINE * 1000)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda e: self.wrong.append(f"error: {e}"))
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(f"{m.type}: {m.text}"))
        self.page.on("request", lambda r: urlsplit(r.url).netloc == urlsplit(t.url).netloc or self.left.append(r.url))
        self.page.add_init_script("""window.broken = []; window.longest = 0;
            addEventListener("securitypolicyviolation", e => broken.push(e.violatedDirective + " " + e.blockedURI));
            new PerformanceObserver(l => { for (const e of l.getEntries()) longest = Math.max(longest, e.duration); })
                .observe({ type: "longtask", buffered: true });""")
        self.page.goto(f"{t.url}/ui/{view}")

    def view(self, name):
        self.page.click(f'#tabs a[href="#{name}"]')
        return self

    def check(self):
        assert self.left == [], self.left
        assert self.wrong == [], self.wrong
        assert self.page.evaluate("broken") == []

    def fits(self):
        """Nothing is wider than the window."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{wide} px too wide"

    def shot(self, name):
        os.makedirs(self.images, exist_ok=True)
        self.page.screenshot(path=os.path.join(self.images, f"ui-{name}.png"))


@pytest.fixture
def browse(chromium, folder):
    """browse(tandem, view, ...) -> its page; looked over and closed at the end."""
    opened = []

    def start(t, view="", **options):
        opened.append(Page(chromium, t, IMAGES or folder, view, **options))
        return opened[-1]

    yield start
    for p in opened:
        try:
            p.check()
        finally:
            p.context.close()
