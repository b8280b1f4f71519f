"""The tables of README and docs/figures.md hold what the results files hold, rounded once."""

import re
from pathlib import Path

import pytest

from experiments import paper
from experiments.intervals import Interval
from experiments.sheets import read, sheets

ROOT = Path(__file__).resolve().parents[2]
SETS = ("Set5", "Set14", "BSD100")
LONG, LONGER = "at 72x72, niqe, 16000 renders", "at 72x72, niqe, 24000 renders"

AGENTS = {  # by the README's name, what results call them on amgan_s and on amgan
    "predictor, where all agents start": ("predictor", "predictor"),
    "predictor + one constant for all photos": ("constant at 72x72, niqe", f"constant {LONG}"),
    "PPO (Stable-Baselines3), correcting the predictor": ("sb3 ppo at 72x72, niqe", f"sb3 ppo {LONG}"),
    "SAC, the same": ("sb3 sac at 72x72, niqe", f"sb3 sac {LONG}"),
    "TD3, the same": ("sb3 td3 at 72x72, niqe", f"sb3 td3 {LONG}"),
    "group-relative policy gradient": ("group-pg at 72x72, niqe", f"group-pg {LONGER}"),
    "DDPG with the paper's loss": ("ddpg eq11 at 72x72, niqe", f"ddpg eq11 {LONG}"),
    "pathwise": ("pathwise at 72x72, niqe", f"pathwise {LONGER}"),
    "pathwise in `free-code`, far outside kernels": (None, f"pathwise {LONGER}"),
    "pathwise with PSNR in the reward: `amgan_rl_s`, `amgan_rl`": (
        "pathwise at 72x72, niqe+0.2*psnr",
        "pathwise at 72x72, niqe+0.3*psnr, 24000 renders",
    ),
}
PAGE = {  # by the generator, and by what comes first in a row of docs/figures.md, but for the seeds
    "amgan_s": {
        "predictor": "predictor",
        "constant": "constant at 72x72, niqe",
        "group-relative policy gradient": "group-pg at 72x72, niqe",
        "DDPG, the paper's Eq. 11": "ddpg eq11 at 72x72, niqe",
        "DDPG, Eq. 10": "ddpg eq10 at 72x72, niqe",
        "SAC (Stable-Baselines3)": "sb3 sac at 72x72, niqe",
        "PPO (Stable-Baselines3)": "sb3 ppo at 72x72, niqe",
        "TD3 (Stable-Baselines3)": "sb3 td3 at 72x72, niqe",
        "pathwise": "pathwise at 72x72, niqe",
        "pathwise, NIQE + 0.2 PSNR: `amgan_rl_s` is one": "pathwise at 72x72, niqe+0.2*psnr",
    },
    "amgan": {
        "predictor": "predictor",
        "constant": f"constant {LONG}",
        "PPO (Stable-Baselines3)": f"sb3 ppo {LONG}",
        "SAC (Stable-Baselines3)": f"sb3 sac {LONG}",
        "TD3 (Stable-Baselines3)": f"sb3 td3 {LONG}",
        "group-relative policy gradient": f"group-pg {LONGER}",
        "DDPG with Eq. 11 (`ddpg_cpu`)": f"ddpg eq11 {LONG}",
        "our reading of the paper's DDPG (`ddpg_paper`), 64x64": "the paper's ddpg at 64x64, niqe, 480000 renders",
        "pathwise, 24,000": f"pathwise {LONGER}",
        "pathwise, 3,200": "pathwise at 72x72, niqe",
        "pathwise, the paper's CNN as actor, 3e-4": f"pathwise {LONGER}, CNN actor, 3e-4",
        "pathwise in `free-code`": f"pathwise {LONGER}",
        "pathwise, NIQE + 0.1 PSNR": "pathwise at 72x72, niqe+0.1*psnr, 24000 renders",
        "pathwise, NIQE + 0.1 PSNR: `amgan_rl_niqe`": "amgan_rl_niqe",
        "pathwise, NIQE + 0.3 PSNR: `amgan_rl` is one": "pathwise at 72x72, niqe+0.3*psnr, 24000 renders",
    },
}
GENERATORS = {
    "*SRMDNF, its authors' weights, run here*": "srmdnf",
    "the same in tiles, as `blindsr upscale --self_ensemble` renders": "amnet in tiles of 64, self-ensemble",
    "SRMDNF": "srmdnf",
    "USRNet, tiny": "usrnet_tiny",
    "IMDN, trained for bicubic downsampling only": "imdn",
    "`amnet`, self-ensemble": "amnet, self-ensemble",
    "`amnet`, in tiles of 64, as `blindsr upscale` renders": "amnet in tiles of 64",
    "the same with self-ensemble": "amnet in tiles of 64, self-ensemble",
    **{f"`{name}`": name for name in ("amnet", "amnet_l", "amgan", "amnet_s", "amnet_s_open", "amgan_s")},
}
ELSEWHERE = {"*AMNet, the paper's figures*", "AMNet, the paper's figures", "bicubic"}
"""Rows that no generator's results hold."""


