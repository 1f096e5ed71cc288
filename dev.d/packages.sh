# The Debian packages that Sirocco needs, and installing those that are missing.

BUILD_PACKAGES=(
  g++ cmake ninja-build pkg-config ccache git ca-certificates python3 python3-venv
  libboost1.81-dev libflatbuffers-dev flatbuffers-compiler libsentencepiece-dev libyaml-cpp-dev
  libsystemd-dev libpcre2-dev libutf8proc-dev nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev libexpected-dev libedit-dev libssl-dev liburing-dev
  prometheus-cpp-dev
  librapidcheck-dev libgtest-dev libgmock-dev
)
CROSS_PACKAGES=(g++-aarch64-linux-gnu qemu-user)
BOOT_PACKAGES=(debootstrap systemd-container)  # a root with systemd, for tests/support/booted_root.py
TOOL_PACKAGES=(clang clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev)

# Installs what is missing of the packages named; does nothing, without asking for any right, where all are there.
install_packages() {
  local missing=() package as_root=()
  local list="g++ (12 or newer), cmake 3.25, ninja, and the development files named in dev.d/packages.sh"
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    die "this is not Debian (no apt-get). Install by hand, under your system's names: $list; then use cmake --preset release"
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0

  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null ||
      die "packages are missing and neither root nor sudo is at hand; run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing with apt: ${missing[*]}"
  mkdir -p build
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300)
  local install=("${apt[@]}" install --no-install-recommends "${missing[@]}")
  # The package lists may be missing or old: refresh them only when the installation does not work without.
  if ! "${install[@]}" >build/apt.log 2>&1; then
    "${apt[@]}" update >>build/apt.log 2>&1 || die_with_log build/apt.log "apt-get update failed"
    "${install[@]}" >>build/apt.log 2>&1 ||
      die_with_log build/apt.log "apt could not install the packages (Debian 12 has them all; elsewhere names may differ)"
  fi
}

# die_with_log FILE MESSAGE: the end of the log, then one sentence.
die_with_log() {
  tail -n 15 "$1" >&2
  die "$2; the whole log is $1"
}
