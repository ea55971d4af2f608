use crate::config::place::Fault;

/// A line that says something, or ends a block.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: usize,
    /// Four blanks or a tab stand before it.
    pub(super) indented: bool,
    /// Without the indentation.
    pub(super) text: std::borrow::Cow<'a, str>,
}

/// The lines of a file but for comments.
pub(super) fn lines(text: &str) -> Vec<Line<'_>> {
    let mut all = Vec::new();
    for (raw, number) in text.lines().zip(1..) {
        let trimmed = raw.trim_start_matches([' ', '\t']);
        if trimmed.starts_with('#') {
            continue;
        }
        // A tab counts as four blanks.
        let spaces: usize = raw[..raw.len() - trimmed.len()]
            .chars()
            .map(|c| if c == '\t' { 4 } else { 1 })
            .sum();
        let indented = spaces >= 4 && !trimmed.trim_end().is_empty();
        let text = if indented {
            // In a block a comment may stand behind what is said.
            trimmed.split('#').next().unwrap_or_default().trim_end()
        } else {
            trimmed.trim_end_matches(['\r', '\n'])
        };
        let text = text.replace('\t', "    ");
        let text = if text.trim().is_empty() {
            String::new()
        } else {
            text
        };
        all.push(Line {
            number,
            indented,
            text: text.into(),
        });
    }
    all
}

impl Line<'_> {
    /// `name = value`, blanks around the sign or not.
    pub(super) fn directive(&self) -> Option<(&str, &str)> {
        let (name, value) = self.text.split_once('=')?;
        let name = name.trim_end();
        let plain = |c: char| c.is_ascii_alphanumeric();
        (!name.is_empty() && name.chars().all(plain)).then(|| (name, value.trim_start()))
    }

    /// Something wrong in it.
    pub(super) fn fault(&self, why: impl Into<String>) -> Fault {
        Fault {
            line: self.number,
            column: 1,
            text: why.into(),
        }
    }
}
