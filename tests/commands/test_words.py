"""The command line's own words: options, numbers, config files, messages, and what a pipe sees."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from toys import environment, strict_json

from scalestop import InputError, make_plan, predict_loss
from scalestop.cli import main
from scalestop.commands._messages import of_options
from scalestop.commands._parser import new_parser, parse

ROOT = Path(__file__).parent.parent.parent
RUNS = str(ROOT / "examples" / "stdlib_ladder_runs.csv")
BUDGET = ("plan", "--budget", "1e21 FLOPs")


def said(capsys, *words):
    code = main([str(word) for word in words])
    output = capsys.readouterr()
    return code, output.out, output.err


def complaint(capsys, *words):
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "") and err.count("\n") == 1
    return err.removeprefix("scalestop: error: ").rstrip()


# ---- options and numbers


def test_options_take_a_dash_or_an_underscore(capsys):
    _, dashes, _ = said(capsys, *BUDGET, "--tokens-per-step=524288", "--oversize-factor", "3")
    _, underscores, _ = said(capsys, *BUDGET, "--tokens_per_step=524288", "--oversize_factor", "3")
    assert dashes == underscores and "after step" in dashes
    # a value keeps its dashes
    assert "'a-b'" in complaint(capsys, *BUDGET, "--params", "a-b")


@pytest.mark.parametrize("written", ["32k", "32K", "32_000", "3.2e4"])
def test_a_whole_number_may_be_written_short(capsys, written):
    _, shown, _ = said(capsys, *BUDGET, "--shapes", "llama", "--vocab-size", written)
    assert "vocabulary 32,000" in shown


def test_a_number_in_a_class_or_a_config_may_be_written_short(capsys, tmp_path):
    config = tmp_path / "plan.yaml"
    config.write_text("budget: 1e21 FLOPs\nshapes: llama\nvocab_size: 32k\nparams: 7000000000\n")
    _, shown, _ = said(capsys, "plan", "--config", config)
    assert "vocabulary 32,000" in shown and "N 7B" in shown
    code, shown, _ = said(capsys, "audit", "--model.num_params", "50k", "--json")
    data = strict_json(shown)
    assert code == 0 and data["model"] / data["charges"]["6N"] - 1 == pytest.approx(data["gaps"]["6N"])


@pytest.mark.parametrize("written", ["3.5", "1.5", "many", "5x"])
def test_what_is_no_whole_number_is_none(capsys, written):
    assert complaint(capsys, *BUDGET, "--context", written) == f"--context: expected a whole number; got {written}"


def test_python_reads_the_same_numbers():
    assert predict_loss("2B", "40.5B") == predict_loss(2e9, 40.5e9)
    plan = make_plan("1e21 FLOPs", num_params="2.5B", tokens_per_step="4M")
    assert (plan.num_params, plan.tokens_per_step) == (2_500_000_000, 4_000_000)
    with pytest.raises(InputError, match="num_params: cannot read '7Z' as a count"):
        make_plan("1e21 FLOPs", num_params="7Z")


# ---- what is not known


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan", "--bugdet", "1e18"), "no option --bugdet; did you mean --budget?"),
        (("fit", "x", "--boostrap", "3"), "no option --boostrap; did you mean --bootstrap?"),
        (("train", "--stop.tolernce", "3"), "no option --stop.tolernce; did you mean --stop.tolerance?"),
        (("laws", "shwo", "x"), "no 'shwo' here; did you mean show?: there are list, show"),
        (("campaign", "status", "--jsn"), "no option --jsn; did you mean --json?"),
        (
            ("train", "--model.num_parms", "5"),
            "--model.num_parms: scalestop.lab.TinyGPT takes no num_parms; did you mean num_params?",
        ),
        (("train", "--trainer.max_epoch", "1"), "--trainer.max_epoch: Trainer takes no max_epoch; did you mean max_ep"),
        (("train", "--model", "nope.X"), "--model: nope.X: No module named 'nope'"),
        (("plan", "--zzzzzzzz", "3"), "no option --zzzzzzzz"),
    ],
)
def test_what_is_meant_is_asked(capsys, words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint(capsys, *words).startswith(says)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_of_a_config_is_asked_for_too(capsys, tmp_path):
    (tmp_path / "x.yaml").write_text("budgt: 1e18 FLOPs\n")
    assert complaint(capsys, "plan", "--config", tmp_path / "x.yaml").startswith(
        "--config: there is no option budgt; did you mean budget?"
    )


# ---- messages speak of options


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan",), "--budget: missing"),
        ((*BUDGET, "--tolerance", "3"), "--tolerance: a share of N_opt"),
        ((*BUDGET, "--tokens-per-step", "-5"), "--tokens_per_step: must be positive"),
        ((*BUDGET, "--oversized", "warm"), "--oversized: expected one of 'stop', 'warn', 'ignore'; got warm"),
        (("train", "--stop.tolerance", "3"), "--stop.tolerance: a share of N_opt"),
        (("ladder", "--dry-run", "--target", "x"), "--target: cannot use 'x'"),
        (("fit", RUNS, "--seed", "-1"), "--seed: must not be negative"),
        (("fit",), "missing: records"),
        (("campaign",), "say what to do: create, status, release"),
    ],
)
def test_messages_speak_of_options(capsys, words, says):
    assert complaint(capsys, *words).startswith(says)


def test_only_what_is_an_option_becomes_one():
    known = {"params", "tokens_per_step", "stop.name"}
    assert of_options("num_params: give it with tokens_per_step", known) == "--params: give it with --tokens_per_step"
    assert of_options("x: params='7B' is no count", known) == "x: --params '7B' is no count"
    text = "file: data_hash of tokens_per_step.json, x.tokens_per_step and tokens_per_step=x stay; the params do too"
    assert of_options(text, known) == text


# ---- config files


def test_paths_in_a_config_are_relative_to_it(tmp_path, monkeypatch, capsys):
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "sub").mkdir(parents=True)
    here.mkdir()
    assert main(["laws", "show", "besiroglu", "--json"]) == 0
    (there / "sub" / "mine.json").write_text(capsys.readouterr().out.replace('"besiroglu"', '"mine"', 1))
    (there / "plan.yaml").write_text("budget: 1e21 FLOPs\nlaw: sub/mine.json\n")
    monkeypatch.chdir(here)
    for given in ("../there/plan.yaml", str(there / "plan.yaml")):
        code, shown, err = said(capsys, "plan", f"--config={given}")
        assert code == 0 and "law         mine" in shown, err
    # the command line's own are relative to where one is
    assert "besiroglu" in said(capsys, "plan", "--config", "../there/plan.yaml", "--law", "besiroglu")[1]
    assert "sub/mine.json" in complaint(capsys, *BUDGET, "--law", "sub/mine.json")


def test_outputs_of_a_config_too_and_names_stay_names(tmp_path, monkeypatch):
    (tmp_path / "besiroglu.txt").touch()
    (tmp_path / "x.yaml").write_text(
        "out: runs\nlaw: besiroglu\ndata:\n  init_args:\n    path: besiroglu.txt\nname: out\n"
    )
    monkeypatch.chdir("/")
    parser = new_parser("x", "")
    for name in ("out", "law", "name"):
        parser.add_argument(f"--{name}", type=str)
    parser.add_argument("--data", type=dict)
    options = parse(parser, ["--config", str(tmp_path / "x.yaml")])
    assert (options.out, options.law, options.name) == (str(tmp_path / "runs"), "besiroglu", "out")
    assert options.data == {"init_args": {"path": str(tmp_path / "besiroglu.txt")}}


@pytest.mark.slow
def test_a_class_is_found_in_the_working_directory(tmp_path):
    """Started as pip's script is, which leaves the working directory out of the path."""
    (tmp_path / "my_model.py").write_text("from scalestop.lab.tiny_gpt import TinyGPT\nclass Mine(TinyGPT): pass\n")
    script = "import sys; sys.path = [p for p in sys.path if p]; from scalestop.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "audit", "--model", "my_model.Mine", "--model.num_params", "20k"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "charged by 6N" in done.stdout


