#!/usr/bin/env bash
# Makes a golden repository and a file with the hashes of its backups: make.sh PROGRAM NAME.
# Every run makes a different repository.
set -eu
program=$(realpath "$1") name=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
export CUTTLEBONE_REPOSITORY=$here/$name CUTTLEBONE_CACHE_DIR=$work/cache CUTTLEBONE_PASSWORD=golden
sums=$here/$name.sums
cd "$work"

cuttlebone() { "$program" "$@" -q; }

# Writes a block of 4 KiB, whose content depends on NUMBER and compresses well, at PLACE of a file.
block() { # FILE PLACE NUMBER
  printf "block $3 %.0s" {1..1000} | head -c 4096 |
    dd of="$1" bs=4096 seek="$2" conv=notrunc status=none
}

# Backs up a file, and records the hash of its content.
backup() { # FILE [-]
  local id
  id=$("$program" backup "${2:-$1}" --volume "$1" --label of="$1" --json <"$1" |
    sed -n 's/.*"backup_id":"\([0-9a-f]*\)".*/\1/p')
  echo "$(b3sum --no-names "$1")  $id  $1" >>"$sums"
}

# Backs up the snapshots of an RBD export, with the metadata of its image. Restores each backup to
# get the hash of its content.
backup_export() { # FILE VOLUME
  local id
  "$program" backup --diff "$1" --volume "$2" --json |
    sed -n 's/.*"backup_id":"\([0-9a-f]*\)".*/\1/p' |
    while read -r id; do
      cuttlebone restore "$id" "$2" --force
      echo "$(b3sum --no-names "$2")  $id  $2" >>"$sums"
    done
}

# Forgets a backup. Gives its id, since it may be the last backup of its volume.
forget() { # FILE NUMBER, from 1 on
  local id
  id=$(grep "  $1\$" "$sums" | sed -n "$2p" | cut -d ' ' -f 3)
  cuttlebone forget "$id" --force
  sed -i "/$id/d" "$sums"
}

: >"$sums"
cuttlebone init --chunk-size 4K --kdf-memory 8M --kdf-passes 5
umask 077
for key in guest writer auditor; do echo $key >$key; done
add_key() { # PASSWORD [OPTION…]
  cuttlebone key add --label "$1" --new-password-file "$1" --kdf-memory 8M --kdf-passes 5 "${@:2}"
}
add_key guest --this-project
add_key writer --role write --volumes 'client*'
add_key auditor --role verify

# The disk has three leaves. The second leaf is a hole, and the last chunk is incomplete.
truncate -s $((2560 * 4096 + 1000)) disk
for place in 0 1 2 2050; do block disk $place $place; done
backup disk
for _ in {1..200}; do seq 300; done >dump
backup dump -
truncate -s 40000 scratch
for place in 1 2 5; do block scratch $place 7$place; done
backup scratch
block disk 1 51
backup disk
# Back up with a write key, which seals its chunks in a session. A full key has already stored one
# of these chunks.
truncate -s 50000 client
for place in 0 3 7; do block client $place 8$place; done
block client 5 2
export CUTTLEBONE_PASSWORD=writer
backup client
block client 4 84
backup client
export CUTTLEBONE_PASSWORD=golden
sed -i '20000,21000d' dump
backup dump -
backup_export "$here/../rbd/fixtures/meta.rbd2" image
# This check writes an audit of the packs of the write key.
cuttlebone check --read-data
forget scratch 1
# Marked packs and superseded segments stay in the repository.
forget dump 1
# Wait until everything is older than the grace period.
sleep 2
cuttlebone prune --grace 1s --max-unused 0
truncate -s $((2561 * 4096)) disk
block disk 2051 53
backup disk
forget disk 2
cuttlebone head >/dev/null
find "$CUTTLEBONE_REPOSITORY" -type d -empty -delete
