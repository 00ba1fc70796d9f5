#!/usr/bin/env bash
# Makes a small real disk: tests/image/make.sh OUT
#
# A minimal Debian in an ext4 file system of 1.25 GiB, a fifth of it data. Needs root (or sudo) the
# first time; later images are copies of the one kept below target/. MIRROR says where Debian is.
set -euo pipefail
out=$(realpath "${1:?usage: $0 OUT}")
kept=$(realpath -m "$(dirname "$0")/../../target/test-image")
export PATH=$PATH:/usr/sbin:/sbin

if [ ! -e "$kept/base.img" ]; then
  as_root=()
  [ $EUID = 0 ] || as_root=(sudo)
  mkdir -p "$kept"
  work=$(mktemp -d "$kept/XXXXXX")
  trap '"${as_root[@]}" rm -rf "$work"' EXIT
  "${as_root[@]}" debootstrap --variant=minbase bookworm "$work/root" \
    "${MIRROR:-http://deb.debian.org/debian}" >"$work/log" || { cat "$work/log" >&2; exit 1; }
  "${as_root[@]}" mke2fs -q -t ext4 -d "$work/root" "$work/base.img" 1280M
  "${as_root[@]}" chown "$EUID" "$work/base.img"
  mv "$work/base.img" "$kept/base.img"
fi
cp --sparse=always "$kept/base.img" "$out"
