//! SCTP chunks by name: `INIT`, `COOKIE-ECHO+ABORT`, `-` for none.

/// Names by type.
const NAMES: [(u8, &str); 13] = [
    (0, "DATA"),
    (1, "INIT"),
    (2, "INIT-ACK"),
    (3, "SACK"),
    (4, "HEARTBEAT"),
    (5, "HEARTBEAT-ACK"),
    (6, "ABORT"),
    (7, "SHUTDOWN"),
    (8, "SHUTDOWN-ACK"),
    (9, "ERROR"),
    (10, "COOKIE-ECHO"),
    (11, "COOKIE-ACK"),
    (14, "SHUTDOWN-COMPLETE"),
];

/// The name of a type, if it has one.
#[must_use]
pub fn name(kind: u8) -> Option<&'static str> {
    let found = NAMES.iter().find(|(number, _)| *number == kind);
    found.map(|(_, name)| *name)
}

/// The types that a word names.
pub(super) fn types(word: &str) -> Result<Vec<u8>, String> {
    if word == "-" {
        return Ok(Vec::new());
    }
    let one = |part: &str| {
        let found = NAMES.iter().find(|(_, name)| *name == part);
        found.map(|(kind, _)| *kind)
    };
    let types = word.split('+').map(one).collect::<Option<_>>();
    types.ok_or_else(|| {
        format!("expected chunks such as INIT or COOKIE-ECHO+DATA, or - for none, not {word:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_chunks() {
        assert_eq!(types("INIT"), Ok(vec![1]));
        assert_eq!(types("COOKIE-ECHO+ABORT"), Ok(vec![10, 6]));
        assert_eq!(types("-"), Ok(Vec::new()));
        for wrong in ["", "init", "INIT+", "15"] {
            assert!(types(wrong).is_err(), "{wrong}");
        }
        for (kind, word) in NAMES {
            assert_eq!(name(kind), Some(word));
        }
        assert_eq!(name(15), None);
    }
}
