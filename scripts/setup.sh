#!/usr/bin/env bash
# Installs the package with the given extras into .venv, after checking for the Debian packages that follow:
#   scripts/setup.sh text,train,dev libespeak-ng1 flite
# pip runs again only when pyproject.toml, constraints.txt, the Python version or the folder's path has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$1
shift
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '%s\n' "setup: $*"; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
        if is_recent "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

installed() { [[ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" == "install ok installed" ]]; }

# Installs Debian packages as root; otherwise prints the command and fails.
install_debian() {
    if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        say "installing the Debian packages $*"
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
    else
        echo "error: missing: $*. Install with: sudo apt-get install $*" >&2
        exit 1
    fi
}

missing=()
for package in "$@"; do
    installed "$package" || missing+=("$package")
done
if [[ ${#missing[@]} -gt 0 ]]; then install_debian "${missing[@]}"; fi

python=$(find_python)
if [[ -z "$python" ]]; then
    install_debian python3 python3-venv
    python=$(find_python)
    if [[ -z "$python" ]]; then
        echo "error: Python 3.11 or newer is required. Install it and pass its path: make PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    install_debian "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi

key=$({ cat pyproject.toml constraints.txt; "$python" -VV; pwd; } | sha256sum | cut -c1-16)
stamp=".venv/ready-$extras"
if [[ -f "$stamp" && "$(cat "$stamp")" == "$key" ]] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
if ! is_recent .venv/bin/python; then
    say "making .venv with $("$python" -V)"
    "$python" -m venv --clear .venv
fi
say "installing emotivetalk[$extras] into .venv under constraints.txt (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[$extras]" </dev/null
scripts/link_sources.sh
echo "$key" >"$stamp"
say "ready"
