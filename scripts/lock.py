"""Write requirements/lock.txt: the versions in this environment of all that the project asks for.

The closure of the dependencies in pyproject.toml, of the extra `dev` and of the extras that it
names is taken, nothing else that happens to be installed. Local version labels (`+cpu`) are left
out, so that any index serves the file.
"""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HEAD = """\
# Versions that go together: the library, its extras, the peers of the benchmarks, the checks and
# the docs. 'make lock' writes this file from the environment in use.
"""


def closure(wanted: list[Requirement]) -> dict[str, str]:
    """Name and installed version of these requirements and all that they need here."""
    found: dict[str, str] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in done:
            continue
        done.add(key)
        distribution = importlib.metadata.distribution(requirement.name)
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            sys.exit(f"{requirement} is asked for, {distribution.version} is installed")
        found[key[0]] = distribution.version.partition("+")[0]
        environments = [{"extra": extra} for extra in requirement.extras] or [{"extra": ""}]
        for line in distribution.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate(e) for e in environments):
                wanted.append(needed)
    return found


def main() -> None:
    """Write the file."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)
    project = settings["project"]
    lines = [*settings["build-system"]["requires"], *project["dependencies"]]
    extras = project["optional-dependencies"]
    named = [Requirement(line) for line in extras["dev"] if line.startswith(project["name"])]
    for extra in {"dev"}.union(*(requirement.extras for requirement in named)):
        lines += [line for line in extras[extra] if not line.startswith(project["name"])]
    found = closure([Requirement(line) for line in lines])
    pins = "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
    (ROOT / "requirements" / "lock.txt").write_text(HEAD + pins, encoding="utf-8")


if __name__ == "__main__":
    main()
