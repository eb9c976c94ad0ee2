"""The ten questions, each asked at the command line and through Python."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from task_data import task_table

import scalestop
from scalestop.cli import main
from scalestop.fitting.tasks import fit_task
from scalestop.planning import advice
from scalestop.run.records import RunRecord

ROOT = Path(__file__).parent.parent.parent
LAW = scalestop.get_law("besiroglu")

QUESTIONS = {
    "what to train": "plan --budget 1e21 --law besiroglu,chinchilla --peak H100 --mfu 0.4 --devices 8 "
    "--usd_per_device_hour 2.5 --valley --shapes llama",
    "is it well spent": "compare 175Bx300B",
    "what 2x buys": "next --run 7Bx140B --loss 2.2 --peak H100 --mfu 0.4 --devices 64 --usd_per_device_hour 2.5",
    "these two": "compare 70Bx1.4T 280Bx300B",
    "serving": "serve --demand 2T --loss 2.1",
    "unique tokens": "plan --budget 1e22 --law besiroglu --unique_tokens 25B",
    "batch": "batch --run 1Bx100B --tokens_per_step 4M",
    "by Friday": "plan --budget 72h --peak H100 --mfu 0.4 --devices 8 --usd_per_device_hour 2.5",
    "shape": "plan --budget 1e21 --shapes gpt2 --vocab_size 50304 --context 1024",
    "when it fails": "checklist --params 7B --tokens 140B --unique_tokens 30B --lr_decayed true",
}
SAID = {
    "what to train": (
        "takes       3.66 days on 8 devices (702 device-hours), 1,755 USD",
        "0.5 N_opt   1.39B    120B",
        "llama blocks, vocabulary 32,000, untied head; N counts total parameters; target 2.78B",
        "besiroglu was fitted on 240 of the Chinchilla runs",
    ),
    "is it well spent": (
        "3.3 N_opt of its compute, 3.3x oversized",
        "39% is wasted",
        "data-limited: twice the parameters",
    ),
    "what 2x buys": ("a tenth of what is still reducible", "loss 2.2 takes 3.88e21 FLOPs (90 %: 3.52e21", "6,816 USD"),
    "these two": ("16x undertrained (0.0625 of 4.8T tokens)", "70B x 1.4T, by 0.026 nats per token", "73.1B x 1.34T"),
    "serving": (
        "6.27B x 745B, N 6.27B (90 %: ",
        "119 tokens per param: 5.74x those",
        "29% saved, for 32% more training compute",
    ),
    "unique tokens": ("10.1 epochs, worth 196B unique tokens", "R_D* and R_N* are those of muennighoff", "warning"),
    "batch": ("3.28M tokens by Kaplan", "2.63M tokens by Zhang", "peak rate 0.0016, 1.11M tokens a step"),
    "by Friday": ("3 days on 8 devices = 8.2e20 FLOPs", "with 16: 3.59B x 76.3B", "or the same run in 36 h"),
    "shape": ("gpt2 blocks, vocabulary 50,304, tied head", "feed-fwd"),
    "when it fails": ("4.67 passes over 30B unique tokens", "inside the runs the law was fitted to", "not your task"),
}


def said(capsys, words):
    assert main(shlex.split(words)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_one_command(capsys, question):
    out = said(capsys, QUESTIONS[question])
    for words in SAID[question]:
        assert words in out, out
    assert "besiroglu (its N counts total parameters)" in out
    assert "90 %" in out or question in ("batch", "when it fails")  # laws of others, without an interval
    assert all(line == line.rstrip() for line in out.splitlines())


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_answer_is_strict_json(capsys, question):
    def refuse(name):
        raise AssertionError(name)

    data = json.loads(said(capsys, f"{QUESTIONS[question]} --json"), parse_constant=refuse)
    assert data


def test_each_question_through_python():
    answers = [
        advice.valley(LAW, 1e21),
        advice.side_by_side([LAW, scalestop.get_law("kaplan")], 1e21),
        advice.shapes_near(2.8e9),
        advice.appraise(LAW, 175e9, 300e9),
        advice.what_next(LAW, 7e9, 140e9),
        advice.least_for_loss(LAW, 2.2),
        advice.compare(LAW, [(70e9, 1.4e12), (280e9, 300e9)]),
        advice.serve(LAW, 2e12, loss=2.1),
        advice.explain_demand(LAW, 8e9, 15e12),
        advice.data_wall(LAW, 1e22, 25e9),
        advice.advise_batch(LAW, 1e9, 1e11),
        advice.by_deadline(LAW, 72 * 3600, scalestop.Speed(989e12, 0.4, 8)),
        advice.shape_spread(),
        advice.checklist(LAW, 7e9, 140e9),
    ]
    for answer in answers:
        assert str(answer)
        assert json.loads(json.dumps(answer.to_dict(), allow_nan=False))


def test_asking_loads_nothing_heavy():
    script = (
        "import sys; from scalestop.planning import advice as a; import scalestop;"
        "law = scalestop.get_law('besiroglu'); str(a.compare(law, [(7e10, 1.4e12), (2.8e11, 3e11)]));"
        "str(a.serve(law, 2e12, loss=2.1)); str(a.data_wall(law, 1e22, 25e9)); str(a.checklist(law, 7e9, 1e11));"
        "print(*[name for name in ('torch', 'scipy', 'matplotlib', 'jsonargparse', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n" and done.stderr == ""


def test_the_task_that_a_compute_reaches(capsys, tmp_path):
    task = fit_task(task_table(), "acc", bpb="bpb", floor=0.25, draws=200)
    path = task.save(tmp_path / "task.json")
    reach = task.reach(0.6)
    out = said(capsys, f"next --task {path} --reach 0.6 --peak H100 --mfu 0.4")
    assert out.splitlines()[0] == f"task        {reach}" and "1 device (" in out
    data = json.loads(said(capsys, f"next --task {path} --reach 0.6 --json"))
    assert data["task"]["flops"] == reach.flops and data["task"]["bill"]["seconds"] is None


def test_a_demand_explained(capsys):
    assert "190T (90 %: 139T to 278T) tokens served" in said(capsys, "serve --run 8Bx15T")
    assert "none explains 280B x 300B" in said(capsys, "serve --run 280Bx300B")
    assert "demand      none" in said(capsys, "serve --demand 0 --budget 1e21")


def test_a_checklist_of_a_record(capsys, tmp_path):
    needed = {"loss": 2.5, "stop_reason": "COMPUTE_OPTIMAL", "law": "besiroglu", "budget": "1e19 FLOPs"}
    record = RunRecord(num_params=10**9, num_tokens=2 * 10**10, flops=12 * 10**19, lr_decayed=False, **needed)
    path = record.save(tmp_path / "scalestop.json")
    data = json.loads(said(capsys, f"checklist --record {path} --json"))
    marks = {item["topic"]: item["mark"] for item in data["items"]}
    assert marks["rate"] == "fails" and marks["range"] == "fine" and data["worst"] == "fails"


def test_several_laws_compare(capsys):
    out = said(capsys, "compare 70Bx1.4T 280Bx300B --law besiroglu,kaplan")
    assert out.count("\nlaw ") == 2
    data = json.loads(said(capsys, "compare 70Bx1.4T 280Bx300B --law besiroglu,kaplan --json"))
    assert set(data) == {"besiroglu", "kaplan"} and data["kaplan"]["sure"] is None


def test_a_plan_under_the_data_wall_stops_by_it(capsys):
    free = json.loads(said(capsys, "plan --budget 1e22 --law besiroglu --json"))
    walled = json.loads(said(capsys, "plan --budget 1e22 --law besiroglu --unique_tokens 25B --json"))
    assert walled["num_params"] < free["num_params"] and walled["stop_tokens"] > free["stop_tokens"]
    assert walled["allocation"]["num_params"] == pytest.approx(walled["data"]["best"]["num_params"])
    assert walled["data"]["free"]["num_params"] == pytest.approx(free["allocation"]["num_params"])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("compare", "runs"),
        ("compare 70B", "run: cannot read '70B' as parameters x tokens"),
        ("compare 1Bx1T --law besiroglu,besiroglu", "law: 'besiroglu,besiroglu' names a law twice"),
        ("next", "run: missing"),
        ("next --run 1Bx20B --budget 1e20", "run: give --run or --budget, not both"),
        ("next --run 1Bx20B --factors many", "factors: numbers with commas between"),
        ("next --run 1Bx20B --reach 0.5", "reach: give --task with --reach"),
        ("serve --loss 2.1", "demand: missing"),
        ("serve --demand 2T --loss 1.1", "loss: 1.1 is out of reach"),
        ("serve --demand 2T --run 1Bx20B", "run: asks for the demand"),
        ("batch", "run: missing"),
        ("checklist --params 7B", "params: give N and tokens"),
        ("checklist --record x.json --params 7B", "--record: gives params, tokens and --lr_decayed"),
        ("plan --budget 1e21 --law besiroglu,", "law: a name is missing between the commas"),
        ("plan --budget 1e21 --peak H10", "peak: no device is called 'H10'"),
        ("plan --budget 1e21 --shapes bert", "--shapes: one of gpt2, llama"),
        ("plan --budget 1e21 --law kaplan --unique_tokens 1B", "unique_tokens: law 'kaplan' says nothing"),
        ("plan --budget 1e21 --law none --params 1B --valley", "law: valley needs a law"),
        ("compare 1e299x1e299", "num_params: must be positive and below 1e+60"),
        ("next --budget 1e299", "--budget: must be positive and below 1e+60"),
        ("plan --budget 1e40 --shapes llama", "--params: shapes are listed up to 20T"),
        ("plan --budget 12h --params 1B --valley", "valley: needs an amount of compute"),
    ],
)
def test_what_cannot_be_asked(capsys, words, error):
    assert main(shlex.split(words)) == 2
    err = capsys.readouterr().err
    assert error in err and err.count("\n") == 1


def readme_questions():
    """(command, captured lines) of the blocks in the README's section Questions."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Questions$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    found = re.findall(r"```console\n\$ scalestop (.*?)\n(.*?)```", section[1], re.DOTALL) if section else []
    return [(command, output.splitlines()) for command, output in found]


@pytest.mark.parametrize(("command", "lines"), readme_questions())
def test_the_readmes_captured_output_is_what_it_says(capsys, command, lines):
    """A line `...` stands for any number of lines; the others come in their order."""
    out = iter(said(capsys, command).splitlines())
    for line in lines:
        assert line == "..." or line in out, line
