"""The page in a real browser: it plays, seeks, filters and prints, asks nobody for anything, and holds text as text."""

import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from data.utterance import Utterance
from prediction.output import Answer, Conversation
from prediction.page import write_index, write_page

EMOTIONS = ("neutral", "happiness", "angry", "bored")
EVIL = (
    "</script><script>document.title='bad'</script><img src=x onerror=alert(1)> & \"it's\" {{ 7 * 7 }} \u202eabc\u202c"
)
TOOLS = "the browser's tests need Chromium and the packages playwright and axe-playwright-python"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def conversation(num, votes=False):
    """Utterances of 2 s, 2.5 s apart, of two speakers in turn; utterance 3 has no answer, 5 no words, 7 very many."""
    rng = np.random.default_rng(0)
    answers = []
    for i in range(num):
        words = {0: EVIL, 5: "", 7: "w" * 6000 + " word" * 800}.get(i, f"number {i} of all")
        speaker = ("Ann <b>", "Bob")[i % 2]
        one = Utterance(f"{i:04d}", "talk", speaker, 2.5 * i, 2.5 * i + 2, words)
        shares = None if i == 3 else rng.dirichlet(np.full(4, 0.4)).astype("float32")
        rests = {3: "nothing", 5: "sound"}.get(i, "words+sound")
        answers.append(Answer(one, shares, rests, rng.dirichlet(np.full(4, 0.4)) if votes else None))
    checkpoint = {"name": "small", "sha256": "ab" * 32, "trained_on": "made up"}
    notes = {"no text <i>": ["0005"], "all of it": []}
    return Conversation(EVIL, EMOTIONS, tuple(answers), checkpoint, "Guesses.", notes, duration_s=2.5 * num)


def wav(seconds):
    content = io.BytesIO()
    soundfile.write(content, 0.1 * np.sin(np.arange(int(8000 * seconds)) * 0.3), 8000, format="WAV")
    return "audio/wav", content.getvalue()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason=TOOLS)
    if CHROMIUM is None:
        pytest.skip(TOOLS)
    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page from disk; in the end it must have asked for nothing and complained of nothing."""
    said, asked, contexts = [], [], []

    def open_page(name, **options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [one for one in said if "ERR_FILE_NOT_FOUND" not in one]  # a lost recording, in one test
    assert all(url.startswith(("file://", "blob:")) and not re.search(r"(?<!talk|ndex)\.html", url) for url in asked)


def until(page, expression):
    """Waits for it; the page's policy forbids playwright's own way, which evaluates text in the page."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expression} did not come true")


def test_playing_seeking_and_keys(opened, tmp_path):
    write_page(tmp_path / "talk.html", conversation(12), wav(30))
    page = opened("talk.html", viewport={"width": 1100, "height": 700})
    time_of = "document.getElementById('audio').currentTime"
    until(page, "document.getElementById('audio').readyState > 2")
    assert page.title() != "bad" and page.locator("#list li").count() == 12
    page.locator("#list li").nth(2).locator(".time").click()
    until(page, f"{time_of} > 5.05 && {time_of} < 6.5")
    until(page, "document.querySelector('#list li.now').dataset.i === '2'")
    assert page.locator("#play").inner_text() == "Stop" and "number 2" in page.locator("#now").inner_text()
    cursor = float(page.locator(".cursor").get_attribute("x1"))
    assert cursor > 0
    page.keyboard.press("Space")  # focus is on the button of the utterance, which it must not press
    until(page, "document.getElementById('audio').paused")
    until(page, "document.getElementById('play').innerText === 'Play'")
    stopped = page.evaluate(time_of)
    assert 5 < stopped < 7.5
    page.keyboard.press("ArrowRight")
    until(page, f"Math.abs({time_of} - {stopped} - 5) < 0.01")
    page.keyboard.press("ArrowLeft")
    until(page, f"Math.abs({time_of} - {stopped}) < 0.01")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.closest('li').dataset.i") == "3"
    page.keyboard.press("Enter")
    until(page, f"{time_of} >= 7.5 && {time_of} < 9 && !document.getElementById('audio').paused")
    page.keyboard.press("Space")
    # the timeline: a bar plays its utterance, the space between them the moment
    page.locator("#bars [data-i='9'] rect").first.click()
    until(page, f"{time_of} >= 22.5 && {time_of} < 24")
    assert page.locator("#list li.now").get_attribute("data-i") == "9"
    page.keyboard.press("Space")
    page.locator("#search").focus()
    page.keyboard.press("Space")  # types, and plays nothing
    assert page.locator("#search").input_value() == " " and page.evaluate("document.getElementById('audio').paused")


