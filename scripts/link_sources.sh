#!/usr/bin/env bash
# Lays the package out as it is installed, for tools that do not follow setuptools' editable finder: .venv/src has a
# link to each folder (pyright), .venv/files a link to each file (import-linter, which does not enter linked folders).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rm -rf .venv/src .venv/files
mkdir -p .venv/src/emotivetalk .venv/files/emotivetalk
for path in emotivetalk/* models media corpus evaluation training client actors; do
    [[ "$path" != */__pycache__ ]] || continue
    ln -s "$PWD/$path" ".venv/src/emotivetalk/$(basename "$path")"
    cp -rs "$PWD/$path" ".venv/files/emotivetalk/$(basename "$path")"
done
