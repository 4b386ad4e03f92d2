"""What may import what: no import upward, no circle, no terminal in figures; and files that stay short."""

import ast
import statistics
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import softmode

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

# From low to high. A group is a module of softmode or a package with all that is in it; it may import from its own
# layer and from every lower one. A new module belongs in one of them.
LAYERS = (
    ("message", "files", "rounding", "bounds", "estimate", "beta", "settings", "device", "labels", "inside"),
    ("process", "lattice"),
    ("misreading", "of_classes", "per_state", "denoiser", "timesteps", "adapted", "streams", "counter_noise"),
    (
        "samplers",
        "simulation",
        "langevin",
        "critical",
        "finite_size",
        "weighted_fit",
        "posterior",
        "cumulative",
        "exact",
        "formulas",
        "observe",
        "comparison",
    ),
    ("data", "model", "levels", "misuse", "contract", "soundness", "networks", "targets", "of_attributes"),
    ("guidance", "training", "runs", "plots"),
    ("experiments",),
    ("arguments", "cli", "__main__", "__init__"),
)
HEIGHT = {group: height for height, layer in enumerate(LAYERS) for group in layer}
# what one experiment may use of another
SHARED = {
    "config", "cost", "measure", "analyse", "trials", "sampling", "critical", "decided", "tables", "twins",
    "adjoint_measure", "adjoint_trials", "outcomes",
}  # fmt: skip
TERMINAL = ("rich", "softmode.runs.report")

SOURCE_LINES, MEDIAN_LINES, TEST_LINES = 350, 150, 400

Graph = Mapping[str, Iterable[str]]


def files() -> dict[str, Path]:
    """Return every module of softmode by its dotted name."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((SOURCE / "softmode").rglob("*.py"))
    }


def statements(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield every import, inside functions too, except those that only a type checker sees."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            yield from statements(node.orelse)
        else:
            yield from statements(ast.iter_child_nodes(node))


def imports(source: str, module: str, known: Iterable[str], package: bool = False) -> set[str]:
    """Return the modules that a source imports: `from softmode import process` names softmode.process, if known."""
    found = set()
    for node in statements(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = node.module or ""
        if node.level:
            parts = module.split(".")
            above = parts[: len(parts) - node.level + package]
            base = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            found.add(inner if inner in known else base)
    return found


def group(module: str) -> str:
    """Return the first name below softmode, `__init__` of the package itself."""
    return [*module.split("."), "__init__"][1]


def upward(graph: Graph) -> list[str]:
    """Return every import of a higher layer by a lower one; modules without a layer are another test's."""
    return [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in sorted(targets)
        if HEIGHT.get(group(target), -1) > HEIGHT.get(group(module), len(LAYERS))
    ]