# ---- tables, colours and data


def shell(*words, terminal=False, **variables):
    """Run a command with its output into a pipe, or into a terminal 60 columns wide."""
    command = [sys.executable, "-m", "scalestop", *words]
    env = environment(TERM="xterm", **variables)
    env.pop("COLUMNS", None)
    if not terminal:
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True).stdout
    master, slave = pty.openpty()
    process = subprocess.Popen(command, env=env, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    found = b""
    while chunk := _read(master):
        found += chunk
    os.close(master)
    assert process.wait(300) == 0
    return found.decode()


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed
        return b""


def test_a_table_is_not_cut_in_a_pipe_and_colours_are_left_out_where_asked():
    words = ("fit", RUNS, "--bootstrap", "40", "--method", "parametric")
    piped = shell(*words)
    assert "…" not in piped and "\x1b" not in piped
    header = next(line for line in piped.splitlines() if "N_opt" in line and "D/N" in line)
    assert header.split() == ["FLOPs", "N_opt", "90%", "D_opt", "90%", "D/N", "loss"]
    colour = r"\x1b[3"
    assert colour.encode().decode("unicode_escape") in shell(*words, terminal=True)
    assert colour.encode().decode("unicode_escape") not in shell(*words, terminal=True, NO_COLOR="1")


def test_a_fit_as_data(capsys, tmp_path):
    code, shown, err = said(
        capsys, "fit", RUNS, "--json", "--bootstrap", "0", "--method", "parametric", "--out", tmp_path / "law.json"
    )
    data = strict_json(shown)
    assert code == 0 and "law saved" in err
    law = strict_json((tmp_path / "law.json").read_text())
    assert data["law"]["constants"] == law["constants"]
    assert data["intervals"]["alpha"]["estimate"] == pytest.approx(law["constants"]["alpha"])
    assert data["intervals"]["alpha"]["low"] is None  # a point fit has no ends
    assert data["num_runs"] == 50 and len(data["optima"]) == 3
