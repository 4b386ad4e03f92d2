"""Load thousands of damaged and hostile files of every family that softmode reads, and count what comes of them.

    python benchmarks/hostile_models.py --count 1000
    python benchmarks/hostile_models.py --small      # a few files, to see that it works

Every file is a tiny valid one in which bytes, JSON, opcodes of a pickle or headers of arrays were changed. A worker
with little memory beyond its imports loads each in limited time. Nothing may be executed, and each file must load or
be refused by a ValueError of one line.
"""

import argparse
import io
import json
import math
import os
import pickle
import pickletools
import random
import resource
import select
import struct
import subprocess
import sys
import tempfile
import types
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

MEMORY, SECONDS, LONGEST = 2 * 2**30, 10.0, 300
SMALL = 12
NASTY: list[Any] = [
    -1, 0, 1, 7, 2**31, 2**62, 2**64, 10**400, 16.5, 1e308, math.inf, -math.inf, math.nan, "12", "", "x" * 10**5, None,
    True, [], {}, [-1, 2], [1, 200], [2**62, 2**62], "\n\x1b[31m", "../../x", [[[[[[[[[[1]]]]]]]]]], {"a": [None]},
]  # fmt: skip
# what must never happen while a file is loaded
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@contextmanager
def stand_in(module: str, name: str) -> Iterator[Callable[..., Any]]:
    """A function that a pickle names as module.name, which need not be there."""

    def function(*_: Any) -> None:
        raise AssertionError(f"{module}.{name} was called")

    function.__module__, function.__qualname__ = module, name
    parent, kept = module.partition(".")[0], dict(sys.modules)
    made = types.ModuleType(module)
    setattr(made, name, function)
    sys.modules |= {parent: types.ModuleType(parent), module: made}
    try:
        yield function
    finally:
        for each in (parent, module):
            sys.modules.pop(each)
            if each in kept:
                sys.modules[each] = kept[each]


ARGUMENTS = {
    "img_resolution": 16, "img_channels": 3, "label_dim": 5, "model_channels": 16, "channel_mult": [1, 2],
    "num_blocks": 1, "attn_resolutions": [8], "channels_per_head": 8, "logvar_channels": 8,
}  # fmt: skip


EDM_ARGUMENTS = {
    "img_resolution": 8, "img_channels": 1, "label_dim": 3, "label_dropout": 0.1, "model_channels": 8,
    "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "beta_min": 0.1, "M": 1000,
}  # fmt: skip
# of score_sde, whose network is that of EDM's without classes
SDE: dict[str, dict[str, Any]] = {
    "training": {"sde": "vpsde", "continuous": True},
    "data": {"image_size": 8, "num_channels": 1, "centered": True},
    "model": {
        "name": "ncsnpp", "scale_by_sigma": False, "beta_min": 0.1, "beta_max": 20.0, "embedding_type": "positional",
        "nonlinearity": "swish", "nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4],
        "conditional": True, "fir": False, "fir_kernel": [1, 3, 3, 1], "skip_rescale": True, "resblock_type": "biggan",
        "progressive": "none", "progressive_input": "none", "progressive_combine": "sum",
    },
}  # fmt: skip


def edm2() -> torch.nn.Module:
    from softmode.networks.edm2 import EDM2
    from softmode.networks.edm2_files import as_config

    torch.manual_seed(0)
    return EDM2(as_config(ARGUMENTS)).half()


def edm(**changes: Any) -> torch.nn.Module:
    from softmode.networks.edm import EDM, as_config

    torch.manual_seed(0)
    return EDM(as_config("VPPrecond", EDM_ARGUMENTS | changes)).half()


