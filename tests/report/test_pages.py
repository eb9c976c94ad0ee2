from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_toys import LAW, record, write_run

from scalestop import InputError, Speed, get_law
from scalestop.fitting import fit_law
from scalestop.fitting.tables.read import read_runs
from scalestop.planning.advice import recommend
from scalestop.planning.advice.recommendation import Section
from scalestop.report.ladder_page import ReportedLadder, ladder_page
from scalestop.report.pages import Page, render, write_page
from scalestop.report.recommendation_page import recommendation_page
from scalestop.report.run_log import read_log
from scalestop.report.run_page import compare_page, run_page
from scalestop.report.run_plot import ReportedRun
from scalestop.run.score import score

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    records = [record(), record(size=3.0, off=1.03), record(size=0.4, off=1.01)]
    runs = []
    for name, found in zip("abc", records, strict=True):
        runs.append(ReportedRun(name, found, read_log(write_run(folder / name, found))))
    found = recommend("1e21 FLOPs", "besiroglu", speed=Speed(9.89e14, 0.4, 8, 2.5), unique_tokens=10e9)
    return {
        "run": run_page(runs[0], score=score([str(folder / "a")])),
        "compared": compare_page(runs, score=score([str(folder)])),
        "recommended": recommendation_page(found, get_law("besiroglu")),
        "ladder": ladder_page(committed_ladder()),
    }


def committed_ladder():
    """The ladder behind the built-in small law, as its committed table has it."""
    path = Path(__file__).parent.parent.parent / "examples" / "stdlib_ladder_runs.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    held = [row["kind"] in ("held out", "valley") for row in rows]
    kinds = {row["kind"]: [float(r["new_flops"]) for r in rows if r["kind"] == row["kind"]] for row in rows}
    fit = fit_law(str(path), bootstrap=50, name="small")
    spent = tuple((kind, len(flops), sum(flops)) for kind, flops in kinds.items())
    return ReportedLadder("small", fit, LAW, read_runs(str(path)).take(held), spent, 1e14, ("one note",))


KINDS = ("run", "compared", "recommended", "ladder")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_one_file_that_asks_nothing_of_the_network(pages, kind):
    text = render(pages[kind], ".html")
    assert "<script" not in text and "@import" not in text
    addresses = re.findall(r"""(?:src|href|action)=["']([^"'#]+)["']""", text)
    assert all(address.startswith("data:") for address in addresses)
    assert not re.findall(r"url\((?!#)", text)
    assert "default-src 'none'" in text
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_and_pictures_are_on_the_page(pages, kind):
    page = pages[kind]
    text = render(page, ".html")
    assert text.count("<svg ") == sum(map(len, page.pictures.values())) >= 3
    assert set(page.pictures) <= {part.title for part in page.parts}, "a picture belongs to no part"
    for part in page.parts:
        assert f"<h2>{part.title}</h2>" in text
    for theme in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert theme in text


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_holds_the_same_parts(pages, kind):
    text = render(pages[kind], ".md")
    for part in pages[kind].parts:
        assert f"## {part.title}\n" in text
    assert "\n\n\n" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def test_a_run_tells_plan_and_delivery_and_what_the_law_makes_of_it(pages):
    text = render(pages["run"], ".html")
    for words in ("Plan against delivered", "planned to end by BUDGET_EXHAUSTED", "compute-limited", "counts are exact",
                  "90.0% of it in steps", "inside the 90 % of runs", "fitted on 4.41k to 164k parameters"):  # fmt: skip
        assert words in text, words


