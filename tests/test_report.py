"""The page of a run, in a real browser: what it prints is compared with the arrays of the run."""

import csv
import io
import json
import math
import re
import shutil
import time
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from small_runs import explanation_of, probability, recipe_of, save_run, solution_of

from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.core.compact import Compact
from andor.core.effects import Effect
from andor.core.text import percent
from andor.core.values import Values
from andor.figures import FIGURES, orders, rendered
from andor.page import page, report
from andor.page.report import packed
from andor.prompts import Prompt
from andor.runs import files
from andor.show.cli import main

EVIL = "</script><script>window.owned=1</script>"
HOSTILE = (
    EVIL
    + """ "a" 'b' & <img src=x onerror="window.owned=1"> \u2028 \u202edlrow\u202c =1+1 end\x1b[2J <!-- {{ 7*7 }} :"""
)
PROMPTS = (
    Prompt(
        "the film is not good , but it is never dull .\nsentiment:", ["film", "not", "good", "never"], "good", "plain"
    ),
    Prompt(HOSTILE, [EVIL, '"a"', "\u202edlrow\u202c", "=1+1"], "\"'><b>&", "a & b='1'#%2B"),
    Prompt("קר מאוד בחוץ , so they say 日本語の映画です .", ["קר", "מאוד", "say", "映画"], "x", "right to left"),
    Prompt("very very very long " * 12 + "end", ["very", "very", "long", "end"], " x", "long"),
)
MODELS = ("tiny-llama", "Qwen/Qwen2.5-7B", f"models/{EVIL.replace('/', '')}&\"'")


