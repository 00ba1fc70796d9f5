#!/usr/bin/env bash
# Makes a small real disk: tests/image/make.sh OUT
#
# The disk has a minimal Debian in an ext4 file system of 1.25 GiB. A fifth of it is data. The first
# run needs root or sudo. Later runs copy the image that the first run kept below target/. The
# environment variable MIRROR can name a mirror of Debian.
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
