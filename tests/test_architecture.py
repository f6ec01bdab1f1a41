"""The layers of the package, the one home of each library, and what an import costs."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import finch_middleware

PACKAGE = Path(finch_middleware.__file__).parent
ROOT = PACKAGE.parent

#: From the top down, as a request is told: a module imports only from lines below its own. A
#: folder is one name, and its own files may import each other.
LAYERS = """
    cli
    testing | __init__
    adapters
    middleware
    connect
    assembly
    callback | invitations
    begin | duplicates | binding | webhooks
    connections
    exchange | operations | web
    finch | tickets
    config | hooks
    crypto | storage
    attempts
    records
    errors | outcomes
    secret
"""
LEVEL = {
    name.strip(): depth
    for depth, line in enumerate(LAYERS.strip().splitlines())
    for name in line.split("|")
}

#: The one home of each library: the names of LAYERS, or a file, that may import it.
HOMES = {
    "requests": {"finch.transport", "cli.demo", "testing.fake_finch"},
    "urllib3": {"finch.transport"},
    "cryptography": {"crypto.vault"},
    "sqlalchemy": {"storage.sql"},
    "psycopg": {"storage.sql"},
    "redis": {"storage.redis"},
    "finch": {"finch.sdk"},
    "click": {"cli"},
    "django": {"adapters.django", "testing.django"},
    "flask": {"adapters.flask"},
    "starlette": {"adapters.asgi"},
    "pytest": {"testing"},
    "werkzeug": {"web", "outcomes", "errors", "adapters", "cli", "testing"},
}
#: Who may name a storage backend: it knows every concrete class, or makes one for a test.
KNOWS_BACKENDS = {"__init__", "storage", "cli", "testing"}

#: The families: their members never import each other. A file or folder is a member, or shared
#: by all of them and imports none.
FAMILIES = ["storage.sql.dialects", "adapters", "cli"]
SHARED = {"protocol", "spool", "open", "deployment", "serving"}

Import = tuple[str, str]


def module_of(path: Path) -> str:
    """The module's name below the package; a folder's own is the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def within(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


def imports_of(tree: ast.AST, *, checked: bool = False) -> Iterator[tuple[str, bool]]:
    """Every module that *tree* imports, and whether only the type checker sees that."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, checked) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
            folders = [name for name in names if is_module(name)]
            yield from ((name, checked) for name in folders or [base])
        else:
            typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            yield from imports_of(node, checked=checked or typing)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return within(name, PACKAGE.name) and (path.is_dir() or path.with_suffix(".py").is_file())


#: Types of higher layers that an option's function gets: only the type checker imports them.
TYPES_OF_OPTIONS = [
    (f"config.{module}", name)
    for module in ("options", "settings")
    for name in ("finch.webhook", "hooks.events", "hooks.status", "web.request")
]

FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
OURS: list[Import] = []
THEIRS: list[Import] = []
for module, tree in TREES.items():
    for name, checked in imports_of(tree):
        if within(name, PACKAGE.name):
            ours = (module, name.removeprefix(PACKAGE.name).lstrip(".") or "__init__")
            if not (checked and ours in TYPES_OF_OPTIONS):
                OURS.append(ours)
        elif not checked and name.partition(".")[0] not in sys.stdlib_module_names:
            THEIRS.append((module, name.partition(".")[0]))


def family(module: str) -> str:
    return module.partition(".")[0]


def member(module: str, folder: str) -> str | None:
    """The member of the family in *folder* that a module is, or is a part of."""
    if not module.startswith(f"{folder}."):
        return None
    name = module.removeprefix(f"{folder}.").partition(".")[0]
    return None if name in SHARED else name


def test_the_root_holds_at_most_eighteen_files() -> None:
    root = [path.name for path in PACKAGE.glob("*.py")]

    assert len(root) <= 18, sorted(root)


def test_every_module_has_its_layer_and_every_layer_its_modules() -> None:
    assert {family(module) for module in FILES} == set(LEVEL)


def test_imports_lead_downward_only() -> None:
    upward = [
        f"{module} imports {name}"
        for module, name in OURS
        if family(module) != family(name) and LEVEL[family(module)] >= LEVEL[family(name)]
    ]

    assert len(OURS) > 100
    assert upward == []


@functools.cache
def loaded_by(module: str) -> set[str]:
    """Our modules that the module loads when it is imported."""
    statements = [n for n in TREES[module].body if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {name for name, _ in imports_of(ast.Module(statements, []))}
    ours = {n.removeprefix(PACKAGE.name).lstrip(".") for n in names if within(n, PACKAGE.name)}
    return ours & set(FILES) - {module}


@functools.cache
def chain_from(module: str) -> list[str]:
    """The longest chain of imports that begins with the module."""
    chains = [chain_from(name) for name in loaded_by(module)]
    return [module, *max(chains, key=len, default=[])]


def test_no_chain_of_imports_has_more_than_ten_files() -> None:
    chains = [chain for module in FILES if len(chain := chain_from(module)) > 10]

    assert chains == []


def test_no_file_loads_more_than_fourteen_of_ours() -> None:
    many = {module: n for module in FILES if (n := len(loaded_by(module))) > 14}

    assert many == {}


@pytest.mark.parametrize("folder", FAMILIES)
def test_the_members_of_a_family_do_not_import_each_other(folder: str) -> None:
    sideways = [
        f"{module} imports {name}"
        for module, name in OURS
        if module.startswith(f"{folder}.")
        and member(name, folder) not in (None, member(module, folder))
    ]

    assert len({member(module, folder) for module in FILES} - {None}) >= 3
    assert sideways == []


def test_the_names_of_shared_files_are_those_of_files() -> None:
    names = {module.rpartition(".")[2] for module in FILES}

    assert SHARED - names == set()


def test_only_the_storage_folder_knows_a_backend() -> None:
    backends = ("storage.memory", "storage.sql", "storage.redis")
    knowing = {family(module) for module, name in OURS if name.startswith(backends)}

    assert "storage" in knowing
    assert knowing <= KNOWS_BACKENDS


def test_the_fake_finch_imports_nothing_of_ours() -> None:
    fake = "testing.fake_finch"

    foreign = [(m, name) for m, name in OURS if within(m, fake) and not within(name, fake)]

    assert any(within(module, fake) for module in FILES)
    assert foreign == []


def test_every_library_has_one_home_and_every_home_its_library() -> None:
    strangers = [
        f"{module} imports {library}"
        for module, library in THEIRS
        if not any(within(module, home) for home in HOMES.get(library, ()))
    ]
    empty = [
        f"{home} does not import {library}"
        for library, homes in HOMES.items()
        for home in homes
        if not any(within(module, home) for module, name in THEIRS if name == library)
    ]

    assert strangers == []
    assert empty == []


@pytest.mark.parametrize("folder", ["finch_middleware", "examples", "benchmarks"])
def test_no_file_is_longer_than_400_lines(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))

    long = {str(f.relative_to(ROOT)): n for f in files if (n := f.read_text().count("\n")) > 400}

    assert long == {}


HEAVY = ["requests", "urllib3", "sqlalchemy", "cryptography", "werkzeug", "click", "django"]


def loaded_after(script: str) -> set[str]:
    """The modules in a fresh process that has run *script*."""
    shown = f"{script}\nimport sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_importing_the_package_loads_no_library() -> None:
    assert not loaded_after("import finch_middleware") & set(HEAVY)


def test_the_two_names_of_every_application_load_little_beside_its_framework() -> None:
    framework = loaded_after("import flask")
    ours = loaded_after("import flask; from finch_middleware import FinchConnect, FinchMiddleware")

    more = ours - framework
    assert not {name.partition(".")[0] for name in more} - {"finch_middleware", "difflib"}
    assert len(more) <= 29


def test_construction_loads_what_a_request_needs_and_no_other_storage() -> None:
    script = """
from finch_middleware import FinchConnect
FinchConnect(client_id="c", client_secret="s", redirect_uri="http://localhost/finch/callback",
             products=["company"], storage="memory://", key="k1:" + "A" * 43 + "=", spool=None)
"""
    loaded = loaded_after(script)

    assert loaded >= {"requests", "cryptography", "finch_middleware.callback"}
    assert not loaded & {"sqlalchemy", "redis", "finch", "click", "asyncio"}


@pytest.mark.parametrize("name", finch_middleware.__all__)
def test_every_public_name_loads_and_has_a_docstring(name: str) -> None:
    value = getattr(finch_middleware, name)

    # A union, as Outcome is, has no docstring of its own: its members have.
    members = getattr(value, "__args__", (value,))
    # A dataclass without one is given its signature, and an error its parent's.
    docs = [member.__doc__ or "" for member in members]
    assert all(doc.strip() and not doc.startswith(f"{name}(") for doc in docs)
    assert name in dir(finch_middleware)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'manager'"):
        _ = finch_middleware.manager  # the very subject
