#!/usr/bin/env bash
# Links the sources in the layout of the installed package, for tools that do not follow setuptools' editable finder:
# .venv/src links each folder (pyright), .venv/files each file (import-linter, which does not enter linked folders).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rm -rf .venv/src .venv/files
mkdir -p .venv/src/emotivetalk .venv/files/emotivetalk
for path in emotivetalk/* models media corpus evaluation training client actors; do
    [[ "$path" != */__pycache__ ]] || continue
    ln -s "$PWD/$path" ".venv/src/emotivetalk/$(basename "$path")"
    cp -rs "$PWD/$path" ".venv/files/emotivetalk/$(basename "$path")"
done