def checkpoint() -> bytes:
    """Return a checkpoint of score_sde."""
    from softmode.networks.score_sde import BLOCK, _places

    theirs = {own: name for name, own in BLOCK.items()}
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for place, (_, layer, attention) in enumerate(_places(edm(label_dim=0).float())):
        for name, value in layer.state_dict().items():
            part, _, last = name.rpartition(".")
            if not attention and part in theirs and last != "resample_filter":
                state[f"module.all_modules.{place}.{theirs[part]}.{last}"] = value
            elif not attention and not part and last != "resample_filter":
                state[f"module.all_modules.{place}.{name}"] = value
        if attention:
            width = len(layer.norm2.weight)
            within = {"GroupNorm_0.weight": (width,), "GroupNorm_0.bias": (width,)}
            within |= {f"NIN_{i}.{part}": (width,) * (1 + (part == "W")) for i in range(4) for part in "Wb"}
            state |= {f"module.all_modules.{place}.{name}": torch.ones(shape) for name, shape in within.items()}
    file = io.BytesIO()
    averages = {"decay": 0.999, "num_updates": 3, "shadow_params": list(state.values())}
    torch.save({"optimizer": {"state": {}}, "model": state, "ema": averages, "step": 3}, file)
    return file.getvalue()


def official(arguments: dict[str, Any], tensor: dict[int, Any], class_name: str = "Precond") -> bytes:
    """Return an official pickle with some arguments, the first tensor rebuilt of the given arguments by place.

    Args:
        arguments: What the network says that it was made with.
        tensor: What the first tensor is rebuilt of, by place.
        class_name: Official class of the network: of EDM2, or VPPrecond of EDM.
    """
    changed = [tensor]
    network = edm2() if class_name == "Precond" else edm()
    with stand_in("torch_utils.persistence", "_reconstruct_persistent_obj") as function:

        def rebuilt(value: torch.Tensor) -> Call:
            storage = Call(torch.storage._load_from_bytes, legacy(value))
            parts: list[Any] = [storage, 0, tuple(value.shape), value.stride(), False, OrderedDict()]
            for place, other in (changed.pop() if changed else {}).items():
                parts[place] = other
            return Call(torch._utils._rebuild_tensor_v2, *parts)

        def persistent(module: torch.nn.Module) -> Call:
            state = {
                "training": False,
                "_parameters": OrderedDict((k, rebuilt(v)) for k, v in module._parameters.items() if v is not None),
                "_buffers": OrderedDict((k, rebuilt(v)) for k, v in module._buffers.items() if v is not None),
                "_modules": OrderedDict((k, persistent(v)) for k, v in module.named_children()),
            }
            name = type(module).__name__
            if module is network:
                state |= {"_init_args": (), "_init_kwargs": arguments}
                name = class_name
            return Call(function, {"type": "class", "module_src": "import os", "class_name": name, "state": state})

        return pickle.dumps({"ema": persistent(network)})


