#!/usr/bin/env bash
# Builds the wheel of emotivetalk-client, the client without torch and Ray:
#   scripts/build_client.sh [folder]
# The folder of the wheel is dist/ by default. PYTHON names the interpreter that builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-dist}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$out" "$tree/emotivetalk"
cp LICENSE client/pyproject.toml "$tree"
cp emotivetalk/{__init__,errors,files,limits,timebase}.py emotivetalk/py.typed "$tree/emotivetalk"
cp -r emotivetalk/request emotivetalk/wire client "$tree/emotivetalk"
rm "$tree/emotivetalk/client/pyproject.toml"
find "$tree" -name __pycache__ -prune -exec rm -rf {} +
"${PYTHON:-.venv/bin/python}" -m pip wheel --quiet --no-deps --wheel-dir "$out" "$tree"
