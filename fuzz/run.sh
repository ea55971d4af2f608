#!/bin/sh
# Runs the readers under libFuzzer: fuzz/run.sh SECONDS. Any toolchain will do;
# 'cargo +nightly fuzz run readers' works too, with cargo-fuzz and a nightly.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/readers
rm -f corpus/readers/seed.*
# Good texts to begin with, each behind the byte that chooses its reader.
seed() {
    { printf "\\$(printf '%03o' "$1")"; cat; } >"$(mktemp corpus/readers/seed.XXXXXX)"
}
garbage=../lb-userspace/tests/garbage
seed 0 <"$garbage/whole.toml"
while read -r line; do printf '%s' "$line" | seed 1; done <"$garbage/verbs.txt"
while read -r line; do printf '%s' "$line" | seed 2; done <"$garbage/rules.txt"
for file in iptables-save.txt nft.json ipset.txt; do
    seed 3 <"$garbage/$file"
    seed 4 <"$garbage/$file"
done
printf '{"format":1,"epoch":1,"trash_due":null,"services":[],"trash":[],"rules":null}' | seed 5
printf '{"add-service":[{"address":{"protocol":"tcp","addr":"10.0.0.1","port":80}},{}]}' | seed 6
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    cargo build --release --target x86_64-unknown-linux-gnu
exec target/x86_64-unknown-linux-gnu/release/readers corpus/readers \
    -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -max_total_time="${1:-60}"
