"""`scalestop train --resume`: a run goes on with its own model, data, seed and rate."""

from __future__ import annotations

import json
import logging
import shutil
import warnings

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger

from scalestop import RunRecord
from scalestop.cli import main
from scalestop.commands import train
from scalestop.commands._resume import OPTIONS, find, log_kept
from scalestop.errors import InputError

SMALL = ("--data.val_tokens", "512", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu")


@pytest.fixture(autouse=True)
def _leaves_no_trace(monkeypatch, tmp_path):
    """The command sets a seed, a log level and filters, as it owns its process."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    with warnings.catch_warnings():
        yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of a run whose size the law chose, with a seed and a rate of its own; copied for each test."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("PL_GLOBAL_SEED", "0")
        patch.chdir(folder)
        words = ("--budget", "1.5e9 FLOPs", "--seed", "7", "--model.lr", "0.011", "--data.seed", "5", *SMALL)
        assert main(["train", *words]) == 0
    return folder / "runs" / "version_0"


@pytest.fixture
def run(begun, tmp_path):
    """A run to go on with, in `runs/version_0`."""
    shutil.copytree(begun, tmp_path / "runs" / "version_0")
    return tmp_path / "runs" / "version_0"


def said(capsys, *words):
    capsys.readouterr()
    code = main(["train", *map(str, words)])
    return code, capsys.readouterr()


def test_the_folder_and_a_larger_budget_are_enough(run, capsys, monkeypatch):
    rates = []

    class Notes(Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))

    plain = train.pl.Trainer
    monkeypatch.setattr(train.pl, "Trainer", lambda **k: plain(**{**k, "callbacks": [*k["callbacks"], Notes()]}))
    before = RunRecord.load(run / "scalestop.json")
    options = json.loads((run / OPTIONS).read_text())
    code, output = said(capsys, "--resume", run, "--budget", "3e9 FLOPs")
    assert code == 0, output.err
    after = RunRecord.load(run / "scalestop.json")
    assert (after.run, after.num_params, after.seed) == (before.run, before.num_params, 7)
    assert before.flops < 2e9 < 2.9e9 < after.flops == 6 * after.num_params * after.usage["tokens"]
    assert rates[0][0] == before.usage["optimizer_steps"] + 1  # from the stop, not from a point before it
    assert 0 < max(rate for _, rate in rates) <= 0.011  # the run's own peak, not the rule's
    now = json.loads((run / OPTIONS).read_text())
    assert now == {**options, "budget": "3e9 FLOPs"}
    assert sorted(path.name for path in run.parent.iterdir()) == ["version_0"]
    # and on again, from another folder, with nothing but the folder's own budget raised
    monkeypatch.chdir(run.parent.parent.parent)
    code, output = said(capsys, "--resume", run, "--budget", "3.5e9 FLOPs")
    assert code == 0 and RunRecord.load(run / "scalestop.json").flops > 3.3e9


def test_what_was_logged_before_is_kept(run, capsys):
    before = (run / "metrics.csv").read_bytes()
    assert said(capsys, "--resume", run, "--budget", "2e9 FLOPs")[0] == 0
    assert (run / "metrics-1.csv").read_bytes() == before
    assert (run / "metrics.csv").read_bytes() != before
    for _ in range(2):  # once is enough
        with log_kept(run):
            pass
    assert sorted(path.name for path in run.glob("metrics*")) == ["metrics-1.csv", "metrics-2.csv", "metrics.csv"]


def test_a_checkpoint_that_lies_alone_gives_model_and_data(run, tmp_path, capsys):
    lone = tmp_path / "lone.ckpt"
    shutil.copy(next((run / "checkpoints").glob("scalestop-stop*")), lone)
    before = RunRecord.load(run / "scalestop.json")
    code, output = said(capsys, "--resume", lone, "--budget", "2e9 FLOPs", *SMALL)
    assert code == 0, output.err
    after = RunRecord.load(tmp_path / "runs" / "version_1" / "scalestop.json")
    assert (after.run, after.num_params) == (before.run, before.num_params)
    assert RunRecord.load(run / "scalestop.json") == before  # a folder of its own


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model.num_params", "20000"), "model.num_params: the run that is resumed has width"),
        (("--model.width", "16"), "does not fit the model (Error(s) in loading state_dict for TinyGPT: size mismatch"),
        (("--model.depth", "4"), "does not fit the model (Error(s) in loading state_dict for TinyGPT: Missing key"),
        (("--seed", "8"), "seed: the run that is resumed has 7"),
        (("--data.seed", "6"), "seed: the checkpoint's data stream has 5, this one 6"),
        (("--data.context", "64"), "context: the checkpoint's data stream has 128, this one 64"),
        (("--budget", "much"), "budget: cannot use 'much'"),
    ],
)
def test_another_model_or_text_is_refused_in_one_line_and_the_run_is_as_it_was(run, words, text, capsys):
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, output = said(capsys, "--resume", run, "--budget", "3e9 FLOPs", *words)
    assert code == 2
    assert output.err.startswith("scalestop: error: ") and output.err.count("\n") == 1
    assert text in output.err
    for path, content in files.items():
        assert path.name == "hparams.yaml" or path.read_bytes() == content  # Lightning notes what it was asked for


@pytest.mark.parametrize("damage", ["empty", "half", "text", "pickle"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, damage, capsys):
    stop = next((run / "checkpoints").glob("scalestop-stop*"))
    content = {"empty": b"", "half": stop.read_bytes()[:5000], "text": b"hello", "pickle": b"cos\nsystem\n."}[damage]
    stop.write_bytes(content)
    found = find(str(run))
    assert found.checkpoint.parent == run / "checkpoints" and found.checkpoint != stop
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(content)
    for resume in (run, stop):
        code, output = said(capsys, "--resume", resume)
        assert code == 2 and "can be read" in output.err and output.err.count("\n") == 1


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 5000, b"- 1\n", b"{}", b'{"budget": 5}'])
def test_damaged_options_are_one_line(run, content, capsys):
    (run / OPTIONS).write_bytes(content)
    code, output = said(capsys, "--resume", run)
    if content == b"{}":  # nothing in it: the run is of the command's own defaults, which do not fit
        assert code == 2
    assert code == 2 and output.err.count("\n") == 1 and output.err.startswith("scalestop: error: ")


@pytest.mark.parametrize("resume", ["", "nowhere", "~nobody-at-all", "a" * 300, "/dev/null", "a\0b", "."])
def test_what_is_no_run_is_told(resume, capsys, tmp_path):
    code, output = said(capsys, "--resume", resume)
    assert code == 2 and output.err.startswith("scalestop: error: --resume: ") and output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_too_large_is_exit_code_3(capsys, tmp_path):
    code, output = said(capsys, "--budget", "2e9 FLOPs", "--model.num_params", "200000", *SMALL)
    assert code == train.NOTHING_TRAINED == 3
    assert "MODEL_OVERSIZED" in output.out
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "Exit code 3 says that the model is too large" in shown
    main([])
    assert "3 (train) the model is too large" in capsys.readouterr().out


def test_options_are_written_when_training_begins_and_law_and_text_can_move(tmp_path, capsys):
    from ladder_toys import PRIOR

    PRIOR.save(tmp_path / "law.json")
    (tmp_path / "text.txt").write_text("".join(f"line {i} of a text that is long enough\n" for i in range(2000)))
    words = ("--budget", "3e8 FLOPs", "--law", "law.json", "--data.path", "text.txt", "--data.context", "16")
    assert said(capsys, *words, "--stop.oversized", "ignore", *SMALL)[0] == 0
    kept = json.loads((tmp_path / "runs" / "version_0" / OPTIONS).read_text())
    assert kept["law"] == str(tmp_path / "law.json")
    assert kept["data"]["init_args"]["path"] == str(tmp_path / "text.txt")
    assert "resume" not in kept and "config" not in kept


def test_lightning_deletes_a_log_that_goes_on_in_its_folder(tmp_path):
    """Why `log_kept` is there; when this fails, it can go."""
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n")
    logger = CSVLogger(tmp_path.parent, name="", version=tmp_path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.log_metrics({"loss": torch.tensor(1.0)}, step=2)
    logger.save()
    assert "1,2" not in (tmp_path / "metrics.csv").read_text()


def test_find_prefers_the_latest_checkpoint(run):
    names = [path.name for path in (run / "checkpoints").iterdir()]
    assert len(names) >= 2
    assert find(str(run)).checkpoint.name.startswith("scalestop-stop-step=")
    with pytest.raises(InputError, match=r"holds no checkpoints"):
        find(str(run / "checkpoints"))
