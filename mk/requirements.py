"""Prints the run-time requirements that pyproject.toml declares, one a line."""

import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]

print("\n".join(project["dependencies"]))
