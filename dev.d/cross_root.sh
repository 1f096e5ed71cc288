# A root of Debian 12 in which `./dev package --arch` and `./dev test arm64` build for another architecture. Of two libraries (yaml-cpp,
# sentencepiece) the development files for two architectures exclude each other, so this machine keeps its own and the root has the
# others. Made once, by debootstrap; needs root.

# in_cross_root WORK COMMAND...: in the root, in this folder, with the checkout, ccache's folder and CUDA where they are here.
in_cross_root() {
  local work=$CHECKOUT/$1 options=() name
  shift
  for name in CCACHE_DIR CUDA_HOME SIROCCO_CROSS_CUDART http_proxy https_proxy no_proxy; do
    [[ -z ${!name:-} ]] || options+=("--setenv=$name=${!name}")
  done
  [[ ! -d /usr/local/cuda ]] || options+=("--bind-ro=$(realpath /usr/local/cuda):/usr/local/cuda")
  systemd-nspawn --quiet --register=no --keep-unit --console=pipe --as-pid2 --resolv-conf=copy-host --timezone=off --directory="$work/root" \
    --bind="$CHECKOUT" --bind="$CCACHE_DIR" --chdir="$PWD" --setenv=DEBIAN_FRONTEND=noninteractive "${options[@]}" "$@"
}

# Debian's mirror, as this machine's apt has it.
debian_mirror() {
  sed -nE 's/^URIs: *//p; s/^deb (\[[^]]*\] )?([^ ]+).*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
    head -n 1
}

# make_cross_root ARCH WORK PROFILES PACKAGE...: with what the packages of WORK/tree are built from, and these packages.
make_cross_root() {
  local arch=$1 work=$2 profiles=$3 root=$2/root
  CHECKOUT=$PWD
  [[ $EUID -eq 0 ]] || die "programs for $arch are built in a root of their own: run as root"
  install_packages debootstrap systemd-container
  mkdir -p "$CCACHE_DIR"
  if [[ ! -e $root ]]; then
    say "making a root that builds for $arch (once, some minutes; log: $work-root.log)"
    rm -rf "$root.part"
    debootstrap --variant=minbase --include=ca-certificates,ccache bookworm "$root.part" "$(debian_mirror)" >"$work-root.log" 2>&1 ||
      die_with_log "$work-root.log" "debootstrap failed"
    cp -a /etc/apt/apt.conf.d/. "$root.part/etc/apt/apt.conf.d/"  # a proxy, perhaps
    cp -a /usr/local/share/ca-certificates/. "$root.part/usr/local/share/ca-certificates/"
    mv "$root.part" "$root"
  fi
  (cd "$work/tree" && in_cross_root "$work" sh -c 'arch=$1 profiles=$2; shift 2; update-ca-certificates &&
    dpkg --add-architecture "$arch" && apt-get -qq update &&
    apt-get -qq -y install --no-install-recommends "crossbuild-essential-$arch" "$@" &&
    apt-get -qq -y build-dep --no-install-recommends --arch-only -a "$arch" -P "$profiles" ./' sh "$arch" "$profiles" "${@:4}") \
    >>"$work-root.log" 2>&1 ||
    die_with_log "$work-root.log" "the packages to build for $arch with could not be installed"
}
