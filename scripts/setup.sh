# shellcheck shell=bash
# Sourced by scripts/demo, scripts/test and scripts/programs: makes ready a fresh Debian 12
# machine with Python 3.11 or newer. Only what is missing is installed, so the second run takes
# seconds.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$REPOSITORY/.venv
STATE=$REPOSITORY/.stack
SETUP_LOG=$STATE/setup.log
POLICY=/usr/sbin/policy-rc.d

DEBIAN_PACKAGES=(
    python3 python3-venv
    redis-server
    php-cli php-fpm php-redis php-sqlite3 php-mysql php-mbstring php-xml
    nginx-light
    dokuwiki
    wrk
    libcurl4 libssl3  # mongod is linked against them
)

# The forge and the outbox are tested on MariaDB too; a browser looks at a site through the bridge;
# valgrind counts instructions; the files in deploy/ are for Apache, lighttpd and systemd.
# shellcheck disable=SC2034 # scripts/test and scripts/programs use it
TEST_PACKAGES=(
    mariadb-server-core php-nrk-predis memcached haproxy chromium valgrind
    apache2-bin lighttpd lighttpd-mod-openssl logrotate systemd
)

say() { printf '%s\n' "$*" >&2; }

# step WORDS -- COMMAND…: one line for a person, the output to the log, shown when it fails.
step() {
    local words=$1
    shift 2
    printf '%s … ' "$words" >&2
    local started=$SECONDS offset=0
    [ -e "$SETUP_LOG" ] && offset=$(wc -c <"$SETUP_LOG")
    # 9 is the lock of set_up: a service that a package starts must not inherit it.
    if "$@" >>"$SETUP_LOG" 2>&1 </dev/null 9>&-; then
        say "done ($((SECONDS - started)) s)"
    else
        local code=$?
        say "failed (status $code)"
        tail -c "+$((offset + 1))" "$SETUP_LOG" | tail -n 40 >&2
        say "The whole output is in $SETUP_LOG"
        return "$code"
    fi
}

# Run as root with the file of the policy and a command: while the command runs, no package
# starts its service, and nothing fails where there is no systemd. Demo and tests run servers of
# their own. A policy that somebody else made stays as it is; one of a killed run is ours.
# shellcheck disable=SC2016 # it is another shell that expands this
WITHOUT_SERVICES='
policy=$1 mark="# while the bridge installs packages"
shift
if [ ! -e "$policy" ] || grep -qxF "$mark" "$policy"; then
    trap "rm -f -- \"\$policy\"" EXIT
    printf "%s\n" "#!/bin/sh" "$mark" "exit 101" >"$policy" && chmod 755 "$policy" || exit
fi
"$@"
'

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_debian PACKAGE…: installs those of them that are missing.
install_debian() {
    local missing=() package
    if ! command -v dpkg-query >/dev/null; then
        say "This is not Debian. What is needed from Debian 12: $*"
        return 0
    fi
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        # Without a terminal sudo must not stop to ask for a password.
        if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
            sudo -v || return 1
            as_root=(sudo)
        else
            say "These Debian packages are missing, and only root can install them:"
            say "    ${missing[*]}"
            say "As root, run this, then start the script again:"
            say "    apt-get update && apt-get install --no-install-recommends ${missing[*]}"
            return 1
        fi
    fi
    # dokuwiki asks questions in a dialog, a new php asks about its old settings: defaults for all.
    local quietly=(env DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true)
    step "Debian: read the package lists" -- \
        "${as_root[@]}" "${quietly[@]}" apt-get -q update || return
    step "Debian: install ${missing[*]}" -- \
        "${as_root[@]}" bash -c "$WITHOUT_SERVICES" without-services "$POLICY" \
        "${quietly[@]}" apt-get -q -y --no-install-recommends \
        -o Dpkg::Options::=--force-confold install "${missing[@]}"
}

can_make_venvs() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Sets PYTHON to a Python that is new enough and can make virtual environments. Debian's own first:
# it is compiled with its profile (PGO), and one that was compiled without is a fifth slower.
find_python() {
    local candidate found
    for candidate in /usr/bin/python3 python3 python3.11 python3.12 python3.13 python3.14; do
        while IFS= read -r found; do
            # Where .venv is activated its Python comes first, and it is not made from itself.
            [ "${found%/*}" -ef "$VENV/bin" ] && continue
            if can_make_venvs "$found"; then
                PYTHON=$found
                return 0
            fi
        done < <(type -aP "$candidate")
    done
    return 1
}

# What the virtual environment was made from; a change of any of it makes it anew.
fingerprint() {
    {
        printf '%s\n' "$REPOSITORY" "$PYTHON"
        "$PYTHON" -V
        cat "$REPOSITORY/pyproject.toml" "$REPOSITORY/constraints.txt"
    } | sha256sum | cut -d' ' -f1
}

install_python() {
    local stamp=$VENV/.made-from wanted
    wanted=$(fingerprint)
    if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    if [ -L "$VENV" ]; then
        say "$VENV is a link, and what it leads to would be emptied: remove it, and run this again"
        return 1
    fi
    step "Python: make .venv with $PYTHON" -- "$PYTHON" -m venv --clear "$VENV" || return
    step "Python: install the pinned packages" -- \
        env -C "$REPOSITORY" "$VENV/bin/python" -m pip --disable-pip-version-check --no-input \
        install -c constraints.txt -e '.[demo,test]' || return
    printf '%s\n' "$wanted" >"$stamp"
}

has_node() {
    local major
    major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p')
    [ "${major:-0}" -ge "$1" ]
}

# PHP 5.2 to 8.5 for the tests of the producer: packages of npm in .stack/node. Debian's Node is
# too old to run them, but its npm can fetch one that is not.
install_old_phps() {
    local from=$REPOSITORY/stack/node/package.json to=$STATE/node options=(--omit=optional)
    has_node 20 || options=()
    if cmp -s "$from" "$to/package.json" && [ -e "$to/complete" ] \
        && { has_node 20 || compgen -G "$to/node_modules/node-linux-*" >/dev/null; }; then
        return 0
    fi
    if ! has_node 18 || ! command -v npm >/dev/null; then
        install_debian nodejs npm || return
    fi
    rm -rf "$to"
    mkdir -p "$to"
    cp "$from" "$to/package.json"
    step "npm: install PHP 5.2 to 8.5 for the tests" -- \
        npm install --prefix "$to" --no-package-lock --no-audit --no-fund --ignore-scripts \
        --loglevel=error "${options[@]}" || return
    : >"$to/complete"
}

# set_up [PACKAGE…]: everything, and these Debian packages too. Only one at a time, so that a
# demo and a test run may be started together.
set_up() {
    mkdir -p "$STATE"
    (
        flock 9
        : >"$SETUP_LOG"
        wanted=("${DEBIAN_PACKAGES[@]}" "$@")
        install_debian "${wanted[@]}" || exit
        find_python || {
            say "Python 3.11 or newer with its venv module is needed; python3 is $(python3 -V 2>&1)"
            exit 1
        }
        install_python || exit
    ) 9>"$STATE/setup.lock"
}

# set_up_old_phps: what the tests of the producer need besides, under the same lock.
set_up_old_phps() {
    (
        flock 9
        install_old_phps || exit
    ) 9>"$STATE/setup.lock"
}

# A site that is configured in this shell has nothing to do with the demo or the tests.
for name in "${!BRIDGE_@}"; do
    unset "$name"
done
