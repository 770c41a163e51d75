"""The page of a run: what is in it, and that it needs nothing from outside."""

import json
import re

import pytest
from report_case import explored, made_run, pictures

from sit_keras.workflows.class_table import class_rows, confusion_of_neighbours
from sit_keras.workflows.report import write_report


def page_of(folder, **changes):
    run = made_run(folder)
    channels = changes.get("channels", 3)
    return write_report(run, pictures(run, channels), explored(**changes)).read_text("utf-8")


def map_data(page):
    return json.loads(re.search(r"id='map-data'>(.*?)</script>", page, re.DOTALL)[1])


def test_the_page_needs_no_other_file_and_forbids_itself_the_network(tmp_path):
    page = page_of(tmp_path / "run")
    assert "default-src 'none'; img-src data:;" in page
    loaded = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]{0,12})""", page)
    assert loaded and all(each.startswith(("data:image/", "#")) for each in loaded), loaded
    assert not re.search(r"@import|fetch\(|XMLHttpRequest|<link|<iframe", page)
    names = r"http://www\.w3\.org/(?:2000/svg|1999/xlink)"  # of XML, which nobody loads
    assert not re.search("https?://", re.sub(names, "", page))


def test_the_page_names_no_folder_of_this_machine(tmp_path):
    page = re.sub("base64,[A-Za-z0-9+/=]+", "", page_of(tmp_path / "run"))
    assert str(tmp_path) not in page and "/home" not in page and "/tmp" not in page


def test_the_contents_lead_to_every_section_in_order(tmp_path):
    page = page_of(tmp_path / "run")
    links, sections = re.findall("href='#([^']+)'", page), re.findall("<section id='([^']+)'", page)
    assert links == sections == [
        "map", "doubts", "attention-rotation", "patches", "classes", "curves", "settings",
        "versions",
    ]  # fmt: skip
    assert page.index("<nav") < page.index("id='map'")


def test_every_picture_can_be_enlarged_and_says_what_good_looks_like(tmp_path):
    page = page_of(tmp_path / "run")
    shown = [image for image in re.findall("<img[^>]*", page) if "sprite" not in image]
    enlarged = re.findall(r"class='zoom'[^>]*>\s*<img", page)
    assert len(shown) == len(enlarged) == 2 * 6 + 2 * 2 + 1
    assert all(re.search("alt='[^']+'", image) for image in shown)
    assert len(re.findall(r"class='zoom'[^>]*>\s*<svg", page)) == 3  # the curves
    for good in ("Bright.", "One colour.", "Groups.", "It falls."):
        assert f"<b>Good:</b> {good}" in page
    assert "least attended <i></i> most attended" in page


def test_the_map_has_labels_votes_neighbours_and_places_within_the_canvas(tmp_path):
    data = map_data(page_of(tmp_path / "run"))
    assert data["names"] == ["cat", "dog"] and len(data["x"]) == len(data["near"]) == 24
    assert all(0 <= value <= 1 for value in data["x"] + data["y"])
    assert data["label"][0] == 1 and data["vote"][0] == 0  # the wrong label
    assert data["right"] == [0] + [1] * 23
    assert data["group"][2] != data["group"][1] and data["seen"][:9] == [0] * 8 + [1]
    assert data["cell"] == [12, 16] and data["columns"] == 5
    assert all(i not in near and len(near) == 10 for i, near in enumerate(data["near"]))


def test_without_labels_the_map_is_coloured_by_group_alone(tmp_path):
    page = page_of(tmp_path / "run", names=())
    assert "value='label'" not in page and "value='right'" not in page
    assert "value='group' checked" in page
    assert "id='doubts'" not in page and "id='classes'" not in page
    assert set(map_data(page)["right"]) == {-1}


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_a_page_of_a_few_images_is_whole(tmp_path, count):
    data = map_data(page_of(tmp_path / "run", count=count, names=()))
    assert len(data["x"]) == count and all(len(near) == min(10, count - 1) for near in data["near"])


def test_images_of_one_channel_are_shown(tmp_path):
    page = page_of(tmp_path / "run", channels=1)
    assert page.count("data:image/") > 10


def test_names_of_classes_are_text_in_the_map_too(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    page = page_of(tmp_path / "run", names=(hostile, "dog"))
    assert hostile not in page and "<img src=x" not in page
    assert map_data(page)["names"][0] == hostile


def test_a_class_table_begins_with_the_hardest_class():
    rows = class_rows(confusion_of_neighbours(explored()), ("cat", "dog"))
    # Eleven cats and twelve dogs are recognised; the cat that is called a dog is not.
    assert rows == [("dog", "13", "92.3%", "cat (1)"), ("cat", "11", "100.0%", "")]
