//! The list of defects, `oracle/defects.toml`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// Where the list is, below the workspace root.
pub const LIST: &str = "oracle/defects.toml";

/// A defect: an edit of one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// What `--self-check NAME` takes.
    pub name: String,
    /// What it breaks.
    pub about: String,
    /// Below the workspace root.
    pub file: PathBuf,
    /// A text that occurs in the file once.
    pub before: String,
    /// What takes its place.
    pub after: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    defect: Vec<Defect>,
}

/// Reads the list of a checkout.
///
/// # Errors
/// When there is none, or it is wrong; the text says where.
pub fn read(root: &Path) -> Result<Vec<Defect>> {
    let path = root.join(LIST);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

/// Reads the text of a list.
///
/// # Errors
/// When it is not a list, two defects have a name, or one changes nothing.
pub fn parse(text: &str) -> Result<Vec<Defect>> {
    let defects = toml::from_str::<List>(text)?.defect;
    let mut names = BTreeSet::new();
    for defect in &defects {
        let name = &defect.name;
        // It is the name of a directory too.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !name.is_empty() && name.chars().all(plain),
            "a name is made of a-z, 0-9 and -, not {name:?}"
        );
        ensure!(names.insert(name), "two defects are called {name}");
        ensure!(
            !defect.before.is_empty() && defect.before != defect.after,
            "{name} changes nothing"
        );
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
        ensure!(
            defect.file.components().all(inside),
            "{name}: {} is not below the workspace root",
            defect.file.display()
        );
    }
    Ok(defects)
}

/// Those of the list that are named, in the list's order; all without a name.
///
/// # Errors
/// When there is no such defect; the text has the names there are.
pub fn select(list: Vec<Defect>, names: &[String]) -> Result<Vec<Defect>> {
    for name in names {
        ensure!(
            list.iter().any(|defect| defect.name == *name),
            "no defect {name}; there are: {}",
            list.iter()
                .map(|defect| defect.name.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    Ok(list
        .into_iter()
        .filter(|defect| names.is_empty() || names.contains(&defect.name))
        .collect())
}

impl Defect {
    /// The file's text with the defect in it.
    ///
    /// # Errors
    /// When the text to replace is not there exactly once.
    pub fn plant(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.before).count();
        ensure!(
            count == 1,
            "{}: `before` occurs {count} times in {}, not once: fit it in {LIST}",
            self.name,
            self.file.display()
        );
        Ok(text.replacen(&self.before, &self.after, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[defect]]\nname = 'one'\nabout = 'x'\nfile = 'a/b.rs'\nbefore = '''\n1\n2'''\nafter = '3'\n";

    fn root() -> PathBuf {
        crate::batch::checkout()
    }

    /// So that the list cannot rot.
    #[test]
    fn every_defect_fits_the_sources() {
        let defects = read(&root()).expect("the list is right");
        assert!(defects.len() >= 20, "{} defects", defects.len());
        for defect in defects {
            let text = fs::read_to_string(root().join(&defect.file)).expect("its file is there");
            let planted = defect.plant(&text).expect("it fits");
            assert_ne!(planted, text, "{}", defect.name);
            // What is not built into lvx cannot break it.
            assert!(
                defect.file.starts_with("lb-common/src")
                    || defect.file.starts_with("lb-ebpf/src")
                    || defect.file.starts_with("lb-userspace/src"),
                "{}",
                defect.name
            );
        }
    }

    #[test]
    fn a_defect_is_planted_where_its_text_is_once() {
        let [one] = &parse(ONE).expect("it is right")[..] else {
            panic!("one defect");
        };
        assert_eq!(one.plant("0\n1\n2\n4").expect("it fits"), "0\n3\n4");
        for (text, count) in [("0\n1\n", 0), ("1\n2\n1\n2\n", 2)] {
            let error = one.plant(text).expect_err("it does not fit").to_string();
            assert!(
                error.contains(&format!("occurs {count} times in a/b.rs")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_wrong_list_says_what_is_wrong() {
        for (text, wanted) in [
            (format!("{ONE}{ONE}"), "two defects are called one"),
            (ONE.replace("'3'", "\"1\\n2\""), "one changes nothing"),
            (ONE.replace("'one'", "'../one'"), "a name is made of"),
            (ONE.replace("a/b.rs", "../b.rs"), "not below the workspace"),
            (ONE.replace("a/b.rs", "/b.rs"), "not below the workspace"),
            (ONE.replace("about", "abut"), "unknown field `abut`"),
            (ONE.replace("after = '3'\n", ""), "missing field `after`"),
        ] {
            let error = format!("{:#}", parse(&text).expect_err("it is wrong"));
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn names_select_and_a_wrong_one_is_refused() {
        let list = || parse(&format!("{ONE}{}", ONE.replace("'one'", "'two'"))).expect("right");
        let names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            select(list(), &names).map(|list| list.into_iter().map(|d| d.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).expect("all"), ["one", "two"]);
        assert_eq!(names(&["two", "one"]).expect("both"), ["one", "two"]);
        assert_eq!(names(&["two"]).expect("one"), ["two"]);
        let error = names(&["three"]).expect_err("no such").to_string();
        assert_eq!(error, "no defect three; there are: one two");
    }
}
