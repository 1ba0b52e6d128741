# SPDX-License-Identifier: MIT
#
# shellcheck disable=SC2034
#
# Sourced by quickstart.sh and test.sh: the Debian packages each needs, and how they are installed.

packages_build="build-essential cmake ninja-build pkg-config git ca-certificates dpkg-dev
    libelf-dev libdw-dev libiberty-dev zlib1g-dev libjson-c-dev libprotobuf-c-dev protobuf-c-compiler"
packages_quickstart="python3"
packages_test="libcriterion-dev clang libclang-rt-14-dev llvm-14 clang-format-14 clang-tidy-14
    gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    valgrind gdb libunwind-dev libbenchmark-dev sqlite3 python3 perl jq lua5.4 libxml2-utils
    libpython3.11-testsuite redis-server nodejs default-jdk-headless"

# install_missing PACKAGE...: as root or with sudo; nothing is done where all are there.
install_missing() {
    if ! command -v dpkg-query >/dev/null; then
        echo "This is no Debian: please see that what these packages hold is installed: $*" >&2
        return 0
    fi
    missing=""
    for package in "$@"; do
        case "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" in
        "install ok installed") ;;
        *) missing="$missing $package" ;;
        esac
    done
    if [ -z "$missing" ]; then
        return 0
    fi
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        as_root=sudo
        if ! command -v sudo >/dev/null; then
            echo "Please install as root:$missing" >&2
            return 1
        fi
    fi
    echo "Installing:$missing"
    $as_root apt-get -q update </dev/null
    # shellcheck disable=SC2086 # words on purpose
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing </dev/null
}