def test_filters_zoom_and_text(opened, tmp_path):
    talk = conversation(12)
    write_page(tmp_path / "talk.html", talk, "talk%20%231.wav")  # the sound lies beside the page, and is lost
    page = opened("talk.html", viewport={"width": 1100, "height": 700})
    until(page, "document.getElementById('now').textContent.includes('cannot be played')")
    (tmp_path / "talk #1.wav").write_bytes(wav(30)[1])
    page.reload()
    page.locator("#list .time").nth(2).click()
    until(page, "document.getElementById('audio').currentTime > 5")
    page.keyboard.press("Space")
    visible = page.locator("#list li:visible")
    page.locator("#speaker").select_option("1")
    assert visible.count() == 6 and page.locator("#count").inner_text() == "6 of 12 utterances"
    page.locator("#search").fill("NUMBER 1")
    assert [visible.nth(i).get_attribute("data-i") for i in range(visible.count())] == ["1", "11"]
    page.locator("#search").fill("")
    page.locator("#speaker").select_option("")
    for place, name in enumerate(EMOTIONS):
        page.locator("#emotion").select_option(label=name)
        assert visible.count() == sum(one.top == place for one in talk.answers)
    page.locator("#emotion").select_option("none")
    assert visible.count() == 1 and "no answer" in visible.first.inner_text()
    page.locator("#emotion").select_option("")
    assert page.locator("#bars .dim").count() == 0
    # what a transcript holds is text, all of it
    assert page.locator("h1").inner_text() == EVIL and page.locator("#list .words").first.inner_text() == EVIL
    assert page.locator("#speaker option").nth(1).inner_text() == "Ann <b>"
    assert page.locator("img, b:not(.legend b)").count() == 0 and "49" not in page.locator("h1").inner_text()
    long = page.locator("#list li").nth(7)
    before = long.bounding_box()["height"]
    long.locator(".more").click()
    assert long.bounding_box()["height"] > 3 * before and len(long.locator(".words").inner_text()) == 10_000
    assert page.locator("#list li").nth(5).locator(".rests").inner_text() == "sound alone"
    wide = page.evaluate("document.getElementById('timeline').clientWidth")
    page.locator("#wider").click()
    assert page.evaluate("document.getElementById('timeline').clientWidth") == pytest.approx(2 * wide, rel=0.01)
    page.keyboard.press("-")
    assert page.evaluate("document.getElementById('timeline').clientWidth") == pytest.approx(wide, rel=0.01)


MODES = {
    "light": {"viewport": {"width": 1100, "height": 700}},
    "dark": {"viewport": {"width": 1100, "height": 700}, "color_scheme": "dark"},
    "a phone": {"viewport": {"width": 360, "height": 700}},
    "200 %": {"viewport": {"width": 550, "height": 350}, "device_scale_factor": 2},
}