def legacy(value: torch.Tensor) -> bytes:
    """Return a tensor's numbers as a storage of torch's legacy format, half precision."""
    numbers = value.detach().contiguous().half().numpy().tobytes()
    count = len(numbers) // 2
    parts = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    kind = b"\x80\x02(U\x07storagectorch\nHalfStorage\nU\x010U\x03cpuJ" + struct.pack("<i", count) + b"NtQ."
    return b"".join([*parts, kind, pickle.dumps(["0"], 2), struct.pack("<q", count), numbers])


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def samples() -> dict[str, bytes]:
    """Return a small valid file of every family, by a name that tells it."""
    from softmode.networks.card import Card
    from softmode.networks.classifier import Classifier
    from softmode.networks.edm2_files import as_config
    from softmode.networks.unet import UNet

    torch.manual_seed(0)
    found = {}
    for name, network, card in (
        (
            "attributes",
            UNet(1, (2, 3), 16, (4,), rms=True),
            Card(
                "unet",
                1,
                (8, 8),
                0,
                "toys",
                "grey",
                "vp:1",
                attributes={"hat": ("no", "yes"), "eye": ("a", "b", "c")},
                width=16,
                attention=(2,),
                sigma_data=0.5,
                gaussian=True,
                rms=True,
                levels=(0.002, 80.0),
            ),
        ),
        ("unet", UNet(1, (3,)), Card("unet", 1, (8, 8), 3, "toys", "binary", "vp:1", 1e-3, 50.0, 2.0)),
        ("classifier", Classifier(1, 4), Card("classifier", 1, (8, 8), 4, "toys", "grey")),
    ):
        state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
        groups, labels = (4, torch.arange(5) % 3) if name == "unet" else (1, torch.zeros(5, 2, dtype=torch.int64))
        data = {
            "data.spectrum": torch.ones(groups, 8, 8), "data.mean": torch.zeros(groups, 1, 8, 8),
            "data.images": torch.zeros(5, 1, 8, 8, dtype=torch.uint8), "data.labels": labels,
        }  # fmt: skip
        extra = data if name != "classifier" else {}
        found[f"{name}.safetensors"] = save(state | extra, {"softmode": json.dumps(asdict(card))})
    config = json.dumps(asdict(as_config(ARGUMENTS)))
    found["edm2.safetensors"] = save({k: v.contiguous() for k, v in edm2().state_dict().items()}, {"edm2": config})
    found["edm2.pkl"] = official(ARGUMENTS, {})
    found["edm.pkl"] = official(EDM_ARGUMENTS, {}, "VPPrecond")
    found["score_sde.pth"] = checkpoint()
    found["dictionary.npz"] = npz(patterns=np.ones((2, 9)), prior=np.full(2, 0.5))
    found["data.npz"] = npz(images=np.zeros((4, 1, 8, 8), np.float32))
    return found


def mutate(name: str, content: bytes, rng: random.Random, canary: str) -> bytes:
    """Return a changed file."""
    if rng.random() < 0.3:
        return some_bytes(content, rng)
    family, _, suffix = name.rpartition(".")
    if suffix == "pkl":
        return opcodes(content, rng, canary, family)
    return {"safetensors": header, "npz": entries, "pth": stored}[suffix](content, rng, canary)


def some_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change, cut, repeat or drop bytes, more often near the beginning, where the structure is."""
    changed = bytearray(content)
    reach = len(content) if rng.random() < 0.4 else min(len(content), 4000)
    start = rng.randrange(reach)
    stop = min(len(content), start + rng.choice((1, 4, 64, 1000)))
    kind = rng.randrange(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[stop:]
    if kind == 2:
        return content[:stop] + content[start:]
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[rng.randrange(reach)] = rng.choice((0, 255, 128, rng.randrange(256)))
    return bytes(changed)


def header(content: bytes, rng: random.Random, _: str) -> bytes:
    """Change an entry of a safetensors header, or of the JSON in its metadata."""
    (length,) = struct.unpack("<Q", content[:8])
    top = json.loads(content[8 : 8 + length])
    if rng.random() < 0.75:
        key = next(iter(top["__metadata__"]))
        card = json.loads(top["__metadata__"][key])
        kind = rng.randrange(12)
        if kind == 0:
            text = rng.choice(
                ("[" * 10**5, "{", "null", "[]", '{"a":' * 10**4, "9" * 10**4, "1e999", '"' + "x" * 10**6)
            )
        else:
            for _ in range(rng.choice((1, 1, 1, 3))):
                card[rng.choice([*card, "other"]) if kind > 1 else rng.choice(list(NASTY[13:16]))] = rng.choice(NASTY)
            if kind == 2:
                card.pop(rng.choice(list(card)))
            text = dumps(card)
        top["__metadata__"][key] = text
    else:
        entry = top[rng.choice([each for each in top if each != "__metadata__"])]
        field = rng.choice(("dtype", "shape", "data_offsets"))
        types_ = ("F64", "I8", "BOOL", "F8_E4M3", "F8_E5M2", "BF16", "U64", "C64", "F4", "nothing")
        entry[field] = rng.choice(types_) if field == "dtype" else rng.choice(NASTY)
    new = dumps(top).encode()
    return struct.pack("<Q", len(new)) + new + content[8 + length :]


def dumps(value: Any) -> str:
    """Return JSON, also of an integer of more digits than Python writes by default."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(limit)