def tables(page):
    """Give the tables of a Markdown file, each as rows of cells, without the line below the heads."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"(?:^ *\|.*\|$\n?)+", text, flags=re.MULTILINE)
    rows = [
        [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()] for block in blocks
    ]
    return [[head, *body] for head, _, *body in rows]


def table(page, *heads):
    """Give the rows of the first table that has these heads among its own, as dictionaries by head."""
    head, *body = next(found for found in tables(page) if set(heads) <= set(found[0]))
    return [dict(zip(head, cells, strict=True)) for cells in body]


(README,) = [body for head, *body in tables("README.md") if head[0] == "agent"]
TRUE_CODE = [*table("README.md", "parameters", "NIQE, BSD100"), *table("docs/figures.md", "parameters", "BSD100")]
PRICE = table("docs/figures.md", "policy", "NIQE", "LPIPS")
(SMALL,) = [body for head, *body in tables("docs/figures.md") if "48x48" in head]
GUARDS = table("docs/figures.md", "weight of PSNR")
ROWS = [("amgan_s", row) for row in table("docs/figures.md", "agent", "PSNR on BSD100, dB")]
ROWS += [("amgan", row) for row in table("docs/figures.md", "agent", "PSNR on Set5 / Set14 / BSD100, dB")]


@pytest.fixture(scope="module")
def found():
    every = sheets(read(str(ROOT / "experiments" / "results")))
    return [sheet for sheet in every if sheet.widths == paper.WIDTHS]


def gains(found, place, policy):
    """Give the gains of a policy, or of a recipe's file with the most seeds, and its number of seeds."""
    every = [
        (len(each[policy]["agents"]), each[policy]["metrics"]) if each is sheet.recipes else (1, each[policy])
        for sheet in found
        for each in (sheet.recipes, sheet.singles)
        if (sheet.set, sheet.generator, sheet.action) == place and policy in each
    ]
    seeds, metrics = max(every, key=lambda entry: entry[0])
    return seeds, Interval(**metrics["niqe"]["gain"]), metrics["psnr"]["gain"]["mean"]


def check(text, values):
    shown = re.findall(r"-?\d+\.\d+", text)
    assert len(shown) == len(values)
    for number, value in zip(shown, values, strict=True):
        half = 0.5 * 10.0 ** -len(number.partition(".")[2])
        assert abs(float(number) - value) <= half + 1e-9, f"{number} stands for {value:.5f}"


def check_gain(text, niqe):
    check(text, [niqe.mean, niqe.low, niqe.high] if "[" in text else [niqe.mean])
    if "[" in text:
        assert text.startswith("**") == (niqe.low > 0), "bold where the interval lies above 0"


@pytest.mark.parametrize("row", README, ids=lambda row: row[0])
def test_gains_in_the_readme(found, row):
    name, *cells = row
    if name.startswith("*"):
        pytest.skip("a heading")
    action = "free-code" if "free-code" in name else "code"
    for generator, policy, (gain, price) in zip(
        ("amgan_s", "amgan"), AGENTS[name], (cells[:2], cells[2:]), strict=True
    ):
        if policy is None:
            assert gain == price == ""
            continue
        _, niqe, psnr = gains(found, ("BSD100", generator, action), policy)
        check_gain(gain, niqe)
        check(price, [psnr])


