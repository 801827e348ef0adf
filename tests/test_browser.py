"""A person looks at `/gd`: headless Chromium, during a real fit."""

import shutil
import threading

import matplotlib.image
import numpy as np
import pytest
from dask.distributed import Client
from helpers import cluster, until

import dask_gd
from dask_gd.dashboard.publish import Publish, add_page
from dask_gd.events import Failed, FitStarted, IterationEnded, StopFit

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

#: Width and height, in pixels.
WINDOW = (1400, 1300)

#: Nothing that needs a network, a sandbox or a screen.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--window-size={WINDOW[0]},{WINDOW[1]}",
)

#: Bokeh's first colour for lines.
BLUE = np.array([0x1F, 0x77, 0xB4])


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Start the browser that the tests share."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("Chromium and ChromeDriver are not installed (Debian's packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """Return the browser as it has started: an empty page in a window of its first size, and nothing in its log."""
    chromium.get("about:blank")
    chromium.set_window_size(*WINDOW)
    chromium.get_log("browser")
    return chromium


class Endless:
    """A fit in a thread that goes on until it is told to end, and whose iterations take a little while."""

    def __init__(self, store, rate):
        source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 10_000))
        solver = dask_gd.GradientDescent(learning_rate=rate)
        options = {"loss": "logistic", "solver": solver, "max_iter": 10_000, "tol": 0.0, "store": store}
        self.ended, self.iteration = threading.Event(), -1
        self.thread = threading.Thread(target=lambda: dask_gd.fit(source, **options, callbacks=[self.hear]))
        self.thread.start()

    def hear(self, event):
        if isinstance(event, IterationEnded):
            self.iteration = event.iteration
            if self.ended.wait(0.05):
                raise StopFit("told to")


def curves(browser):
    """Names of the runs, and how many points their curves have, as the browser has them."""
    script = "const c = Bokeh.documents[0].get_model_by_name('curves').data; return [c.run, c.x.map(x => x.length)]"
    return dict(zip(*browser.execute_script(script), strict=True))


#: Bokeh draws its parts in shadow roots.
DEEP = """
const deep = (root, css) => [...root.querySelectorAll(css), ...[...root.querySelectorAll('*')].flatMap(
    e => e.shadowRoot ? deep(e.shadowRoot, css) : [])];
"""


def follow(browser, text):
    """Click the link with this text, once it is there."""
    script = DEEP + "const link = deep(document, 'a').find(a => a.textContent == arguments[0]); link && link.click();"
    until(lambda: browser.execute_script(script + "return Boolean(link)", text))
    until(lambda: browser.execute_script("return window.Bokeh && Bokeh.documents.length > 0"))


def columns(browser):
    """Return where the columns of the table begin, with their headings."""
    script = DEEP + "return deep(document, 'table.gd th').map(e => [e.textContent, e.getBoundingClientRect().left])"
    return browser.execute_script(script)


def range_of_loss(browser):
    """Return the range of the plot of the loss, None before it is drawn."""
    script = "const p = window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].get_model_by_name('loss');"
    found = browser.execute_script(script + "return p ? [p.y_range.start, p.y_range.end] : null")
    if found and None not in found:
        return found
    return None


