"""The command line, as a user meets it: real processes, their output and their exit codes."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from processes import scalestop
from toys import environment

from scalestop import RunRecord
from scalestop.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent


def said(capsys, *words):
    code = main(words)
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_and_prints_its_config(command):
    shown = scalestop(command, "--help", folder=ROOT)
    assert shown.returncode == 0
    assert f"usage: scalestop {command}" in shown.stdout
    assert "--config" in shown.stdout and "--print_config" in shown.stdout


def test_no_argument_tells_what_there_is(capsys):
    code, out, _ = said(capsys)
    assert code == 0
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("plam",), ("plam", "plan")),
        (("plan",), ("budget",)),
        (("plan", "--budget", "1e15 FLOP/s"), ("1e15 FLOP/s", "rate")),
        (("plan", "--budget", "1e18 FLOPs", "--law", "chinchila"), ("chinchila", "chinchilla")),
        (("plan", "--budget", "1e18 FLOPs", "--params", "many"), ("params", "many")),
        (("plan", "--bugdet", "1e18"), ("--bugdet",)),
        (("plan", "--budget", "1e18", "--oversized", "maybe"), ("oversized", "maybe")),
        (("laws", "show", "nope"), ("nope",)),
        (("laws", "shout"), ("shout",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, words, names):
    code, out, err = said(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("scalestop: error: ")
    assert all(name in err for name in names)


def test_bad_input_to_train_ends_before_any_file_is_made(tmp_path):
    for words in (("--budget", "2B"), ("--model.nun_params", "3"), ("--model.num_params", "3", "--model.width", "8")):
        result = scalestop("train", *words, folder=tmp_path)
        assert result.returncode == 2, result.stderr
        assert "Traceback" not in result.stderr
        assert result.stderr.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_plan_as_text_and_as_json(capsys):
    code, out, _ = said(capsys, "plan", "--budget", "1 PF-days", "--params", "750M", "--tokens_per_step", "524288")
    assert code == 0
    assert "N_opt 793M" in out and "right-sized" in out and "COMPUTE_OPTIMAL after step 34,644" in out
    code, out, _ = said(capsys, "plan", "--budget", "1 PF-days", "--params", "750M", "--json")
    data = json.loads(out)
    assert data["allocation"]["num_params"] == pytest.approx(7.93e8, rel=1e-3)
    assert data["verdict"] == "right-sized" and data["stop_reason"] == "COMPUTE_OPTIMAL"


def test_plan_takes_a_config_file(tmp_path, capsys):
    config = tmp_path / "plan.yaml"
    config.write_text("budget: 5e20 FLOPs\nlaw: chinchilla\n")
    _, from_file, _ = said(capsys, "plan", "--config", str(config))
    _, from_words, _ = said(capsys, "plan", "--budget", "5e20 FLOPs", "--law", "chinchilla")
    assert from_file == from_words and "chinchilla" in from_file


def test_plan_starts_fast_and_without_torch():
    script = (
        "import sys; from scalestop.cli import main; code = main(['plan', '--budget', '1e21 FLOPs']);"
        "sys.exit(code or ('torch' in sys.modules) or ('matplotlib' in sys.modules))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # processor time, not wall time: 0.5 s is promised, and a slow machine gets twice that
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_laws_list_and_show(capsys):
    _, out, _ = said(capsys, "laws", "list")
    assert all(name in out for name in ("besiroglu", "kaplan-presentation", "stdlib-bytes"))
    _, out, _ = said(capsys, "laws", "show", "kaplan-presentation")
    assert "off by 86,400" in " ".join(out.split())
    _, out, _ = said(capsys, "laws", "show", "besiroglu", "--json")
    assert json.loads(out)["constants"]["A"] == 482.00572


def test_train_stops_where_its_plan_said(tmp_path):
    """From a shell, with all that is imported there; the others are forked."""
    command = [sys.executable, "-m", "scalestop.cli", "train", "--budget", "7e8 FLOPs"]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    record = RunRecord.load(tmp_path / "runs" / "version_0" / "scalestop.json")
    assert record.stop_reason == "COMPUTE_OPTIMAL"
    assert record.usage["optimizer_steps"] == record.plan["stop_step"]
    per_step = record.plan["tokens_per_step"]
    assert 0 <= record.num_tokens - record.plan["target_tokens"] < per_step
    assert record.loss_name == "val_loss" and record.lr_decayed
    assert f"after step {record.plan['stop_step']:,}" in result.stdout
    assert "scalestop: COMPUTE_OPTIMAL: " in result.stdout
    assert list((tmp_path / "runs" / "version_0" / "checkpoints").glob("scalestop-stop-*.ckpt"))


def test_train_refuses_an_oversized_model_without_a_step(tmp_path):
    result = scalestop("train", "--budget", "2e10 FLOPs", "--model.num_params", "200000", folder=tmp_path)
    assert result.returncode == 3, result.stderr
    record = RunRecord.load(tmp_path / "runs" / "version_0" / "scalestop.json")
    assert record.stop_reason == "MODEL_OVERSIZED"
    assert record.usage["optimizer_steps"] == record.num_tokens == 0


def test_train_spends_its_budget_on_a_small_model(tmp_path):
    result = scalestop(
        "train", "--budget", "4e9 FLOPs", "--model.num_params", "5000", "--data.batch_size", "16", folder=tmp_path
    )
    assert result.returncode == 0, result.stderr
    record = RunRecord.load(tmp_path / "runs" / "version_0" / "scalestop.json")
    assert record.stop_reason == "BUDGET_EXHAUSTED"
    assert 4 * 10**9 <= record.flops < 4 * 10**9 + 6 * record.num_params * record.plan["tokens_per_step"]


@pytest.mark.slow
def test_train_goes_on_from_a_run_whose_budget_is_raised(tmp_path):
    words = ("--model.num_params", "5000", "--data.batch_size", "4")
    scalestop("train", "--budget", "2e9 FLOPs", *words, folder=tmp_path)
    folder = tmp_path / "runs" / "version_0"
    stop = next((folder / "checkpoints").glob("scalestop-stop-*.ckpt"))
    first = RunRecord.load(folder / "scalestop.json")
    result = scalestop("train", "--budget", "4e9 FLOPs", *words, "--resume", str(stop), folder=tmp_path)
    assert result.returncode == 0, result.stderr
    second = RunRecord.load(folder / "scalestop.json")
    assert first.run == second.run
    # the first ends at its optimum, within a tenth of its budget
    assert 1.8 * 10**9 <= first.flops < 4 * 10**9 <= second.flops
    assert second.flops == 6 * second.num_params * second.usage["tokens"]


def test_audit_shows_attention(capsys):
    code, out, _ = said(capsys, "audit", "--model.num_params", "50000")
    assert code == 0
    assert "charged by 6N" in out and "blocks.*" in out


# ---- what nobody should have written, at every place where a file or a text is read


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    """A folder with what is no law, no record, no config, no checkpoint and no text."""
    folder = tmp_path_factory.mktemp("bad")
    contents = {
        "binary": b"\xff\xfe\x00bad\x80",
        "empty": b"",
        "deep": b"[" * 100_000,
        "objects": b'{"a":' * 100_000,
        "null": b"null",
        "long": b"1" * 5000,
        "list": b"- 1\n- 2\n",
        "half": b"a: [1, 2\n b: }",
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
    }
    for name, content in contents.items():
        for suffix in (".json", ".yaml", ".csv"):
            (folder / f"{name}{suffix}").write_bytes(content)
    (folder / "folder.json").mkdir()
    (folder / "broken.json").symlink_to(folder / "gone")
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "checkpoints" / "last.ckpt").write_bytes(b"garbage")
    (folder / "ladder").mkdir()
    (folder / "ladder" / "ladder.json").write_bytes(b"\xff")
    return folder


PLACES = {
    "plan --law": ("plan", "--budget", "1e18 FLOPs", "--law"),
    "laws show": ("laws", "show"),
    "fit": ("fit",),
    "fit --config": ("fit", "examples/stdlib_ladder_runs.csv", "--config"),
    "ladder fit": ("ladder", "fit"),
    "ladder --law": ("ladder", "--dry-run", "--law"),
    "ladder --data": ("ladder", "--dry-run", "--flops_per_second", "1 GFLOP/s", "--data"),
    "train --law": ("train", "--law"),
    "train --resume": ("train", "--resume"),
    "train --stop.records": ("train", "--stop.records"),
    "plan --config": ("plan", "--config"),
    "laws --config": ("laws", "--config"),
    "ladder --config": ("ladder", "--dry-run", "--config"),
    "train --config": ("train", "--budget", "nothing", "--config"),
    "audit --config": ("audit", "--data.path", "no/such/text", "--config"),
    "audit --data.path": ("audit", "--data.path"),
}
GIVEN = [
    *(
        "absent.json",
        "folder.json",
        "broken.json",
        "binary.json",
        "deep.json",
        "objects.json",
        "null.json",
        "long.json",
    ),
    *("binary.yaml", "list.yaml", "half.yaml", "binary.csv", "deep.csv", "empty.csv", "pickle.json", "run", "ladder"),
    *("/dev/null", "~nobody-at-all", "~nobody-at-all/x.json", "a" * 300, "b/" + "a" * 300, "zero\0byte"),
]
TEXT_IS_TEXT = {"ladder --data", "audit --data.path"}


@pytest.mark.parametrize("place", PLACES)
def test_a_bad_file_is_one_line_at_every_place(place, bad_files, capsys, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    for given in GIVEN:
        path = bad_files / given if (bad_files / given.split("\0")[0][:50]).exists() else given
        if place in TEXT_IS_TEXT and Path(str(path)[:200]).exists() and given != "/dev/null":
            continue  # any file is a text
        code, _, err = said(capsys, *PLACES[place], str(path))
        assert code == 2, (place, given)
        assert err.startswith("scalestop: error: ") and err.count("\n") == 1, (place, given, err)
        assert 30 < len(err) < 1600 and "Traceback" not in err, (place, given, err)


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--budget", "1e18", "--mfu", "9" * 400),
        ("plan", "--budget", "1e18", "--tolerance", "9" * 400),
        ("plan", "--budget", "1e18 FLOPs " * 500),
        ("plan", "--budget", "1e18", "--params", "9" * 5000),
        ("ladder", "--dry-run", "--spread", "1e308"),
        ("ladder", "--dry-run", "--lr_power", "1e9"),
        ("ladder", "--dry-run", "--budget_ratio", "1e300"),
        ("ladder", "--dry-run", "--num_budgets", "100000"),
        ("ladder", "--dry-run", "--flops_per_second", "0"),
        ("ladder", "--dry-run", "--threads", "0"),
        ("ladder", "--dry-run", "--model", "os.path"),
        ("ladder", "--dry-run", "--data", "os.path"),
        ("ladder", "--dry-run", "--model", "{class_path: 5}"),
        ("ladder", "--dry-run", "--seeds", "[]"),
        ("ladder", "--dry-run", "--warmup", "nan"),
        ("train", "--seed", "-1"),
        ("train", "--seed", "1099511627776"),
        ("train", "--data.context", "0"),
        ("train", "--model.vocab_size", "3"),
        ("train", "--trainer.max_epochs", "{a: ["),
        ("train", "--trainer.devices", "0"),
        ("train", "--trainer.nope", "1"),
        ("train", "--stop.flops_per_token", "7N"),
        ("train", "--stop.count_tokens", "3"),
        ("train", "--out", "zero\0byte"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--seed", "-1"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--plot", "fit.xyz"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--plot", "tests"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--out", "tests"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--out", "zero\0byte"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--out", "~nobody-at-all/law.json"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--bootstrap", "20", "--out", "/dev/null/law.json"),
        ("fit", "examples/stdlib_ladder_runs.csv", "--bootstrap", "20", "--plot", "/dev/null/fit.png"),
        ("\0",),
        ("x" * 5000,),
    ],
    ids=lambda words: " ".join(words)[:60].replace("\0", "0"),
)
def test_odd_options_are_one_line(words, capsys, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.chdir(ROOT)
    code, _, err = said(capsys, *words)
    assert code == 2
    assert err.startswith("scalestop: error: ") and err.count("\n") == 1 and len(err) < 1600


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [("plan", "--budget", "1e18 FLOPs"), ("laws", "list"), ()])
def test_a_full_disk_under_the_output_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "scalestop.cli", *words],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 2
    assert done.stderr == "scalestop: error: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    script = f"{sys.executable} -m scalestop.cli laws list --json | head -c 10"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 and done.stderr == ""
