"""The client as it is installed: its wheel, what it imports, its command."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hourglass_client import __version__
from tests.service.slowmodel import flat_png, service_process
from tests.service.toymodels import publish_toy

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "clients" / "python"
SOURCE = PROJECT / "src" / "hourglass_client"
NEEDED = {"httpx", "numpy", "PIL", "tqdm"}
EXTRAS = {"aiomqtt", "asyncua", "av", "fsspec", "pandas", "watchfiles"}  # imported where they are used, and only there


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_client_imports_only_what_its_distribution_needs() -> None:
    imported = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative"
                imported.add((node.module or "").partition(".")[0])

    assert imported - sys.stdlib_module_names == NEEDED | EXTRAS | {"hourglass_client"}


def test_importing_the_client_and_its_command_imports_no_extra() -> None:
    code = (
        f"import hourglass_client.__main__, sys; print(sorted({EXTRAS | {'service', 'training'}} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=SOURCE.parent, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_the_wheel_holds_the_code_the_command_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"hourglass_client-{__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()

    tracked = subprocess.run(
        ["git", "ls-files", "."], cwd=SOURCE.parent, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in names if ".dist-info/" not in name} == set(tracked)
    assert f"{info}/licenses/LICENSE" in names
    assert (PROJECT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert "License-Expression: MIT" in metadata
    assert "hourglass = hourglass_client.__main__:main" in scripts


def test_the_command_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    publish_toy(tmp_path / "models")
    (tmp_path / "in.png").write_bytes(flat_png(4))

    with service_process(tmp_path / "models") as process:
        command = [sys.executable, str(site / "bin" / "hourglass"), "--url", process.url]
        done = subprocess.run(
            [*command, "denoise", "in.png", "out.png"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
