"""Pack a model folder as an installable package: python scripts/wheel_model.py outputs/esco/model [dist]

The wheel `jobmatch-model-<version>` holds the folder and one function, `path()`. On another machine:

    pip install jobmatch dist/jobmatch_model_….whl
    jobmatch match ad.txt --model "$(python -c 'import jobmatch_model; print(jobmatch_model.path())')"
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from jobmatch.core.runs import read_json

SETUP = """from setuptools import setup

setup(name="jobmatch-model", version="{version}", description="A model folder of jobmatch: {taxonomy}", packages=["jobmatch_model"],
      package_data={{"jobmatch_model": ["model/**"]}}, python_requires=">=3.11")
"""
MODULE = '''"""A model folder of jobmatch."""

from pathlib import Path


def path() -> Path:
    "The model folder, for `Matcher.load` or `jobmatch match --model`."
    return Path(__file__).parent / "model"
'''


def main(model: str, out: str = "dist") -> None:
    folder = Path(model).absolute()
    if not (folder / "matcher.json").is_file():
        sys.exit(f"{folder}: no model folder (no matcher.json); `make run` makes one")
    config = read_json(folder / "matcher.json")
    with tempfile.TemporaryDirectory() as d:
        package = Path(d) / "jobmatch_model"
        package.mkdir()
        (Path(d) / "setup.py").write_text(SETUP.format(version=f"0+{config['model_version']}", taxonomy=config["taxonomy_version"].replace('"', "")))
        (package / "__init__.py").write_text(MODULE)
        shutil.copytree(folder, package / "model")
        subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
                        "--wheel-dir", str(Path(out).absolute()), d], check=True)
    print(*sorted(str(p) for p in Path(out).glob(f"jobmatch_model-0+{config['model_version']}*.whl")))


if __name__ == "__main__":
    main(*sys.argv[1:])