@pytest.mark.parametrize(("generator", "row"), ROWS, ids=[f"{generator}-{row['agent']}" for generator, row in ROWS])
def test_gains_on_the_page(found, generator, row):
    name = row["agent"]
    if name.startswith("*"):
        pytest.skip("a heading, or the paper's figures")
    numbered = f"{name}, {row.get('renders')}"
    policy = PAGE[generator][numbered if numbered in PAGE[generator] else name]
    prices = row.get("PSNR on BSD100, dB", row.get("PSNR on Set5 / Set14 / BSD100, dB")).removeprefix("BSD100 ")
    prices = prices.split(" / ")
    action = "free-code" if "free-code" in name else "code"
    for title, price in zip(SETS, [""] * (3 - len(prices)) + prices, strict=True):
        if not row[title]:
            continue
        seeds, niqe, psnr = gains(found, (title, generator, action), policy)
        check_gain(row[title], niqe)
        if price:
            check(price, [psnr])
        if row["seeds"]:
            assert int(row["seeds"]) == seeds


@pytest.mark.parametrize("row", TRUE_CODE, ids=lambda row: row[""])
def test_scores_of_generators(found, row):
    if row[""] in ELSEWHERE:
        pytest.skip("no generator of ours or of others that was run here")
    for title in SETS:
        every = [sheet for sheet in found if (sheet.set, sheet.generator) == (title, GENERATORS[row[""]])]
        assert every
        for sheet in every:
            check(row[title], [sheet.mean("psnr", width) for width in paper.WIDTHS])
        niqe = {sheet.policies["true-code"]["niqe"]["mean"] for sheet in every if "niqe" in sheet.policies["true-code"]}
        if title == "BSD100" and "NIQE, BSD100" in row:
            assert niqe
            for mean in niqe:
                check(row["NIQE, BSD100"], [mean])


@pytest.mark.parametrize("row", PRICE, ids=lambda row: row["policy"])
def test_the_price(found, row):
    policy = row["policy"].split(" (")[0].strip("`")
    sheets_of = [sheet for sheet in found if (sheet.set, sheet.generator) == ("BSD100", "amgan")]
    if policy != "predictor":  # which is the same in each action space
        sheets_of = [sheet for sheet in sheets_of if sheet.action == "code"]
    for metric, title in (("niqe", "NIQE"), ("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("lpips", "LPIPS")):
        own = [sheet.singles[policy][metric]["gain"] for sheet in sheets_of if metric in sheet.singles.get(policy, {})]
        assert own
        for gain in own:
            check(row[title], [gain["mean"], gain["low"], gain["high"]] if "[" in row[title] else [gain["mean"]])


@pytest.mark.parametrize("row", GUARDS, ids=lambda row: row["weight of PSNR"])
def test_guards(found, row):
    weight = row["weight of PSNR"]
    recipe = "pathwise at 72x72, niqe" if weight == "0" else f"pathwise at 72x72, niqe+{weight}*psnr"
    prices = row["PSNR on Set5 / Set14 / BSD100, dB"].removeprefix("BSD100 ").split(" / ")
    for title, price in zip(SETS[3 - len(prices) :], prices, strict=True):
        seeds, niqe, psnr = gains(found, (title, "amgan_s", "code"), recipe)
        check(price, [psnr])
        if title == "BSD100":
            check_gain(row["NIQE on BSD100"], niqe)
            assert int(row["seeds"]) == seeds


@pytest.mark.parametrize("row", table("docs/figures.md", "28,000 renders"), ids=lambda row: row["NIQE on BSD100"])
def test_more_renders(found, row):
    recipe = {"DDPG, Eq. 11": "ddpg eq11", "constant": "constant"}.get(row["NIQE on BSD100"], "group-pg")
    place = ("BSD100", "amgan_s", "code")
    check_gain(row["4,800 renders"], gains(found, place, f"{recipe} at 72x72, niqe")[1])
    _, niqe, psnr = gains(found, place, f"{recipe} at 72x72, niqe, 28000 renders")
    check_gain(row["28,000 renders"], niqe)
    check(row["PSNR with 28,000, dB"], [psnr])


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row[0])
def test_patches_of_48(found, row):
    name, small, _, seeds_small, large, seeds_large, _ = row
    recipe = {"DDPG, Eq. 11": "ddpg eq11", "pathwise": "pathwise"}.get(name, "group-pg")
    recipe = f"sb3 {name.lower()}" if name in ("SAC", "PPO", "TD3") else recipe
    for text, seeds, of in ((small, seeds_small, f"{recipe}, niqe"), (large, seeds_large, f"{recipe} at 72x72, niqe")):
        count, niqe, _ = gains(found, ("BSD100", "amgan_s", "code"), of)
        check_gain(text, niqe)
        assert int(seeds) == count