def test_a_ladder_tells_its_forecast_and_holds_it_against_what_was_held_out(pages):
    page = pages["ladder"]
    assert page.headline == "507k x 32.9M for 1e14 FLOPs: expect a loss of 1.0828 (90 %: 0.9934 to 1.1803)"
    held = next(part for part in page.parts if part.title == "Held out")
    assert held.lines == ("11 of 11 ended inside the 90 % interval that was forecast for them",)
    # examples/stdlib_ladder.md: 1.2219 against 1.2267, 1.1383 against 1.1503
    assert [row[3:6] for row in held.rows[-2:]] == [("1.2219", "1.2267", "-0.0048"), ("1.1383", "1.1503", "-0.0121")]
    assert len(page.pictures["The fit"]) == 4 and len(page.pictures["The forecast"]) == 4


def test_runs_are_compared_by_loss_and_by_what_they_waste(pages):
    page = pages["compared"]
    table = next(part for part in page.parts if part.title == "The runs")
    assert [row[0] for row in table.rows] == ["a", "b", "c"]
    assert page.headline.startswith("a has the lowest loss")
    wasted = [int(row[6].rstrip("%")) for row in table.rows]
    assert wasted[0] == 0 < wasted[2] < wasted[1]


def test_what_a_user_wrote_is_text_and_no_markup():
    page = Page("<b>bold</b>", "&", [Section("A | B", ("<script>alert(1)</script>",), ("x|y",), (("a|b",),))])
    html = render(page, ".html")
    assert "<script>" not in html and "&lt;script&gt;" in html and "<b>" not in html
    assert "| a\\|b |" in render(page, ".md")


def test_numbers_stand_to_the_right_and_words_to_the_left():
    rows = (("one", "1.5e21 FLOPs", "+3.2%", "a word"), ("two", "3", "", "1"))
    text = render(Page("t", "s", [Section("S", (), ("", "n", "share", "what"), rows)]), ".html")
    assert '<td class="num">1.5e21 FLOPs</td><td class="num">+3.2%</td><td>a word</td>' in text


def test_a_page_of_another_kind_or_without_its_engine_is_refused(tmp_path, monkeypatch):
    page = Page("t", "s", [Section("S")])
    with pytest.raises(InputError, match=r"^out: a page is one of .html, .htm, .md; got '.txt'$"):
        write_page(page, tmp_path / "page.txt")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"^jinja2: a page needs it, .* pip install 'scalestop\[report\]'$"):
        write_page(page, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def look(path, folder, theme, width):
    """Open a page in headless Chromium; every host it might ask resolves to nothing."""
    shot = folder / f"{theme}-{width}.png"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={int(theme == 'light')}",
        f"--window-size={width},2400", f"--screenshot={shot}", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    from matplotlib.image import imread

    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return complaints, imread(shot)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("kind", KINDS)
def test_a_browser_shows_it_in_both_themes_and_on_a_phone_without_complaint(pages, kind, tmp_path):
    path = write_page(pages[kind], tmp_path / "page.html")
    grounds = {}
    for theme in ("light", "dark"):
        for width in (1200, 500):  # the least that headless Chromium lays out
            complaints, picture = look(path, tmp_path, theme, width)
            assert not complaints
            assert picture.shape[1] == width
            ground = picture[5, 5, :3]
            grounds[theme] = ground.mean()
            # nothing runs over the right edge: its outermost pixels are all ground
            assert (abs(picture[:, -4:, :3] - ground).max(axis=(1, 2)) < 0.02).mean() > 0.99
            inked = (abs(picture[..., :3] - ground).max(axis=2) > 0.2).mean()
            assert 0.01 < inked < 0.6
    assert grounds["light"] > 0.9 and grounds["dark"] < 0.15


def test_the_law_of_a_record_is_found_or_left_out():
    from scalestop.report.run_page import law_of, size_for

    assert law_of(record()).name == "stdlib-bytes"
    assert law_of(record(law="my-own")) is None and law_of(record(law="my-own"), LAW) is LAW
    body = record(n_counts="body", params={"total": 123})
    assert size_for(body, LAW) == 123
    with pytest.raises(InputError, match=r"^law: N of 'stdlib-bytes' counts total parameters"):
        size_for(record(n_counts="body"), LAW)
