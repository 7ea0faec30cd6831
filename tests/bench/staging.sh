#!/bin/sh
# What docs/performance.md says of reads, copies and memory, measured again: staging.c and device_memory.py.
#
#     tests/bench/staging.sh FILE          a file of some GB in memory (tmpfs, or in the page cache), and what lies
#                                          beside it as a whole checkpoint; needs a GPU and a C compiler
#     tests/bench/staging.sh FILE FILE2    two processes at once on two GPUs, each with its file, for
#                                          docs/distributed.md
set -eu
file=${1:?which file?}
second=${2:-}
here=$(dirname "$0")
program=$(mktemp)
trap 'rm -f "$program"' EXIT
"${CC:-cc}" -O2 -o "$program" "$here/staging.c" -ldl -lpthread

if [ -n "$second" ]; then
    for batches in 4 6 12; do
        CUDA_VISIBLE_DEVICES=0 "$program" "$file" pread-huge 14 2048 4 $batches 1 &
        CUDA_VISIBLE_DEVICES=1 "$program" "$second" pread-huge 14 2048 4 $batches 1
        wait
    done
    exit
fi

# WAY READERS CHUNK_KIB CHUNKS_IN_A_BATCH BATCHES STREAMS
while read -r way; do
    # shellcheck disable=SC2086
    "$program" "$file" $way
done <<'WAYS'
reads 8 4096 1 28 1
reads 14 4096 1 28 1
reads 16 4096 1 28 1
copies 2 1024 1 112 1
copies 2 2048 1 56 1
copies 2 4096 1 28 1
copies 2 8192 1 14 1
copies 2 16384 1 7 1
pread 14 4096 1 28 14
pread 14 4096 1 28 1
pread 14 2048 4 12 1
pread 14 2048 8 6 1
pread-huge 14 2048 4 12 1
pread-blocked 14 2048 4 12 1
map 14 2048 4 12 1
stream 14 2048 4 12 1
WAYS
# The first load of a process, by C alone: of a whole checkpoint, with pinning and all else that it has to do.
for turn in 1 2 3; do
    "$program" "$(dirname "$file")" pread-first 14 2048 4 12 1 2
    "$program" "$(dirname "$file")" pread-huge-first 14 2048 4 12 1 2
done
"${PYTHON:-python3}" "$here/device_memory.py"
