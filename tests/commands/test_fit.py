from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from fitting_data import data_folder, surface_runs
from rich.console import Console

from scalestop.cli import main
from scalestop.commands.fit import run as command
from scalestop.commands.fit import run_fit
from scalestop.fitting import backtest, fit_law
from scalestop.laws import get_law


def run(*args: object, **options: object) -> tuple[int, str]:
    out = io.StringIO()
    code = run_fit(*args, console=Console(file=out, width=100), **options)  # type: ignore[arg-type]
    return code, out.getvalue()


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    runs = surface_runs(80, seed=1)
    path = tmp_path / "runs.csv"
    np.savetxt(
        path, np.column_stack(list(runs.values())), delimiter=",", header=",".join(runs), comments="", fmt="%.17g"
    )
    return path


def test_it_prints_constants_saves_the_law_and_draws_the_picture(csv_file: Path, tmp_path: Path) -> None:
    code, text = run(
        csv_file, "parametric", bootstrap=200, out=tmp_path / "o" / "law.json", plot=tmp_path / "o" / "fit.png"
    )
    assert code == 0
    law = get_law(tmp_path / "o" / "law.json")
    assert "L(N, D) = E + A/N^alpha + B/D^beta" in text
    assert "to 80 runs (runs.csv)" in text
    for name in ("E", "alpha", "beta"):
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert float(line.split()[1]) == pytest.approx(law.constants[name], rel=1e-4)
    assert "published" not in text
    assert "nothing speaks against this fit" in text
    assert (tmp_path / "o" / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_published_values_stand_beside_the_chinchilla_runs() -> None:
    code, text = run(data_folder() / "chinchilla_svg.csv", "parametric", bootstrap=100)
    assert code == 0
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["A"]]
    assert line.split()[1] == "477.83"
    assert line.split()[-1] == "482.01"
    assert "Besiroglu et al. 2024, the same 240 runs" in text
    assert "5 rows were left out" in text
    assert "rows 2, 3, 4, 5, 6: kept is false" in text


def test_a_backtest_can_be_asked_for(csv_file: Path) -> None:
    code, text = run([csv_file], bootstrap=50, with_backtest=True)
    assert code == 0
    assert "x1 to x2" in text


def test_the_backtest_is_fitted_as_the_law_is(csv_file: Path) -> None:
    options = {"method": "parametric", "irreducible": 1.5, "seed": 3, "tied": True}
    _, text = run(csv_file, bootstrap=50, with_backtest=True, **options)
    for line in str(backtest(str(csv_file), **options)).splitlines():
        assert line in text
    _, other = run(csv_file, bootstrap=50, with_backtest=True)
    assert other[other.index("Backtest") :] != text[text.index("Backtest") :]


def test_columns_and_sweeps_are_options_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = surface_runs(40, seed=1)
    lines = ["size,seen,val_loss,lr"]
    for n, d, loss in zip(*runs.values(), strict=True):
        lines += [f"{n},{d},{loss},1e-3", f"{n},{d},{loss * 1.3},1e-1"]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines))
    words = [str(path), "--bootstrap", "20", "--columns", "params=size,tokens=seen", "--best_of", "lr"]
    assert command([*words, "--out", str(tmp_path / "law.json"), "--with_backtest", "true"]) == 0
    text = capsys.readouterr().out
    assert "40 of 80 runs were fitted: those of the best lr" in text
    assert "extrapolation" in text
    law = fit_law(runs, bootstrap=0).law
    assert get_law(tmp_path / "law.json").constants == pytest.approx(law.constants, rel=1e-6)
    assert main(["fit", str(path)]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "with --columns 'params=...,tokens=...'. Columns seen: size, seen, val_loss, lr." in err


def test_without_refits_a_point_is_printed(csv_file: Path, tmp_path: Path) -> None:
    code, text = run(csv_file, bootstrap=0, out=tmp_path / "law.json", plot=tmp_path / "fit.png")
    assert code == 0
    assert "nan" not in text
    assert "This is a point fit (bootstrap=0): it has no intervals." in text
    assert (tmp_path / "fit.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": "nowhere.csv"}, "no file, folder or glob matches 'nowhere.csv'"),
        ({"method": "repeated"}, "no run saw its tokens 1.5 times or more"),
        ({"bootstrap": 1}, "bootstrap: must be a whole number of at least 20"),
        ({"out": "/dev/null/law.json"}, "error"),
    ],
)
def test_unusable_data_and_options_exit_with_2_and_one_line(
    csv_file: Path, options: dict[str, object], message: str
) -> None:
    code, text = run(**{"records": csv_file, "bootstrap": 50, **options})
    assert code == 2
    last = text.strip().splitlines()[-1]
    assert last.startswith("scalestop: error: ")
    assert message in last


def test_brackets_in_names_are_printed_as_they_are(tmp_path: Path) -> None:
    bad = tmp_path / "runs[bold].csv"
    bad.write_text("params,tokens,loss\n1,2,x\n")
    code, text = run(bad)
    assert code == 2
    assert "runs[bold].csv" in text.replace("\n", "")