def test_columns_keep_their_place_and_a_curve_has_the_range_of_its_fit(browser):
    """FOUND 25."""
    with cluster(0) as scheduler, Client(scheduler) as client:
        assert add_page(client)
        publish = Publish(client)
        for run, losses in {"old": (35_000.0, 30_000.0, 29_000.0), "new": (0.5, 0.45, 0.44)}.items():
            publish(FitStarted(run, "rows", "Squared()", "none", "adam", 9, None, blocks=8, width=1 << 20, workers=4))
            for n, loss in enumerate(losses):
                publish(IterationEnded(n, loss, 0.1, 1.0, 1.0, 10.0, 80.0, 2.0, run))
        browser.get(scheduler.dashboard_link.replace("status", "gd"))
        low, high = until(lambda: range_of_loss(browser))
        assert 0.4 < low < 0.44
        assert 0.5 < high < 0.55
        before = until(lambda: columns(browser))
        assert len(before) == 12
        shown = browser.execute_script(DEEP + "return deep(document, 'table.gd td').map(e => e.innerText).join(' ')")
        assert shown.count("weights in 8 blocks of 1,048,576 on 4 workers") == 2
        # A long text is cut in the table, and whole below it.
        publish(Failed("new", "NonFiniteError: " + "nan in row 5, " * 30))
        failed = DEEP + "return deep(document, 'td.failed').length"
        until(lambda: browser.execute_script(failed))
        assert columns(browser) == before
        about = browser.execute_script(DEEP + "return deep(document, '.gd-about')[0].textContent")
        assert about.count("nan in row 5") == 30
        assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
        # The old fit, by its name.
        follow(browser, "old")
        low, high = until(lambda: (found := range_of_loss(browser)) and found[1] > 1 and found)
        assert 28_000 < low < 29_000
        assert 35_000 < high < 36_000
        # On a narrow screen the table has the scroll bar, not the page.
        browser.set_window_size(600, 1000)
        overflow = "const e = deep(document, '.gd-scroll')[0]; return e.scrollWidth > e.clientWidth"
        until(lambda: browser.execute_script(DEEP + overflow))
        assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_a_person_watches_two_fits(browser, tmp_path):
    with cluster(2) as two, Client(two):
        fits = [Endless(tmp_path / "first", 0.1), Endless(tmp_path / "second", 1.0)]
        try:
            until(lambda: all(fit.iteration > 1 for fit in fits))
            # From Dask's own first page by its navigation.
            browser.get(two.dashboard_link)
            browser.find_element("link text", "Gd").click()
            until(lambda: browser.execute_script("return window.Bokeh && Bokeh.documents.length > 0"))
            # The curve is that of one fit; a link leads to both.
            assert len(until(lambda: curves(browser))) == 1
            follow(browser, "All runs on one scale")
            first = until(lambda: len(found := curves(browser)) == 2 and found)
            # They grow.
            until(lambda: all(n > first[run] + 3 for run, n in curves(browser).items()))
            assert curves(browser).keys() == first.keys()
            # The rows of the table are those of the two fits, and follow them too.
            text = browser.execute_script(
                "return Bokeh.documents[0].roots()[0].children[0].text.replace(/<[^>]+>/g, ' ')"
            )
            for shown in (*first, "running", "learning_rate=0.1", "learning_rate=1.0", "of 10000", "ago"):
                assert shown in text
            browser.save_screenshot(str(tmp_path / "gd.png"))
            picture = (matplotlib.image.imread(tmp_path / "gd.png")[..., :3] * 255).round()
            # Where the curves are, there is colour, and more of it than the table's square.
            assert (np.abs(picture - BLUE).max(axis=-1) <= 2).sum() > 500
            errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
            assert not [entry for entry in errors if "favicon" not in entry["message"]]
            browser.find_element("link text", "Status").click()
            until(lambda: "/status" in browser.current_url)
        finally:
            for fit in fits:
                fit.ended.set()
            for fit in fits:
                fit.thread.join(60)
        browser.get(two.dashboard_link.replace("status", "gd"))
        ended = "return document.readyState == 'complete' && window.Bokeh && Bokeh.documents.length > 0 && "
        ended += "Bokeh.documents[0].roots()[0].children[0].text.includes('told to')"
        until(lambda: browser.execute_script(ended))
    assert dask_gd.load(tmp_path / "first").reason == "told to"


def test_a_person_opens_a_report(browser, tmp_path):
    source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 50_000))
    run = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-4), store=tmp_path / "run")
    page = dask_gd.report(tmp_path / "run", tmp_path / "report.html")
    browser.get(page.as_uri())
    # It loads nothing else, and has the picture of the fit and the weights in it.
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.querySelectorAll('svg path').length") > 10
    text = browser.find_element("tag name", "body").text
    largest = run.weights.feature.values[np.argmax(np.abs(run.weights.values))]
    for shown in ("converged", f"{float(run.history.loss[-1]):.4g}", str(largest)):
        assert shown in text
    browser.save_screenshot(str(tmp_path / "report.png"))
    picture = (matplotlib.image.imread(tmp_path / "report.png")[..., :3] * 255).round()
    assert (np.abs(picture - BLUE).max(axis=-1) <= 2).sum() > 100
    # Nothing is wider than the window.
    width = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