def opcodes(content: bytes, rng: random.Random, canary: str, family: str = "") -> bytes:
    """Change arguments of the network of a family, or of a tensor, or some opcodes; or call something."""
    kind = rng.randrange(4) if family else rng.choice((2, 3))
    given, name, more = ARGUMENTS, "Precond", ["sigma_data", "clip_act"]
    if family == "edm":
        given, name, more = EDM_ARGUMENTS, "VPPrecond", ["beta_d", "epsilon_t", "encoder_type", "resample_filter"]
    if kind == 0:
        return official({**given, rng.choice([*given, *more]): rng.choice(NASTY)}, {}, name)
    if kind == 1:
        value = rng.choice([*NASTY, (2**62,), (2**31, 2**31), (1, 1, 1), (-1, 1), (0, 2**62), ("a",)])
        return official(given, {rng.choice((0, 1, 2, 3)): value}, name)
    places = [place for _, _, place in pickletools.genops(content)]
    place = rng.choice(places)
    if kind == 2:
        payloads = (
            b"cposix\nsystem\n" + pickle.dumps((f"touch {canary}",), 2)[2:-1] + b"R",
            b"cbuiltins\neval\n" + pickle.dumps((f"open({canary!r}, 'w')",), 2)[2:-1] + b"R",
            b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"\x8e" + struct.pack("<Q", 2**62), b"r" + b"\xff" * 4, b"(" * 10**5,
            b"\x95" + struct.pack("<Q", 2**40), b"\x96" + struct.pack("<Q", 2**40), b"I" + b"9" * 10**4 + b"\n",
        )  # fmt: skip
        return content[:place] + rng.choice(payloads) + content[place:]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 4))):
        changed[rng.choice(places)] = ord(rng.choice(pickletools.opcodes).code)
    return bytes(changed)


