# `./dev package`: Debian packages, built by Debian's tools from a copy of the tree, since they want debian/ at its top. The copy
# keeps its build folders: what has not changed is not compiled again.

PACKAGE_TOOLS=(dpkg-dev debhelper lintian)

# The version of CMakeLists.txt; between two releases with the date and name of the commit, so that later is greater.
package_version() {
  local version
  version=$(sed -nE 's/^project\(sirocco VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
  if git describe --exact-match --match "v$version" HEAD >/dev/null 2>&1; then
    echo "$version"
  else
    echo "$version+git$(TZ=UTC git log -1 --date=format-local:%Y%m%d.%H%M%S --format=%cd.%h)"
  fi
}

# copy_tree FOLDER: what is in the checkout and not ignored, with its times; debian/ from systemd/debian and a changelog.
copy_tree() {
  local tree=$1
  mkdir -p "$tree"
  find "$tree" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
  git ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done |
    tar --create --null --files-from=- | tar --extract --directory "$tree"
  mv "$tree/systemd/debian" "$tree/debian"
  cat >"$tree/debian/changelog" <<TEXT
sirocco ($(package_version)) UNRELEASED; urgency=medium

  * Built from commit $(git rev-parse HEAD).

 -- Sirocco <maintainers@sirocco.example.org>  $(git log -1 --date=rfc --format=%cd)
TEXT
}

# debhelper and a root give the build another home: without this it would begin with an empty cache.
keep_ccache() {
  CCACHE_DIR=$(ccache --get-config cache_dir)
  export CCACHE_DIR
}

run_package() {
  local arch here profiles=(nocheck)
  install_packages "${BUILD_PACKAGES[@]}" "${PACKAGE_TOOLS[@]}"
  here=$(dpkg --print-architecture)
  arch=$here
  while [[ $# -gt 0 ]]; do
    case $1 in
      --arch)
        arch=${2:-}
        shift
        ;;
      --cuda) profiles+=(pkg.sirocco.cuda) ;;
      *) die "./dev package knows --arch ARCHITECTURE and --cuda, not \"$1\"" ;;
    esac
    shift
  done
  case $arch in
    "$here") ;;
    arm64) profiles+=(cross) ;;
    *) die "--arch: packages can be built for $here and arm64 here, not for \"$arch\"" ;;
  esac
  if [[ " ${profiles[*]} " == *" pkg.sirocco.cuda "* ]] && ! has_nvcc; then
    die "--cuda needs CUDA's toolkit 13 (nvcc) in \$CUDA_HOME or /usr/local/cuda"
  fi

  if [[ $arch != "$here" && " ${profiles[*]} " == *" pkg.sirocco.cuda "* ]]; then fetch_cross_cudart; fi
  [[ ! -e ipc/client/sirocco.h ]] || profiles+=(pkg.sirocco.client)
  local work=build/package/$arch out=build/packages profile_list
  [[ $arch == "$here" ]] || out+=/$arch
  profile_list=$(IFS=, && echo "${profiles[*]}")
  copy_tree "$work/tree"

  keep_ccache
  local build=(dpkg-buildpackage --build=binary --unsigned-changes --unsigned-buildinfo --no-pre-clean
    --host-arch "$arch" --build-profiles="$profile_list" --jobs="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}")
  if [[ $arch != "$here" ]]; then
    source dev.d/cross_root.sh
    make_cross_root "$arch" "$work" "$profile_list"
    build=(in_cross_root "$work" "${build[@]}")
  fi
  say "building packages for $arch (log: $work.log)"
  rm -f "$work"/*.{deb,ddeb,changes,buildinfo}
  (cd "$work/tree" && "${build[@]}") >"$work.log" 2>&1 || die_with_log "$work.log" "the packages could not be built"
  python3 tests/support/check_debs.py "$arch" "$work"/*.deb || die "the packages are not what they should be; see above"
  say "lintian"
  lintian --allow-root --fail-on error --display-info "$work"/*.changes || die "lintian finds errors in the packages; see above"
  mkdir -p "$out"
  rm -f "$out"/*.deb
  mv "$work"/*.deb "$out/"
  say "packages are in $out/:"
  (cd "$out" && ls -sh ./*.deb)
}
