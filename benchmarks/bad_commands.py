"""Give the command line thousands of bad commands, and count what comes of them.

    python benchmarks/bad_commands.py --count 1000
    python benchmarks/bad_commands.py --small      # a few commands, to see that it works

Every command is a good one that was spoilt in one place. A worker with little memory beyond its imports runs each in
limited time. All of them must end with exit code 2 and one line on standard error, and write nothing.
"""

import argparse
import contextlib
import io
import json
import math
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from softmode.bounds import Bounds

MEMORY, SECONDS, LONGEST = 2 * 2**30, 10.0, 320
SMALL = 12
# what must never happen for a command that is refused
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")
NET = "fashion-mnist"
# what stands behind each command when it is right
GOOD = {
    "patch": ["--size", "12"], "theory": [], "probe": [NET], "window": [NET], "clones": [NET], "pulse": [NET],
    "susceptibility": [NET], "models": [], "train": [NET], "convert-edm2": ["empty.pkl", "new.safetensors"],
    "figures": ["empty"],
}  # fmt: skip
# no number and no choice of any option
WORDS = [
    "x", "", " ", "0x10", "1e", "--", "-", "1,2", "½", "\x1b[31mred\x1b[0m", "\x00", "\n", "\r", "\udcff\udcfe", "[/x]",
    ":smile:", "\u202e\u200b", "9" * 5000 + "x", "é" * 10**6, "{}", "%s", "$(touch ran)", "None,",
]  # fmt: skip
# what no number may be
NUMBERS = ["nan", "inf", "-inf", "1e400", "-1e400", "9" * 4000]
INTEGERS = ["1.5", "1e5", "nan", "inf", str(2**63), str(-(2**63) - 1), "9" * 4000, "-" + "9" * 5000]
PATHS = [
    "nowhere", "empty/nowhere.npz", "file.txt/x", "fifo", "/dev/null", "/dev/zero", "/proc/self/mem", "n" * 300,
    "a" * 10**6, "../" * 2000, "empty", "file.txt", "\x1b[2J.npz", "\udcff.npz", "a\x00b", "[/x]", "/",
]  # fmt: skip
CLASSIFIER = "fashion-mnist-classifier"
MODELS = [
    *PATHS, *(f"{family}:{path}" for family in ("edm", "edm2", "score_sde") for path in ("", *PATHS)),
    "diffusers:./nowhere", "diffusers:empty", "diffusers:/dev/null",
    "python:json:loads", "python:os:getcwd", "python:missing:x", "python::", "python:os",
    "python:broken:model", "python:os:nothing", "fashion-mnist-binery",
]  # fmt: skip
FIELDS = [
    "box:4", "box:0", "box:-3", "box:1000000001", "box:" + "9" * 5000, "ball:-1", "ball:1e400", "ball:1e9", "cross:-1",
    "cross:999999999", "offsets:", "offsets:1,1", "offsets:0,0;0,0", "offsets:0,0;0", "offsets:0,0;" + "9" * 400 + ",1",
    "ring:4",
]  # fmt: skip
# options of text that is read by rules of its own
GRAMMAR = {
    "schedule": ["vp:-1", "vp:nan", "vp:1:2", "vp-linear:20:0.1:3", "vp-cosine:x", "sub-vp", "ve:1", "vp:1e400"],
    "receptive_field": FIELDS,
    "dictionary": ["random:0", "random:-1", "random:1000000000", "random:x", "paper:1", *PATHS],
    "device": ["abacus", "cuda:99", "cpu:x", "meta:0:0", "\x1b[31m"],
    "labels": ["x", "3,x", "-1", "10", "3,99999999", "1e5", "9" * 5000, "3;4"],
    "prompt": ["a cat", "\x1b[31m", "é" * 10**6],
    "out": ["", " ", ".", "file.txt/x", "n" * 300, "/proc/x", "fifo/x", "a\x00b", "/dev/null/x", "file.txt", "full"],
    "data": PATHS, "window": PATHS, "check": PATHS, "source": PATHS, "directory": ["", *PATHS],
    "model": ["", CLASSIFIER, *MODELS], "guide": ["", CLASSIFIER, *MODELS], "classifier": MODELS, "start": MODELS,
    "network": WORDS, "target": ["nodir/x", "", "empty", "/proc/x", "n" * 300],
}  # fmt: skip