def entries(content: bytes, rng: random.Random, canary: str) -> bytes:
    """Change the header of an array, or its entry, in a zip archive that is valid otherwise."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            data = old.read(name)
            written = name
            if name == chosen:
                data = array(data, rng, canary)
                written = rng.choice((name, name, name, name, "other.npy", "../x.npy", "x" * 300))
            new.writestr(written, data, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)))
    return file.getvalue()


def stored(content: bytes, rng: random.Random, canary: str) -> bytes:
    """Change the pickle or the numbers of a storage of what torch.save wrote."""
    file, compressed = io.BytesIO(), rng.choice((zipfile.ZIP_STORED,) * 5 + (zipfile.ZIP_DEFLATED,))
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        names = old.namelist()
        chosen = rng.choice((*[name for name in names if name.endswith("data.pkl")] * len(names), *names))
        for name in names:
            data = old.read(name)
            if name == chosen and name.endswith("data.pkl"):
                data = opcodes(data, rng, canary)
            elif name == chosen:
                data = rng.choice((b"", bytes(2**20), some_bytes(data or b"0", rng)))
            new.writestr(name, data, compressed)
    return file.getvalue()


def array(content: bytes, rng: random.Random, canary: str) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return some_bytes(content, rng)
    if kind == 1:
        return bytes(rng.choice((2**27, 10, 0)))
    (length,) = struct.unpack("<H", content[8:10])
    shape = rng.choice(("(2,)", "(4611686018427387904,)", "(-1,)", "(0, 4611686018427387904)", "(2.5,)", "'a'", "()",
                        "(1,)" * 3, "(2, 9)", "((1,), 2)", "(1" + ", 1" * 99 + ")"))  # fmt: skip
    dtype = rng.choice(
        ("<f8", ">f8", "|O", "<U9", "<c16", "<M8[s]", "|V8", "<f2", "?", "<i8", "", "f99", "[('a', '<f8')]")
    )
    new = f"{{'descr': {dtype!r}, 'fortran_order': {rng.choice(('True', 'False', '3'))}, 'shape': {shape}, }}\n"
    new = "(" * 5000 if rng.random() < 0.1 else new
    data = pickle.dumps(Call(os.system, f"touch {canary}")) if dtype == "|O" else content[10 + length :]
    return content[:8] + struct.pack("<H", len(new)) + new.encode() + data


def load(path: str) -> None:
    """Load a file as what its name says."""
    from softmode.contract import check_denoiser
    from softmode.data import read_images
    from softmode.exact.dictionary import parse_dictionary
    from softmode.lattice import ReceptiveField
    from softmode.networks.load import load_classifier, load_model

    family = Path(path).name.partition("-")[2].partition(".")[0]
    if family == "dictionary":
        parse_dictionary(path, 0, ReceptiveField.box(3))
    elif family == "data":
        read_images(path, (1, 8, 8))
    elif family == "classifier":
        load_classifier(path)
    else:
        if family == "score_sde":
            Path(path).with_suffix(".json").write_text(json.dumps(SDE))
        model = load_model(f"{family}:{path}" if family in ("edm", "edm2", "score_sde") else path)
        if math.prod(model.shape) < 10**4:
            check_denoiser(model.denoiser(), model, torch.float32, torch.device("cpu"), 1.0)


def outcome(path: str) -> str:
    """Return what comes of loading a file: loaded, refused, or what is wrong."""
    try:
        load(path)
    except ValueError as error:
        text = str(error)
        return "refused" if "\n" not in text and len(text) <= LONGEST else f"not one short line: {text[:400]!r}"
    except BaseException as error:
        return f"raised {type(error).__name__}: {str(error)[:200]!r}"
    return "loaded"


def worker() -> None:
    """Load the files whose paths come in, one a line."""
    # imported beforehand, so that the limit on memory is on what loading a file takes
    import softmode.contract
    import softmode.data
    import softmode.exact.dictionary
    import softmode.networks.edm2_files
    import softmode.networks.load
    import softmode.networks.score_sde  # noqa: F401

    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    events: list[str] = []
    sys.addaudithook(lambda event, _: events.append(event) if event in FORBIDDEN else None)
    for line in sys.stdin:
        found = outcome(line.strip())
        print(json.dumps(f"executed {events}" if events else found), flush=True)
        events.clear()


def start() -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--worker"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="files to load")
    parser.add_argument("--small", action="store_true", help=f"load {SMALL} files, to see that it works")
    parser.add_argument("--seed", type=int, default=0, help="seed of the changes")
    parser.add_argument("--keep", type=Path, help="directory for files that do something else than load or be refused")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker()
        return
    counts: Counter[tuple[str, str]] = Counter()
    valid, process = samples(), start()
    with tempfile.TemporaryDirectory() as directory:
        canary = Path(directory, "executed")
        for i in range(-len(valid), SMALL if arguments.small else arguments.count):
            name = list(valid)[i % len(valid)]
            path = Path(directory, f"{i + len(valid)}-{name}")
            # the first of each is the valid file, which must load
            changed = (
                valid[name] if i < 0 else mutate(name, valid[name], random.Random(f"{arguments.seed} {i}"), str(canary))
            )
            path.write_bytes(changed)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], SECONDS if i >= 0 else 60 + SECONDS)
            answer = process.stdout.readline() if ready else ""
            found = json.loads(answer) if answer else "took too long" if not ready else "killed the worker"
            if not answer:
                process.kill()
                process.wait()
                process = start()
            found = "executed something" if canary.exists() else found
            if found not in ("loaded", "refused") or (i < 0 and found != "loaded"):
                print(f"{path.name}: {found}", flush=True)
                found = "BAD"
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    (arguments.keep / path.name).write_bytes(changed)
            counts[name, found] += 1
            path.unlink()
    process.kill()
    for name in valid:
        print(f"{name:24}", ", ".join(f"{kind} {n}" for (each, kind), n in sorted(counts.items()) if each == name))
    sys.exit(any(kind == "BAD" for _, kind in counts))


if __name__ == "__main__":
    main()
