"""The page of a run in a real browser: the map, the enlarged pictures, a phone, and the dark.

It needs Playwright (`pip install playwright`) and a Chromium, either Debian's (`apt-get install
chromium`) or Playwright's own (`playwright install chromium`).
"""

import json
import shutil

import pytest
from report_case import explored, made_run, pictures

from sit_keras.workflows.report import write_report

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
NAMES = ("chromium", "chromium-browser", "google-chrome")
PAD = 28  # of map.js, around the images of the map
# The least contrast of small texts by WCAG 2.1, criterion 1.4.3.
MIN_CONTRAST = 4.5
CONTRASTS = """
() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = channels(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const each of document.querySelectorAll("h1, h2, h3, p, a, td, th, li, b, figcaption, label, button, svg text")) {
    if (!each.getClientRects().length) continue;
    const style = getComputedStyle(each);
    const ink = light(channels(each.tagName === "text" ? style.fill : style.color));
    const paper = light(channels("rgb(" + behind(each).slice(0, 3) + ")"));
    found.push([(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), each.outerHTML.slice(0, 80)]);
  }
  return found;
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with api.sync_playwright() as playwright:
        try:
            # Its own sandbox refuses to start for the user root; the page is of our own making.
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(
                f"no Chromium: apt-get install chromium, or playwright install chromium ({error})"
            )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    run = made_run(tmp_path_factory.mktemp("page") / "run")
    names = ("cat", "a_dog_of_a_name_that_is_far_too_long_for_the_screen_of_a_phone")
    return write_report(run, pictures(run), explored(names=names)).as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page at a size and in a scheme; complaints of the browser fail the test."""
    complaints, contexts = [], []

    def open_page(size=WIDE, scheme="light", **options):
        context = browser.new_context(
            viewport=size, color_scheme=scheme, reduced_motion="reduce", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: (
            None if request.url.startswith(("data:", address)) else complaints.append(request.url)
        ))  # fmt: skip
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def place(page, i):
    """Where an image of the map lies on the screen before it is zoomed."""
    page.locator("#map canvas.plane").scroll_into_view_if_needed()
    box = page.locator("#map canvas.plane").bounding_box()
    data = json.loads(page.locator("#map-data").text_content())
    inner = [box["width"] - 2 - 2 * PAD, box["height"] - 2 - 2 * PAD]  # without the border
    return (box["x"] + 1 + PAD + data["x"][i] * inner[0],
            box["y"] + 1 + PAD + data["y"][i] * inner[1])  # fmt: skip


def colours_of_map(page):
    return page.evaluate("document.querySelector('#map canvas.plane').toDataURL()")


@pytest.mark.slow
def test_hovering_shows_the_image_and_what_its_neighbours_say(opened):
    page = opened()
    tip = page.locator("#map .tip")
    assert tip.is_hidden()
    page.mouse.move(*place(page, 0))
    assert tip.is_visible() and "its neighbours say cat" in tip.text_content()
    pixel = (
        "document.querySelector('#map .tip canvas').getContext('2d').getImageData(6, 8, 1, 1).data"
    )
    assert page.evaluate(f"[...{pixel}]") == [0, 0, 0, 255]  # the images of the group 0 are black
    page.mouse.move(5, 5)
    assert tip.is_hidden()


@pytest.mark.slow
def test_a_click_shows_the_neighbours_and_a_click_on_one_shows_its_own(opened):
    page = opened()
    page.mouse.click(*place(page, 2))
    buttons = page.locator("#map .near button")
    assert buttons.count() == 11 and buttons.nth(0).text_content() == "cat"
    assert buttons.nth(1).text_content().startswith("✓ cat ")
    data = json.loads(page.locator("#map-data").text_content())
    other = data["near"][2][0]
    buttons.nth(1).click()
    texts = [f"{data['cosine'][other][k]:.2f}" for k in range(10)]
    assert all(text in buttons.nth(k + 1).text_content() for k, text in enumerate(texts))


@pytest.mark.slow
def test_the_map_zooms_moves_resets_and_changes_its_colours(opened):
    page = opened()
    start = colours_of_map(page)
    page.locator("#map [data-zoom='1.6']").click()
    zoomed = colours_of_map(page)
    assert zoomed != start and "zoomed" in page.locator("#map").get_attribute("class")
    page.locator("#map canvas.plane").scroll_into_view_if_needed()
    box = page.locator("#map canvas.plane").bounding_box()
    data = json.loads(page.locator("#map-data").text_content())
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()  # and bring an image at a border into sight
    moves = (400 if data["x"][2] < 0.5 else -400), (200 if data["y"][2] < 0.5 else -200)
    page.mouse.move(middle[0] + moves[0], middle[1] + moves[1], steps=4)
    page.mouse.up()
    page.mouse.move(5, 5)
    assert colours_of_map(page) != zoomed
    page.locator("#map [data-zoom='reset']").click()
    assert colours_of_map(page) == start
    for mode, entries in (("right", 2), ("group", 2), ("seen", 2), ("label", 2)):
        page.locator(f"#map input[value={mode}]").check()
        assert page.locator("#map .legend button").count() == entries
    assert colours_of_map(page) == start
    page.locator("#map input[value=right]").check()
    assert colours_of_map(page) != start
    assert "neighbours say another class (1)" in page.locator("#map .legend").text_content()


@pytest.mark.slow
def test_a_wheel_scrolls_the_page_until_the_map_was_clicked(opened):
    page = opened()
    page.mouse.move(*place(page, 2))
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, 60)
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") > before
    page.locator("#map canvas.plane").focus()
    page.mouse.move(*place(page, 2))
    page.mouse.wheel(0, -200)
    page.wait_for_timeout(300)
    assert page.locator("#map.zoomed").count() == 1


@pytest.mark.slow
def test_any_picture_is_enlarged_by_a_click_and_closed_by_escape(opened):
    page = opened()
    dialog = page.locator("#lightbox")
    for section in ("attention-rotation", "doubts", "curves"):
        page.locator(f"#{section} .zoom").first.click()
        shown = dialog.locator("img, svg").first
        assert shown.is_visible() and shown.bounding_box()["width"] >= 320
        text = dialog.locator("p").text_content()
        dialog.locator("[data-go='1']").click()
        assert section == "doubts" or dialog.locator("p").text_content() != text
        page.keyboard.press("Escape")
        assert dialog.is_hidden()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_scrolling_sideways(opened, scheme):
    page = opened(NARROW, scheme, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#settings summary").click()
    page.touchscreen.tap(*place(page, 2))
    assert page.locator("#map .near button").count() == 11
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(opened, scheme):
    page = opened(WIDE, scheme)
    page.mouse.click(*place(page, 0))
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert min(contrasts)[0] >= MIN_CONTRAST, min(contrasts)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 23, 27)") == (scheme == "dark")
