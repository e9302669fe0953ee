#!/usr/bin/env bash
# Says what this repository needs and does not find, and the one line that installs it (Debian and its kin).
#   scripts/doctor.sh            says; exit status 1 if something is missing
#   scripts/doctor.sh --install  installs it with apt-get where it may (root, or sudo without a password);
#                                where it may not: fails if CI is set, else says loudly what will be skipped
set -euo pipefail

missing=() packages=()

lacks() { # name, why, package
  printf 'missing  %-10s %s\n' "$1" "$2"
  missing+=("$1")
  packages+=("$3")
}
found() { printf 'found    %-10s %s\n' "$1" "$2"; }

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  lacks python 'Python 3.11 or newer: everything' python3
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  lacks venv "the venv module of $python: everything" python3-venv
else
  found python "$("$python" --version 2>&1) with venv"
fi

if path=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
  found chromium "$path"
else
  lacks chromium 'a browser: tests of the report' chromium
fi

if java=$(command -v java) && command -v javac >/dev/null && [ "$(java -XshowSettings:properties -version 2>&1 |
  sed -n 's/^ *java.specification.version = //p' | cut -d. -f1)" -ge 17 ] 2>/dev/null; then
  found jdk "$java"
else
  lacks jdk 'a JDK, 17 or newer: tests and demo on a HAPI FHIR server' openjdk-17-jdk-headless
fi

if path=$(command -v mvn); then
  found maven "$path"
else
  lacks maven 'Maven: fetches the HAPI FHIR server' maven
fi

[ ${#missing[@]} -gt 0 ] || { echo 'nothing is missing'; exit 0; }

# The release may carry a newer JDK than 17 only.
if [[ " ${packages[*]} " == *' openjdk-17-jdk-headless '* ]] && command -v apt-cache >/dev/null &&
  ! apt-cache show openjdk-17-jdk-headless >/dev/null 2>&1; then
  packages=("${packages[@]/openjdk-17-jdk-headless/default-jdk-headless}")
fi
line="apt-get install --yes --no-install-recommends ${packages[*]}"
echo "to install: sudo $line"
[ "${1:-}" = --install ] || exit 1

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq || echo 'the package lists could not be renewed' >&2
  if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $line; then
    echo 'installed'
    exit 0
  fi
fi
{
  echo '********************************************************************************'
  echo "NOT INSTALLED: ${missing[*]}. What needs them is skipped."
  echo "Install by hand: sudo $line"
  echo '********************************************************************************'
} >&2
[ -z "${CI:-}" ] || exit 1