def circle(graph: Graph) -> list[str]:
    """Return one circle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def groups(graph: Graph) -> dict[str, set[str]]:
    """Return which group imports which others."""
    found: dict[str, set[str]] = {}
    for module, targets in graph.items():
        found.setdefault(group(module), set()).update({group(target) for target in targets} - {group(module)})
    return found


def draws(module: str) -> bool:
    """Return whether a module makes figures."""
    return group(module) == "plots" or (group(module) == "experiments" and module.endswith(".figures"))


def terminal(graph: Graph) -> list[str]:
    """Return every import of a terminal or its report by a module that makes figures."""
    return [
        f"{module} imports {target}"
        for module, targets in graph.items()
        if draws(module)
        for target in sorted(targets)
        if any(f"{target}.".startswith(f"{name}.") for name in TERMINAL)
    ]


def trespasses(graph: Graph) -> list[str]:
    """Return every import by one experiment of a part of another that is not shared."""
    found = []
    for module, targets in graph.items():
        for target in sorted(targets):
            own, other = module.split("."), target.split(".")
            # deeper than softmode.experiments.NAME: parts of an experiment, not the list or the nouns beside it
            within = all(group(name) == "experiments" and name.count(".") > 2 for name in (module, target))
            if within and own[2] != other[2] and other[3] not in SHARED:
                found.append(f"{module} imports {target}")
    return found


FILES = files()
EVERYTHING = {
    name: imports(path.read_text(encoding="utf-8"), name, FILES, path.name == "__init__.py")
    for name, path in FILES.items()
}
GRAPH = {name: {target for target in targets if target in FILES} for name, targets in EVERYTHING.items()}


def test_every_module_has_a_layer() -> None:
    """A new module is placed in LAYERS before anything imports it."""
    assert [module for module in FILES if group(module) not in HEIGHT] == []


def test_every_import_of_softmode_is_of_a_module() -> None:
    """A name that is no file would escape the tests below."""
    for module, targets in EVERYTHING.items():
        assert {name for name in targets if name.split(".")[0] == "softmode"} <= set(FILES), module


def test_no_import_goes_up() -> None:
    assert upward(GRAPH) == []


def test_modules_import_each_other_in_no_circle() -> None:
    assert circle(GRAPH) == []


def test_groups_import_each_other_in_no_circle() -> None:
    """Also where no two modules do: two packages of one layer stand one on the other, not both."""
    assert circle(groups(GRAPH)) == []


def test_figures_import_no_terminal() -> None:
    assert terminal(EVERYTHING) == []


def test_an_experiment_uses_only_what_another_shares() -> None:
    """Its config, its measurement and its analysis; never its figures."""
    assert trespasses(GRAPH) == []


def lines(folder: Path) -> dict[str, int]:
    """Return the number of lines of every module in a folder."""
    return {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(folder.rglob("*.py"))
    }


@pytest.mark.parametrize(("folder", "most"), [("src", SOURCE_LINES), ("tests", TEST_LINES)])
def test_no_file_is_long(folder: str, most: int) -> None:
    assert {name: count for name, count in lines(ROOT / folder).items() if count > most} == {}


def test_half_of_the_modules_are_short() -> None:
    """Files that only make a folder a package do not count."""
    counted = [count for name, count in lines(SOURCE).items() if not name.endswith("__init__.py")]
    assert statistics.median(counted) < MEDIAN_LINES


KNOWN = ["softmode", "softmode.process", "softmode.runs", "softmode.runs.store", "softmode.runs.report"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import rich.table, softmode.process", {"rich.table", "softmode.process"}),
        ("import softmode.runs.store as s", {"softmode.runs.store"}),
        ("from softmode import process, probe", {"softmode.process", "softmode"}),
        ("from softmode.runs import store", {"softmode.runs.store"}),
        ("from softmode.runs.store import Run", {"softmode.runs.store"}),
        ("from . import report", {"softmode.runs.report"}),
        ("from .report import show", {"softmode.runs.report"}),
        ("from .. import process", {"softmode.process"}),
        ("from ..process import VP", {"softmode.process"}),
        ("def f():\n    if f:\n        from softmode import process", {"softmode.process"}),
        ("class A:\n    async def f(self):\n        with self:\n            import rich", {"rich"}),
        ("try:\n    import a\nexcept ImportError:\n    import b\nelse:\n    import c", {"a", "b", "c"}),
        ("match f:\n    case 1:\n        import rich", {"rich"}),
        ("if TYPE_CHECKING:\n    import rich\nelse:\n    import rich.live", {"rich.live"}),
        ("import typing as t\nif t.TYPE_CHECKING:\n    import rich", {"typing"}),
        ("if DEBUG:\n    import rich", {"rich"}),
    ],
)
def test_every_form_of_import_is_read(source: str, expected: set[str]) -> None:
    assert imports(source, "softmode.runs.store", KNOWN) == expected


def test_no_public_name_is_a_module_s() -> None:
    """A module that is imported takes the name's place in the package."""
    assert not {path.stem for path in (SOURCE / "softmode").iterdir()} & set(softmode.__all__)


def test_relative_imports_of_a_package_begin_in_it() -> None:
    assert imports("from . import store\nfrom .. import process", "softmode.runs", KNOWN, package=True) == {
        "softmode.runs.store",
        "softmode.process",
    }


def test_planted_faults_are_found() -> None:
    """Each rule names a fault that breaks it alone, and is silent about what is allowed."""
    patch, probe = "softmode.experiments.patch", "softmode.experiments.probe"
    assert upward({"softmode.formulas.landau": ["softmode.guidance.weights", "softmode.process"]}) == [
        "softmode.formulas.landau imports softmode.guidance.weights"
    ]
    assert upward({"softmode.process": ["softmode"]}) == ["softmode.process imports softmode"]
    assert upward({"softmode.cli": ["softmode.experiments"], "softmode.exact.patch": ["softmode.exact.mixture"]}) == []
    within = {"softmode.exact.a": ["softmode.observe.b"], "softmode.observe.c": ["softmode.exact.d"]}
    assert upward(within) == circle(within) == []
    assert set(circle(groups(within))) == {"exact", "observe"}
    assert len(circle({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]})) == 4
    assert terminal({f"{patch}.figures": ["rich.table", "richer"], "softmode.plots.axes": ["softmode.runs.report"],
                     f"{patch}.analyse": ["rich"]}) == [
        f"{patch}.figures imports rich.table",
        "softmode.plots.axes imports softmode.runs.report",
    ]  # fmt: skip
    assert trespasses({f"{patch}.figures": [f"{probe}.figures", f"{patch}.analyse", f"{probe}.analyse"]}) == [
        f"{patch}.figures imports {probe}.figures"
    ]
    assert trespasses({f"{patch}.measure": ["softmode.experiments.experiment", "softmode.runs.engine"]}) == []
