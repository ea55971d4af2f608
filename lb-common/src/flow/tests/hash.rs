//! What the hash promises: whatever the keys, two of them share a home about
//! as seldom as random ones, for almost all secrets.

use super::support::{both_families, tables};
use crate::{
    family::Family,
    flow::{home, stash_home},
    host::HostTables,
};

const CELLS: u32 = 8192;
const SECRETS: u64 = if cfg!(miri) { 2 } else { 400 };
const KEYS: u64 = if cfg!(miri) { 64 } else { 512 };

/// Pairs of keys that share a home.
fn shared<F: Family>(tables: &HostTables, keys: &[F::Key]) -> u64 {
    let mut homes = vec![0; CELLS as usize];
    let mut pairs = 0;
    for key in keys {
        let at = home::<F, _>(tables, key) as usize;
        pairs += homes[at];
        homes[at] += 1;
    }
    pairs
}

type Shape = fn(u64, usize, usize) -> u64;

/// Word `word` of `words` of key `n`.
const SHAPES: [(&str, Shape); 6] = [
    ("ports", |n, word, words| {
        if word + 1 == words {
            n << 16 | 6 << 32
        } else {
            0
        }
    }),
    ("addresses", |n, word, _| {
        if word == 0 { n.swap_bytes() >> 32 } else { 0 }
    }),
    ("both", |n, _, _| n),
    ("high bits", |n, _, _| n << 53),
    (
        "bit 31",
        |n, word, _| if word == 0 { n << 31 } else { n << 20 },
    ),
    (
        "zeros",
        |n, word, words| if word + 1 == words { n } else { 0 },
    ),
];

/// A universal hash promises twice the random figure at the worst, on average
/// over all secrets; a few bad secrets make most of it.
fn few_share_a_home<F: Family>() {
    let keys = SHAPES.map(|(_, shape)| -> Vec<F::Key> {
        (0..KEYS)
            .map(|n| F::key_from(|word| shape(n, word, F::KEY_WORDS)))
            .collect()
    });
    let mut pairs = [0; SHAPES.len()];
    for seed in 0..SECRETS {
        let tables = tables::<F>(CELLS, 1000 + seed);
        for (pairs, keys) in pairs.iter_mut().zip(&keys) {
            *pairs += shared::<F>(&tables, keys);
        }
    }
    let random = (KEYS * (KEYS - 1) / 2 * SECRETS) as f64 / f64::from(CELLS);
    for ((name, _), pairs) in SHAPES.iter().zip(pairs) {
        let ratio = pairs as f64 / random;
        println!(
            "IPv{} {name}: {ratio:.2} of the collisions of random homes",
            F::VERSION
        );
        assert!(
            ratio < 4.0 || cfg!(miri),
            "IPv{} {name}: {ratio}",
            F::VERSION
        );
    }
}

/// Clients whose addresses and ports follow one another, and their server's replies:
/// as many as are promised share homes like random ones, whatever the secret.
fn neighbours_lie_in_no_pattern<F: Family>() {
    let secrets = if cfg!(miri) { 1 } else { 100 };
    let flows = u64::from(CELLS) / 4;
    let server = [0x0102_000a, 0];
    let keys: Vec<F::Key> = (0..flows)
        .flat_map(|n| {
            let client = if F::VERSION == 4 {
                [0x0a | n << 8 & 0xffff_ff00, 0]
            } else {
                [0xb80d_0120, n.swap_bytes()]
            };
            let port = u64::from((1024 + n as u16).to_be());
            let key = F::key_of(client, server, port | 80 << 24 | 6 << 32);
            [key, F::opposite(&key)]
        })
        .collect();
    let random = (keys.len() * (keys.len() - 1) / 2) as f64 / f64::from(CELLS);
    for seed in 0..secrets {
        let pairs = shared::<F>(&tables::<F>(CELLS, 9000 + seed), &keys);
        let ratio = pairs as f64 / random;
        assert!(
            ratio < 1.3,
            "IPv{}, secret {seed}: {ratio:.2} of the collisions of random homes",
            F::VERSION
        );
    }
}

/// Two keys, many secrets: each pair is together about once in [`CELLS`].
fn no_pair_is_always_together<F: Family>() {
    let secrets = if cfg!(miri) { 4 } else { 400 };
    let pairs: Vec<_> = (0..secrets)
        .map(|seed| tables::<F>(64, 5000 + seed))
        .collect();
    for word in 0..F::KEY_WORDS {
        for bits in [1u64 << 63, 1 << 31, 1 << 63 | 1 << 31, 1, 1 << 32] {
            let zero = F::key_from(|_| 0);
            // Also with the same bits in the next word, where a multiplication
            // with exclusive or would cancel them.
            for next in [0, bits] {
                let other = F::key_from(|i| match i {
                    i if i == word => bits,
                    i if i == (word + 1) % F::KEY_WORDS => next,
                    _ => 0,
                });
                let together = pairs
                    .iter()
                    .filter(|tables| home::<F, _>(*tables, &zero) == home::<F, _>(*tables, &other))
                    .count();
                // One in 64 is 6 of 400.
                assert!(
                    together < 25,
                    "word {word} bits {bits:#x}: {together} of {secrets}"
                );
            }
        }
    }
}

fn keys_of_one_home_have_other_stash_windows<F: Family>() {
    let tables = tables::<F>(CELLS, 31);
    let mut stash = std::collections::HashSet::new();
    let count = if cfg!(miri) { 2000 } else { 400_000u64 };
    let mut together = 0;
    for number in 0..count {
        let key = F::key_from(|word| number << (word % 2 * 16));
        if home::<F, _>(&tables, &key) == 17 {
            together += 1;
            stash.insert(stash_home::<F, _>(&tables, F::hash(&tables, &key)));
        }
    }
    if !cfg!(miri) {
        assert!(together > 20, "{together}");
        assert!(
            stash.len() * 3 > together * 2,
            "{} windows for {together} keys",
            stash.len()
        );
    }
}

mod run {
    super::both_families!(
        few_share_a_home,
        neighbours_lie_in_no_pattern,
        no_pair_is_always_together,
        keys_of_one_home_have_other_stash_windows,
    );
}
