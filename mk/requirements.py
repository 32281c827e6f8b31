"""Prints what pyproject.toml requires at run time and for the named extras."""

import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]

print("\n".join(project["dependencies"]))

for extra in sys.argv[1:]:
    print("\n".join(project["optional-dependencies"][extra]))
