"""What is typed: read, or refused in one sentence."""

import pytest

from sit_keras.cli.flags import Flags
from sit_keras.cli.main import VERBS, call, command


def example():
    flags = Flags("sit-keras example")
    flags.string("name", "x", "A name.")
    flags.integer("count", 0, "A count.", least=0)
    flags.number("rate", None, "A rate.", usually="by itself")
    flags.switch("quick", False, "Quickly.")
    flags.switch("safe", True, "Safely.")
    flags.choice("colour", "red", ["red", "blue"], "A colour.")
    flags.items("parts", ["a", "b"], "Parts.")
    flags.repeated("set", "A setting.")
    return flags


def test_values_are_read_by_their_types():
    options, rest = example().parse(
        ["one", "--count=3", "--rate", "0.5", "--quick", "--nosafe", "--parts=c", "two",
         "--set=a=1", "--set=b=2"]
    )  # fmt: skip
    assert rest == ["one", "two"]  # flags may stand before, between and after them
    assert (options.name, options.count, options.rate) == ("x", 3, 0.5)
    assert (options.quick, options.safe, options.colour) == (True, False, "red")
    assert (options.parts, options.set) == (["c"], ["a=1", "b=2"])
    assert options.given == {"count", "rate", "quick", "safe", "parts", "set"}


def test_a_path_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    flags = example()
    flags.string("output", None, "Where to write.", value="FOLDER")
    assert flags.parse(["--output=~/runs/a", "--name=~"])[0].output == "/home/ann/runs/a"
    assert flags.parse(["--name=~"])[0].name == "~"
    assert command("train").parse(["--run_dir=~/a"]).run_dir == "/home/ann/a"
    assert command("evaluate").parse(["--run=~/a", "--output=~/b"]).output == "/home/ann/b"


def test_two_calls_do_not_meet():
    assert example().parse(["--count=3", "--set=a=1"])[0].count == 3
    options, _ = example().parse([])
    assert (options.count, options.set, options.given) == (0, [], frozenset())


def test_defaults_are_shown():
    shown = {flag.usage: flag.text for flag in example().groups["Flags"]}
    assert shown == {
        "--name=TEXT": "A name. Default: x.",
        "--count=N": "A count. Default: 0.",
        "--rate=X": "A rate. Default: by itself.",
        "--quick": "Quickly.",
        "--[no]safe": "Safely. Default: on.",
        "--colour=red|blue": "A colour. Default: red.",
        "--parts=A,B": "Parts. Default: a,b.",
        "--set=NAME=VALUE": "A setting. May be given several times.",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--colour=green"], r"flag --colour=green: value should be one of <red\|blue>\.$"),
        (["--count=many"], "flag --count=many: invalid literal for int"),
        (["--count=-1"], "flag --count=-1: -1 is not a non-negative integer"),
        (["--count"], "Missing value for flag --count"),
        (["--cuont=3"], "Unknown flag --cuont: did you mean --count?"),
        (["--nosave"], "Unknown flag --nosave: did you mean --nosafe?"),
        (["--anything"], "Unknown flag --anything: it does not exist. sit-keras example --help"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        example().parse(arguments)


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_names_the_nearest_flag(verb):
    for name in command(verb).flags("").names():
        typo = f"--{name[:2]}q{name[2:]}=1"
        with pytest.raises(ValueError, match=r"Unknown flag .*did you mean --(no)?\w+\?"):
            call(verb, [typo])


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("orient", ["photos"], "--model is missing: an exported version"),
        ("convert", ["sit.pth"], "--output is missing: folder of the encoder"),
        ("orient", ["--model=m"], "FOLDER is missing: A folder of images"),
        ("client", [], "IMAGES is missing"),
        ("verify", ["a", "b"], r"Unexpected arguments \['b'\]: expected one VERSION"),
        ("train", ["digits"], r"Unexpected arguments \['digits'\]: flags are --name=value"),
        ("client", ["a.png", "--classes", "--neighbours=2"], "exclude each other"),
        ("evaluate", [], "Give --run, a run folder of train or a .keras file, or --table"),
        ("evaluate", ["--run=r", "--dataset=digits,stl10"], "on one data set at a time"),
        ("evaluate", ["--run=r", "--k=some"], "--k takes whole numbers from 1, .* received some"),
        ("evaluate", ["--table=linear", "--fraction=0.1", "--seed=3"],
         "--fraction, --seed has no effect on a table"),
        ("evaluate", ["--run=r", "--seeds=1"], "--seeds has no effect on the evaluation of a run"),
        ("evaluate", ["--run=r", "--dataset=folder:a,b"], "No encoder at r: expected"),
        ("benchmark-recipes", ["--budget=0"], "The budget must be positive, received 0"),
        ("export", [], "Give --run, a run folder of train or a .keras file, or --verify"),
        ("tune", ["--preset=huge"], "Unknown preset 'huge': choose one of"),
        ("train", ["--on_nan=pray"], r"should be one of <stop\|skip>"),
        ("doctor", ["--preset=huge"], "Unknown preset 'huge': choose one of"),
        ("trian", [], "Unknown command trian: did you mean train?"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_work_is_explained(verb, arguments, message):
    with pytest.raises(ValueError, match=message.replace("train?", r"train\?")):
        call(verb, arguments)