def bad_values(name: str, hint: Any, bounds: Bounds | None = None) -> list[list[str]]:
    """Return values that an option of a name and a type must refuse, each a list of words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if name in GRAMMAR:
        return [[word] for word in GRAMMAR[name]]
    if origin is Annotated:
        own = next((each for each in arguments if isinstance(each, Bounds)), bounds)
        return bad_values(name, arguments[0], own)
    if origin is tuple:
        each = bad_values(name, arguments[0], bounds)
        return each if arguments[1:] == (...,) else [["1", *words] for words in each] + [["1"], []]
    if origin is Literal:
        return [[word] for word in (*WORDS, *map(str.upper, arguments))]
    kinds = [each for each in arguments if each is not type(None)] if arguments else [hint]
    if len(kinds) > 1 or get_origin(kinds[0]):
        return bad_values(name, kinds[0], bounds)
    if kinds[0] is int:
        return [[word] for word in (*WORDS, *INTEGERS, *beyond(bounds, 1))]
    if kinds[0] is float:
        return [[word] for word in (*WORDS, *NUMBERS, *beyond(bounds, 0.5))]
    return []


def beyond(bounds: Bounds | None, step: float) -> list[str]:
    """Return the nearest numbers outside some bounds."""
    if bounds is None:
        return []
    numbers = [bounds.low - step, bounds.high + step, bounds.above, bounds.below]
    return [str(number) for number in numbers if math.isfinite(number)]


def spoilt(rng: random.Random) -> tuple[str, list[str]]:
    """Return how a good command was spoilt, and what came of it."""
    from softmode.cli import commands, options_of

    name = rng.choice(list(GOOD))
    good = GOOD[name]
    config, output, out = options_of(commands()[name])
    kinds = [kind for kind in (config, output) if kind is not None]
    hints = {each.name: hint for kind in kinds for hints in [get_type_hints(kind, include_extras=True)]
             for each in fields(kind) for hint in [hints[each.name]]} | ({"out": str} if out else {})  # fmt: skip
    positional = [each.name for each in fields(config) if each.default is MISSING]
    flags = {field: f"--{field.replace('_', rng.choice('-_'))}" for field in hints if field not in positional}
    values = {field: bad_values(field, hint) for field, hint in hints.items()}
    spoil: dict[str, Callable[[], list[str]]] = {
        "no such option": lambda: [*good, misspelt(rng.choice([*flags.values(), "--out"]), rng), "1"],
        "too many arguments": lambda: [*good, rng.choice(WORDS[:1] + WORDS[7:]), rng.choice(WORDS)],
        "no such command": lambda: [misspelt(name, rng)],
    }
    if positional:
        spoil["too few arguments"] = lambda: rng.choice(
            (good[:-1], [*good[:-1], *[w for w in good[:-1] if w[0] == "-"]])
        )
    if fit := [field for field in flags if values[field]]:
        chosen = rng.choice(fit)
        words = rng.choice(values[chosen])
        spoil["bad value"] = lambda: [*good, *joined(flags[chosen], words, rng)]
        spoil["no value"] = lambda: [*good, *([flags[chosen]] if get_origin(hints[chosen]) is not tuple else ["--zz"])]
    if fit := [field for field in positional if values[field]]:
        place = rng.randrange(len(fit))
        word = rng.choice(values[fit[place]])
        spoil["bad argument"] = lambda: [*good[:place], *word, *good[place + 1 :]]
    kind = rng.choices(list(spoil), [6 if each.startswith("bad") else 1 for each in spoil])[0]
    words = spoil[kind]()
    return kind, words if kind == "no such command" else [name, *words]


def joined(flag: str, words: list[str], rng: random.Random) -> list[str]:
    """Return an option with its values, with or without an equals sign, given once or twice."""
    once = (
        [f"{flag}={words[0]}", *words[1:]] if words and (rng.random() < 0.5 or words[0][:1] == "-") else [flag, *words]
    )
    return once


def misspelt(word: str, rng: random.Random) -> str:
    """Return a word with a letter left out, doubled or changed, that names nothing."""
    place = rng.randrange(2, len(word))
    return word[:place] + rng.choice(("", word[place] * 2, "q", "\x1b", "é", "=")) + word[place + 1 :] + "zz"


def outcome(arguments: list[str]) -> str:
    """Return what comes of a command: refused, or what is wrong."""
    from softmode.cli import main

    before = sorted(everything())
    said, told = io.StringIO(), io.StringIO()
    code: Any = 0
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
            main(arguments)
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:
        return f"raised {type(error).__name__}: {str(error)[:200]!r}"
    lines = told.getvalue()
    if code != 2:
        return f"ended with exit code {code}: {lines[:200]!r}"
    if lines.count("\n") != 1 or len(lines) > LONGEST or not all(c.isprintable() for c in lines[:-1]):
        return f"not one short line: {lines[:400]!r}"
    if said.getvalue():
        return f"printed {said.getvalue()[:200]!r}"
    return "refused" if sorted(everything()) == before else "wrote something"


def everything() -> Iterator[str]:
    """Yield every file and directory below the current one."""
    for folder, _, names in os.walk("."):
        yield folder
        yield from (os.path.join(folder, name) for name in names if name[-4:] != ".pyc")


def worker() -> None:
    """Run the commands that come in, one a line."""
    import softmode.experiments.call
    import softmode.training.train  # noqa: F401

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    events: list[str] = []
    sys.addaudithook(lambda event, _: events.append(event) if event in FORBIDDEN else None)
    answers, sys.stdout = sys.stdout, io.StringIO()
    for line in sys.stdin:
        found = outcome(json.loads(line))
        print(json.dumps(f"executed {events}" if events else found), file=answers, flush=True)
        events.clear()


def start(directory: str) -> subprocess.Popen[str]:
    """Start a worker in a directory."""
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=directory,
    )  # fmt: skip


def furnish(directory: Path) -> None:
    """Put into a directory what bad commands name."""
    (directory / "file.txt").write_text("no model\n")
    (directory / "empty").mkdir()
    (directory / "empty.pkl").touch()
    (directory / "full").mkdir()
    (directory / "full" / "thesis.tex").touch()
    (directory / "broken.py").write_text("def model():\n    raise SystemExit('\\x1b[2J\\n' * 1000)\n")
    os.mkfifo(directory / "fifo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="commands to run")
    parser.add_argument("--small", action="store_true", help=f"run {SMALL} commands, to see that it works")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is spoilt")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker()
        return
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        furnish(Path(directory))
        process, warm = start(directory), False
        for i in range(SMALL if arguments.small else arguments.count):
            kind, words = spoilt(random.Random(f"{arguments.seed} {i}"))
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{json.dumps(words)}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], SECONDS if warm else 60 + SECONDS)
            answer, warm = process.stdout.readline() if ready else "", True
            found = json.loads(answer) if answer else "took too long" if not ready else "killed the worker"
            if not answer:
                process.kill()
                process.wait()
                process, warm = start(directory), False
            if found != "refused":
                shown = [word if len(word) < 60 else f"{word[:30]}...({len(word)})" for word in words]
                print(f"{i}, {kind}: {shown!a}: {found}", flush=True)
                found = "BAD"
            counts[kind, found] += 1
        process.kill()
        process.wait()
    for (kind, found), number in sorted(counts.items()):
        print(f"{kind:20} {found:8} {number}")
    sys.exit(any(found == "BAD" for _, found in counts))


if __name__ == "__main__":
    main()