def fitted(v, effects):
    """Where these effects are, effects that give v by least squares."""
    units = np.eye(16)
    parts = [(kind, subset) for kind in (0, 1) for subset in range(1, 16) if effects[kind][subset]]
    columns = [(lattice.zeta, lattice.or_sums)[kind](units[subset]) for kind, subset in parts]
    few = np.zeros((2, 16))
    few[0][0] = v[0]
    for (kind, subset), effect in zip(parts, np.linalg.lstsq(np.stack(columns, 1), v - v[0])[0], strict=True):
        few[kind][subset] = effect
    return Compact.of(v, (few[0], few[1]), np.zeros(16))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Models with a few effects each, some of them shared, and noise."""
    recipe, explanations, rng = recipe_of(MODELS, PROMPTS), {}, np.random.default_rng(7)
    for prompt in PROMPTS:
        shared = {0: {1: 1.0, 0b0110: -0.8}, 1: {0b1010: 0.7}}  # not OR, or OR: subset: effect
        for model in MODELS:
            effects = rng.normal(size=(2, 16)) * (rng.random((2, 16)) < 0.15) * [[1.0], [2.0]]
            effects[1][[0, 1, 2, 4, 8]] = 0.0
            effects[0][0] = rng.normal()
            for kind, found in shared.items():
                for subset, effect in found.items():
                    effects[kind][subset] = effect + 0.2 * rng.normal()
            v = lattice.zeta(effects[0]) + lattice.or_sums(effects[1]) + 1e-3 * rng.normal(size=16)
            values = Values(v, prompt.words, prompt.target, probability(v), 80, 1.5)
            few = fitted(v, effects)
            explanations[model, prompt.id] = explanation_of(recipe, model, prompt, values, solution_of(values), few)
    return save_run(tmp_path_factory.mktemp("reported") / "run", recipe, explanations)


def few_figures(monkeypatch):
    """One figure in place of all: drawing them takes longer than all that is done with a page."""
    monkeypatch.setattr(report, "FIGURES", {"orders": FIGURES["orders"]})


@pytest.fixture(scope="module")
def drawn(run):
    """The figure, as a run has it in its folder."""
    return {"orders": rendered(orders.plot(run), ("svg",), text=True)["svg"]}


@pytest.fixture(scope="module")
def written(run, drawn):
    files.write_bytes(run.path / "figures" / "orders.svg", drawn["orders"])
    with pytest.MonkeyPatch.context() as monkeypatch:
        few_figures(monkeypatch)
        return run.report()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Chromium from the system's packages. It asks no network for anything: a page that did would say so in its log."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(each)
    folder = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.downloads = folder
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium):
    """To open a page with. Afterwards nothing was complained of, asked of the network, or run that a prompt holds."""
    size(chromium, 1280)
    chromium.get_log("browser"), chromium.get_log("performance")
    yield chromium
    assert chromium.execute_script("return window.owned") is None
    assert [each["message"] for each in chromium.get_log("browser")] == []
    events = [json.loads(each["message"])["message"] for each in chromium.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert all(each.startswith(("file:", "data:", "blob:", "about:")) for each in asked)


def go(browser, path, hash="", anew=False):
    """Open a page; lead there by its link where it is open, as by loading it again."""
    if hash and not anew and browser.current_url.partition("#")[0] == path.as_uri():
        browser.execute_async_script(
            """
            if (location.hash === arguments[0]) history.replaceState(null, "", "#");
            addEventListener("hashchange", () => arguments[1](), { once: true });
            location.hash = arguments[0];
            """,
            hash,
        )
    else:
        browser.get("about:blank")
        browser.get(path.as_uri() + hash)


def size(browser, width):
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def find(browser, css):
    return browser.find_elements("css selector", css)


def text(browser, css):
    return [each.get_attribute("textContent") for each in find(browser, css)]


def click(browser, css, which=0):
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", find(browser, css)[which]
    )
    find(browser, css)[which].click()


def shown(number):
    """A number with two digits as the page prints it."""
    size = f"{abs(number):.2f}"
    return size if float(size) == 0 else ("−" if number < 0 else "+") + size


def effect(number):
    """An effect as the page prints it: never as none."""
    digits = f"{abs(number):.2f}" if abs(number) >= 0.005 else f"{float(f'{abs(number):.1g}')}"
    return ("−" if number < 0 else "+") + digits


def readout(browser):
    """What the page says of each model: p, v and the sum of the effects shown."""
    return list(zip(*(text(browser, f"#readout [data-is={name}]") for name in ("p", "v", "sum")), strict=True))


def expected(run, model, prompt_id, there, k):
    e = run[model, prompt_id]
    few = [np.zeros_like(e.values.v) for _ in range(2)]
    few[0][0] = e.compact.and_effects[0]
    for each in strongest(e, k):
        few[each.kind == "OR"][lattice.subset_of(each.players)] = each.effect
    v = e.values.v[there]
    return percent(1 / (1 + math.exp(-v))), shown(v), shown(reconstruct(*few)[there])


def masked(n, *players):
    return 2**n - 1 - sum(1 << each for each in players)


def test_a_click_masks_a_word_and_the_values_are_those_of_the_run(browser, run, written):
    go(browser, written, "#p=plain&k=3")
    assert readout(browser) == [expected(run, name, "plain", 15, 3) for name in MODELS]
    click(browser, ".player", 1)
    assert readout(browser) == [expected(run, name, "plain", masked(4, 1), 3) for name in MODELS]
    click(browser, ".player", 3)
    assert readout(browser) == [expected(run, name, "plain", masked(4, 1, 3), 3) for name in MODELS]
    assert text(browser, ".player[aria-pressed=true]") == ["not", "never"]
    click(browser, ".player", 1)
    assert readout(browser) == [expected(run, name, "plain", masked(4, 3), 3) for name in MODELS]
    click(browser, "#none")
    assert readout(browser) == [expected(run, name, "plain", 0, 3) for name in MODELS]
    click(browser, "#all")
    assert readout(browser) == [expected(run, name, "plain", 15, 3) for name in MODELS]


def test_the_slider_says_how_many_effects_are_shown_and_added_up(browser, run, written):
    go(browser, written)
    for k in (0, 2, 20):
        browser.execute_script(
            "const e = document.getElementById('shown'); e.value = arguments[0]; e.dispatchEvent(new Event('input'))", k
        )
        assert readout(browser) == [expected(run, name, "plain", 15, k) for name in MODELS]
        for place, name in enumerate(MODELS[:2]):
            few = run[name, "plain"].compact
            there = min(k, int(np.count_nonzero(few.and_effects[1:]) + np.count_nonzero(few.or_effects)))
            assert len(find(browser, f"#combs .effect[data-model='{place}']")) == there
    assert "R² 0." in text(browser, "#legend")[0] or "R² 1." in text(browser, "#legend")[0]


def test_without_a_wish_all_effects_are_shown(browser, run, written):
    go(browser, written)
    most = max(run[name, run.prompts[0].id].compact.count for name in run.models)
    assert find(browser, "#shown")[0].get_attribute("value") == str(most)


def test_search_and_sort(browser, run, written):
    go(browser, written)

    def ids():
        return [each.text for each in find(browser, "#prompts tbody tr td:first-child") if each.is_displayed()]

    find(browser, "#search")[0].send_keys("DULL")
    assert ids() == ["plain"] and text(browser, "#found") == ["1 of 4 prompts"]
    browser.execute_script(
        "const e = document.getElementById('search'); e.value = ''; e.dispatchEvent(new Event('input'))"
    )
    assert len(ids()) == 4
    head = next(place for place, each in enumerate(text(browser, "#prompts th")) if each.strip() == "p tiny-llama")
    by_p = sorted(run.prompts, key=lambda each: run[MODELS[0], each.id].values.target_probability)
    click(browser, "#prompts th button", head)
    assert ids() == [each.id for each in by_p[::-1]]
    click(browser, "#prompts th button", head)
    assert ids() == [each.id for each in by_p]
    assert find(browser, "#prompts th")[head].get_attribute("aria-sort") == "ascending"
    click(browser, "#prompts th button", 0)
    assert ids() == [each.id for each in run.prompts]


def test_links_say_prompt_mask_and_effects(browser, run, written):
    hostile = PROMPTS[1].id
    go(browser, written, f"#p={quote(hostile)}&mask=0,2&k=2")
    assert readout(browser) == [expected(run, name, hostile, masked(4, 0, 2), 2) for name in MODELS]
    click(browser, ".player", 3)
    click(browser, "#link")
    address = browser.current_url
    assert "mask=0,2,3" in address and "k=2" in address
    go(browser, written)
    browser.get(address)
    assert readout(browser) == [expected(run, name, hostile, masked(4, 0, 2, 3), 2) for name in MODELS]
    go(browser, written, "#p=plain&mask=1")
    assert text(browser, ".player[aria-pressed=true]") == ["not"]
    for odd in ("#p=nobody", "#p=plain&mask=99,x,-1&k=1e9&models=7,8", "#%", "#figures"):
        go(browser, written, odd, anew=True)
        assert text(browser, "#readout th")[0] == "All 4 words there"


def test_a_row_of_the_overview_opens_its_prompt(browser, written):
    go(browser, written)
    click(browser, "#prompts tbody tr .text", 3)
    assert text(browser, ".player") == ["very", "very", "long", "end"]
    assert len(find(browser, "#prompts tr[aria-current=true]")) == 1


def test_what_prompts_hold_is_text_and_nothing_hides(browser, written):
    go(browser, written, f"#p={quote(PROMPTS[1].id)}")
    assert text(browser, ".player")[0] == EVIL and text(browser, ".player")[3] == "=1+1"
    assert "U+202Edlrow" in text(browser, "#text")[0] and "U+2028" in text(browser, "#text")[0]
    assert "{{ 7*7 }}" in text(browser, "#text")[0] and "U+001B" in text(browser, "#text")[0]
    assert find(browser, "#text *:not(span), td img, td script, #prompts b, option *") == []
    assert len(find(browser, "script")) == 2 and browser.title.startswith("tiny-llama")
    click(browser, "#pick option:last-child")  # the model with a hostile name
    assert "<script>" in text(browser, "#pick option")[2]


def test_the_policy_lets_nothing_in_or_out(browser, written):
    go(browser, written)
    tried = browser.execute_async_script("""
      const done = arguments[0], found = [];
      const script = document.createElement("script");
      script.textContent = "window.injected = 1";
      document.body.append(script);
      const image = new Image();
      image.onerror = () => fetch("https://example.com/x").then(
        () => done("fetched"), () => done(window.injected || "refused"));
      image.src = "https://example.com/x.png";
    """)
    assert tried == "refused"
    refused = browser.get_log("browser")  # and what it says of them is taken from the log that must be empty
    asked = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    failed = [each["params"]["blockedReason"] for each in asked if each["method"] == "Network.loadingFailed"]
    assert failed and set(failed) == {"csp"}
    assert len(refused) >= 3 and all("Content Security Policy" in each["message"] for each in refused)
    go(browser, written)


def test_all_is_done_with_the_keyboard(browser, run, written):
    from selenium.webdriver.common.keys import Keys

    go(browser, written, "#p=plain&k=3")
    word = find(browser, ".player")[2]
    word.send_keys(Keys.SPACE)
    assert readout(browser) == [expected(run, name, "plain", masked(4, 2), 3) for name in MODELS]
    word.send_keys(Keys.ENTER)
    assert text(browser, ".player[aria-pressed=true]") == []
    word.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("data-player") == "3"
    first = find(browser, "#effects .row")[0]
    first.send_keys(Keys.ENTER)
    assert first.get_attribute("aria-expanded") == "true" and "Check it." in text(browser, "#detail")[0]
    assert "nats" in text(browser, "#sentence")[0] and find(browser, ".player.lit") != []
    first.send_keys(Keys.ESCAPE)
    assert text(browser, "#detail") == [""]
    head = find(browser, "#prompts th button")[1]
    head.send_keys(Keys.ENTER)
    assert find(browser, "#prompts th")[1].get_attribute("aria-sort") == "ascending"
    for each in find(browser, "button, select, input, summary, [role=button], svg[role=img]"):
        assert each.accessible_name, each.get_attribute("outerHTML")


def test_the_detail_of_an_effect_is_what_the_run_says(browser, run, written):
    go(browser, written, "#p=plain&k=20")
    strongest_ones = [strongest(run[name, "plain"], 1)[0] for name in MODELS]
    top = max(strongest_ones, key=lambda each: abs(each.effect))
    click(browser, "#effects .row")
    rows = find(browser, "#detail > div > table tbody tr")
    subset = lattice.subset_of(top.players)
    for name, row in zip(MODELS, rows, strict=True):
        e, kind = run[name, "plain"], int(top.kind == "OR")
        few = (e.compact.and_effects, e.compact.or_effects)[kind][subset]
        least = e.pair("certified")[kind][subset]
        cells = [each.get_attribute("textContent") for each in row.find_elements("tag name", "td")]
        assert cells[0] == (effect(few) if few else "–")
        assert cells[2] == (effect(least) if abs(least) >= 0.005 else "0.00" if least else "–")
    check = find(browser, "#detail .scroll tbody tr")
    for row, there in ((check[0], 15), (check[-1], 15 & ~subset)):
        cells = [each.get_attribute("textContent") for each in row.find_elements("tag name", "td")]
        assert cells[1::2] == [shown(run[name, "plain"].values.v[there]) for name in MODELS]
    click(browser, "#detail p button")
    assert [each.get_attribute("aria-pressed") == "true" for each in find(browser, ".player")] == [
        bool(subset >> each & 1) for each in range(4)
    ]


def test_other_models_and_one_alone(browser, run, written):
    go(browser, written, "#p=plain&k=3&models=2,0")
    assert readout(browser) == [expected(run, name, "plain", 15, 3) for name in MODELS]
    assert "Above the words" in text(browser, "#legend")[0] and {
        each.get_attribute("data-model") for each in find(browser, "#combs .effect")
    } == {"0", "2"}
    go(browser, written, "#p=plain&k=3&models=1,-1")
    assert readout(browser) == [expected(run, MODELS[1], "plain", 15, 3)]
    assert "AND effects above the words" in text(browser, "#legend")[0]


@pytest.mark.parametrize("prompt", PROMPTS, ids=("plain", "hostile", "mixed", "long"))
def test_nothing_is_cut_on_a_phone_and_lines_are_over_their_words(browser, written, prompt):
    size(browser, 390)
    go(browser, written, f"#p={quote(prompt.id)}&k=20", anew=True)
    assert browser.execute_script("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
    # Every dot is at the middle of a word, right-to-left or wrapped or not.
    dots, middles = browser.execute_script("""
      const left = document.getElementById("picture").getBoundingClientRect().left;
      return [[...document.querySelectorAll("#combs circle")].map((each) => Number(each.getAttribute("cx"))),
        [...document.querySelectorAll(".player > span")].map((each) => {
          const box = each.getClientRects()[0]; return (box.left + box.right) / 2 - left; })];
    """)
    assert dots and all(min(abs(dot - each) for each in middles) < 0.6 for dot in dots)
    inside, apart = browser.execute_script("""
      const values = document.querySelectorAll("#combs text");
      const words = document.querySelectorAll(".player > span");
      const boxes = [...values, ...words].map((each) => each.getClientRects()[0]);
      const meet = (a, b) => a.left + 1 < b.right && b.left + 1 < a.right
        && a.top + 4 < b.bottom && b.top + 4 < a.bottom;
      return [boxes.every((each) => each.left >= 0 && each.right <= 390),
        boxes.every((a, i) => boxes.slice(i + 1).every((b) => !meet(a, b)))];
    """)
    assert inside and apart, "no value is cut, and none lies on another or on a word"


def test_right_to_left_is_as_the_browser_has_it(browser, written):
    go(browser, written, f"#p={quote(PROMPTS[2].id)}")
    first, second = (each.rect["x"] for each in find(browser, ".player")[:2])
    assert first > second and find(browser, "#text")[0].value_of_css_property("direction") == "rtl"


def test_pictures_and_tables_are_saved(browser, run, written):
    go(browser, written, "#p=plain")
    for kind in ("svg", "png", "csv"):
        click(browser, f"#save-{kind}")
    files = [browser.downloads / f"plain.{kind}" for kind in ("svg", "png", "csv")]
    until = time.monotonic() + 10
    while not all(each.exists() for each in files) and time.monotonic() < until:
        time.sleep(0.05)
    svg = ElementTree.fromstring(files[0].read_text(encoding="utf-8"))
    assert {"film", "never"} <= {"".join(each.itertext()) for each in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert "var(" not in files[0].read_text(encoding="utf-8")
    assert files[1].read_bytes().startswith(b"\x89PNG") and files[1].stat().st_size > 5000
    rows = list(csv.DictReader(io.StringIO(files[2].read_text(encoding="utf-8-sig"))))
    assert {each["model"] for each in rows} == set(MODELS)
    top = strongest(run[MODELS[0], "plain"], 1)[0]
    assert rows[0]["words"] == top.name and float(rows[0]["effect_nats"]) == pytest.approx(top.effect)


def test_values_that_are_not_in_the_page_are_said_to_be_missing(browser, run, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_VALUES", 3 * 16 * 3)
    few_figures(monkeypatch)
    path = run.report(tmp_path / "few.html", values=["long"])
    go(browser, path, "#p=plain&mask=1&k=2")
    assert "andor report RUN --values plain" in text(browser, "#warnings")[0]
    assert text(browser, "#readout [data-is=v]") == [] and len(text(browser, "#readout [data-is=sum]")) == 3
    go(browser, path, "#p=long&mask=1&k=2")
    assert readout(browser) == [expected(run, name, "long", masked(4, 1), 2) for name in MODELS]
    assert "of 1 of 4 prompts" in path.read_text(encoding="utf-8")


def strongest(e, k):
    """The k strongest compact effects."""
    found = [
        Effect(kind, tuple(e.words[i] for i in players), players, float(each), 0.0)
        for kind, effects in (("AND", e.compact.and_effects), ("OR", e.compact.or_effects))
        for subset, each in enumerate(effects)
        if subset and each
        for players in [lattice.members(subset)]
    ]
    return sorted(found, key=lambda each: -abs(each.effect))[:k]


# --- without a browser --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", (1e-9, 1.0, 9.0, 300.0))
def test_values_are_printed_with_the_digits_of_the_run(scale):
    v = scale * np.random.default_rng(0).normal(size=2**12)
    content = packed(v)
    width, digits = len(content["v"]) // v.size, [report._DIGITS.index(each) for each in content["v"]]
    numbers = [
        sum(64**place * each for place, each in enumerate(part[::-1])) for part in np.reshape(digits, (-1, width))
    ]
    read = [content["low"] + content["step"] * int(number) for number in numbers]
    assert len(content["v"]) == width * v.size and width == (3 if scale < 100 else 4)
    assert [f"{x:.2f}" for x in read] == [f"{x:.2f}" for x in v]

    def p(x):
        return percent(1 / (1 + math.exp(-x)))

    assert [p(x) for x in read if x > -700] == [p(x) for x in v if x > -700]


def test_a_constant_v_is_kept():
    content = packed(np.full(4, -1.25))
    assert content["low"] == -1.25 and content["step"] == 0


def test_same_run_same_page_and_no_address_outside(run, drawn, written, monkeypatch):
    html = written.read_text(encoding="utf-8")
    assert "<strong>orders.</strong>" in html
    few_figures(monkeypatch)
    assert page(run, drawn=drawn) == page(run, drawn=drawn)
    assert set(re.findall(r"https?://[^\s\"'<)]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "<style>" in html and " style=" not in html.replace("image.style=", "")


def test_figures_that_are_there_are_not_drawn_again_and_hold_nothing_else(run, drawn, monkeypatch):
    few_figures(monkeypatch)
    ours = page(run, drawn=drawn)
    svg, plotted = drawn["orders"].decode(), []
    small = Figure(figsize=(1, 1))
    small.text(0, 0, "drawn")
    monkeypatch.setattr(orders, "plot", lambda *_: plotted.append(1) or small)
    assert page(run, drawn=drawn) == ours and not plotted
    for bad in (
        svg[:1000],
        rendered(FIGURES["sparsity"].plot(run), ("svg",))["svg"].decode(),  # letters drawn
        svg.replace("</svg>", "<script>sneaked()</script></svg>"),
        svg.replace("</svg>", '<a href="https://sneaked.example"><text>x</text></a></svg>'),
        svg.replace("<defs>", '<defs onload="sneaked()">', 1),
        svg.replace('xlink:href="#', 'xlink:href="https://sneaked.example/#', 1),
    ):
        plotted.clear()
        html = page(run, drawn={"orders": bad.encode()})
        assert plotted and "sneaked" not in html and bad != svg


def test_the_command_and_what_it_refuses(run, tmp_path, capsys, monkeypatch):
    few_figures(monkeypatch)
    assert main(["report", str(run.path), "--out", str(tmp_path / "page.html"), "--values", "plain"]) == 0
    assert str(tmp_path / "page.html") in capsys.readouterr().out and (tmp_path / "page.html").stat().st_size > 50_000
    assert main(["report", str(run.path), "--out", str(tmp_path / "page.pdf")]) == 2
    assert "must name an .html file" in capsys.readouterr().err
    assert main(["report", str(run.path), "--values", "nobody"]) == 2
    assert "got nobody. Prompts: plain, a & b" in capsys.readouterr().err