@pytest.mark.parametrize("mode", MODES)
def test_everybody_can_read_it(mode, opened, tmp_path):
    """No serious finding of axe, nothing wider than the screen, never colour alone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=TOOLS)
    write_page(tmp_path / "talk.html", conversation(12, votes=mode == "dark"), None if mode == "dark" else wav(30))
    page = opened("talk.html", **MODES[mode])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if mode != "200 %":  # as wide as a small tablet: axe takes its seconds
        found = axe.Axe().run(page).response["violations"]
        assert not [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found]
    # each emotion has a texture of its own, and its letters, beside its colour
    looks = page.evaluate("[...document.querySelectorAll('.legend rect')].map((one) => getComputedStyle(one).fill)")
    assert len(set(looks)) == len(EMOTIONS) and all("url(" in look for look in looks)
    assert len({one.inner_text() for one in page.locator(".legend b").all()}) == len(EMOTIONS)
    assert re.search(r"\d\s%", page.locator("#list .bar").first.get_attribute("aria-label"))
    if mode == "dark":
        assert page.locator("#list .votes").count() == 12 and page.locator(".player").count() == 0
    background, ink = page.evaluate("['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])")
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (background, ink)]
    assert (brightness[0] < brightness[1]) == (mode == "dark")
    page.emulate_media(media="print")
    assert page.locator(".player").is_hidden() or mode == "dark"
    assert page.locator("#list li").last.is_visible() and page.locator(".filters").is_hidden()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"


def test_an_hour_stays_smooth_and_small(opened, tmp_path):
    """900 utterances: far below 1.5 MB besides the sound; little is drawn at once, so it stays quick."""
    talk = conversation(900)
    talk = replace(talk, answers=(*talk.answers[:7], *talk.answers[8:]))
    write_page(tmp_path / "talk.html", talk, ("audio/mpeg", bytes(1000)))
    assert (tmp_path / "talk.html").stat().st_size < 500_000
    write_page(tmp_path / "talk.html", talk)
    page = opened("talk.html", viewport={"width": 1100, "height": 700})
    assert page.locator("#bars rect").count() < 1500  # the whole hour: narrow bars show their top emotion alone
    lasted = page.evaluate(
        """async () => {
        const times = [], frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const timed = async (work) => {
          await frame();
          const before = performance.now();
          work();
          document.body.offsetHeight;
          times.push(performance.now() - before);
        };
        for (let i = 0; i < 5; i++) await timed(() => document.getElementById("wider").click());
        for (let i = 0; i < 5; i++) await timed(() => { document.getElementById("scroll").scrollLeft += 3000; });
        for (const words of ["1", "12", ""]) await timed(() => {
          const search = document.getElementById("search");
          search.value = words;
          search.dispatchEvent(new Event("input"));
        });
        return times;
      }"""
    )
    assert np.median(lasted) < 250  # 30 ms on a machine with nothing else to do
    assert page.locator("#bars [data-i]").count() < 100  # only what is in sight is drawn


def test_the_index_of_a_folder(opened, tmp_path):
    shares = [0.7, 0.2, 0.1, 0.0]
    row = {"name": "a<b>", "link": "sub/a%3Cb%3E.html", "duration_s": 75.0, "speakers": 2, "utterances": 9}
    rows = [row | {"emotions": EMOTIONS, "shares": shares}, row | {"emotions": EMOTIONS, "shares": None}]
    write_index(tmp_path / "index.html", [*rows, {"name": "bad", "failure": "no <sound>"}], 5, "Guesses.")
    page = opened("index.html")
    assert page.locator("tbody tr").count() == 3 and "The first 3 of 5" in page.locator("main").inner_text()
    assert page.locator("tbody tr").first.inner_text().split() == [
        "a<b>",
        "1:15",
        "2",
        "9",
        *("neutral", "70", "%,", "happiness", "20", "%,", "angry", "10", "%"),
    ]
    assert page.locator("a").first.get_attribute("href") == "sub/a%3Cb%3E.html"
    assert "no <sound>" in page.locator("tbody tr").last.inner_text()


def test_the_policy_allows_only_the_pages_own(tmp_path):
    """Without a browser: hashes of style and script, no address in the file, JSON without a "<"."""
    write_page(tmp_path / "talk.html", conversation(12), wav(1))
    text = (tmp_path / "talk.html").read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "media-src blob:" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert text.count("<script") == 3 and "<script>document" not in text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "<" not in re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
