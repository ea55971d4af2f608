//! `lvx decap` on a real server of the lab.

use anyhow::{Context as _, Result, ensure};

use crate::{
    director::{Answer, lvx},
    lab::Namespace,
};

/// Takes packets out of tunnels in a namespace until dropped.
#[derive(Debug)]
pub struct Decap<'lab> {
    ns: &'lab Namespace,
}

impl<'lab> Decap<'lab> {
    /// Runs `lvx decap` with these words.
    ///
    /// # Errors
    /// When it refuses.
    pub fn start(ns: &'lab Namespace, words: &[&str]) -> Result<Self> {
        let started = Self { ns };
        let answer = started.again(words)?;
        ensure!(answer.code == 0, "`lvx decap`: {answer}");
        Ok(started)
    }

    /// Runs it again, with other words.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn again(&self, words: &[&str]) -> Result<Answer> {
        lvx(self.ns, &[&["decap"], words].concat())
    }

    /// Frames by outcome, those that there were.
    ///
    /// # Errors
    /// When there is no status.
    pub fn frames(&self) -> Result<Vec<(String, u64)>> {
        let answer = lvx(self.ns, &["decap", "--status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&answer.stdout)
            .with_context(|| format!("`lvx decap --status --json`: {answer}"))?;
        let frames: Vec<(String, u64)> = serde_json::from_value(status["frames"].clone())?;
        Ok(frames.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    /// Frames of one outcome.
    ///
    /// # Errors
    /// When there is no status.
    pub fn count(&self, outcome: &str) -> Result<u64> {
        let frames = self.frames()?;
        Ok(frames
            .iter()
            .find(|(name, _)| name == outcome)
            .map_or(0, |(_, count)| *count))
    }
}

impl Drop for Decap<'_> {
    fn drop(&mut self) {
        if self.ns.lab().is_kept() {
            return;
        }
        match lvx(self.ns, &["decap", "--remove"]) {
            Ok(Answer { code: 0, .. }) => {}
            Ok(answer) => eprintln!("`lvx decap --remove`: {answer}"),
            Err(error) => eprintln!("{error:#}"),
        }
    }
}
