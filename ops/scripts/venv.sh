#!/bin/sh
# Makes .venv from a lock file: with uv when it is there, else with venv and pip.
# Nothing is done when the lock file is the one that .venv was made from.
set -eu

lock=${1:?usage: ops/scripts/venv.sh LOCKFILE}
cd "$(dirname "$0")/../.."

digest() { # of the lock file and of what the editable install depends on
    python=$1; shift
    "$python" -c 'import hashlib, sys
print(hashlib.sha256(b"".join(open(p, "rb").read() for p in sys.argv[1:])).hexdigest())' "$@"
}

current() { # whether .venv was made from lock file $1
    [ -x .venv/bin/python ] && [ -f ".venv/.made-from-$1" ] &&
        [ "$(cat ".venv/.made-from-$1")" = "$(digest .venv/bin/python "$1" pyproject.toml)" ]
}

# The development lock holds everything of the other.
if current "$lock" || current requirements-dev.lock; then exit 0; fi

supported='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for candidate in "${PYTHON_BIN:-python3}" python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$supported" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "StripeMeter needs Python 3.11 or newer (or uv, which brings one)." >&2
    exit 1
}

# A virtualenv whose Python has gone (an upgrade, another machine) is made anew.
if [ -e .venv ] && ! .venv/bin/python -c "$supported" 2>/dev/null; then rm -rf .venv; fi

if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    echo "Installing $lock into .venv with uv ..."
    [ -x .venv/bin/python ] || uv venv --quiet --python '>=3.11' .venv
    uv pip install --quiet --python .venv/bin/python --require-hashes -r "$lock"
    [ -L .venv ] || uv pip install --quiet --python .venv/bin/python \
        --no-deps --no-build-isolation --editable .
else
    echo "Installing $lock into .venv with pip ..."
    python=$(find_python)
    if [ ! -x .venv/bin/python ]; then
        if "$python" -c 'import ensurepip' 2>/dev/null; then
            "$python" -m venv .venv
        elif "$python" -m pip --version >/dev/null 2>&1; then
            "$python" -m venv --without-pip .venv  # Debian keeps ensurepip in a package of its own
        else
            echo "Python's venv module is incomplete here: install uv, or on Debian and Ubuntu" >&2
            echo "the package python3-venv, then run make again." >&2
            exit 1
        fi
    fi
    if .venv/bin/python -m pip --version >/dev/null 2>&1; then
        pip() { .venv/bin/python -m pip "$@"; }
    else
        pip() { "$python" -m pip --python .venv/bin/python "$@"; }
    fi
    pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r "$lock"
    [ -L .venv ] || pip install --quiet --disable-pip-version-check \
        --no-deps --no-build-isolation --editable .
fi

# The command line is run from the repository: the wheel is the client only.
if [ ! -L .venv ]; then
    printf '%s\n' '#!/bin/sh' 'exec "$(dirname "$0")/python" -m stripemeter.cli "$@"' \
        >.venv/bin/stripemeter
    chmod +x .venv/bin/stripemeter
fi

digest .venv/bin/python "$lock" pyproject.toml >".venv/.made-from-$lock"
