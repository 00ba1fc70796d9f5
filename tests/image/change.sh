#!/usr/bin/env bash
# Changes an image of make.sh as one day of use would: tests/image/change.sh IMAGE
#
# Adds files, enlarges one, replaces one, and removes some. debugfs writes into the file system
# without mounting it, so that the script need not run as root.
set -euo pipefail
image=$(realpath "${1:?usage: $0 IMAGE}")
export PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

head -c 6M /dev/urandom >photo
for n in {1..60000}; do
  echo "Nov 21 10:00:00 vm app[$n]: request $((n * 7919 % 10007)) done"
done >app.log
echo changed >hostname
debugfs -R "dump /var/log/dpkg.log dpkg.log" "$image" 2>/dev/null
cat app.log >>dpkg.log

debugfs -w "$image" >log 2>&1 <<'COMMANDS'
cd /root
write photo photo
cd /var/log
write app.log app.log
rm dpkg.log
write dpkg.log dpkg.log
cd /etc
rm hostname
write hostname hostname
rm /usr/bin/perl
rm /usr/share/common-licenses/GPL-3
COMMANDS

# debugfs exits with 0 even after an error, so compare the files.
for file in /root/photo /var/log/app.log /var/log/dpkg.log /etc/hostname; do
  debugfs -R "cat $file" "$image" 2>/dev/null | cmp - "$(basename $file)" ||
    { cat log >&2; exit 1; }
done
e2fsck -fn "$image" >log 2>&1 || { cat log >&2; exit 1; }
