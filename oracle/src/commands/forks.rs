//! One start of the real ipvsadm for many commands: `forks.c` is preloaded and
//! runs its `main` in a child for each. In the guest a start costs more than all the rest.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use lvx_tests::lab::{run, tool};

use super::transcript::{Answer, Step};

/// Where the library is in the guest.
pub(super) const LIBRARY: &str = "/usr/lib/forks.so";

/// The library, for this machine and so for the guest.
///
/// # Errors
/// When there is no C compiler.
pub(super) fn library() -> Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let (source, library) = (dir.path().join("forks.c"), dir.path().join("forks.so"));
    fs::write(&source, include_str!("forks.c"))?;
    run(Command::new(tool("cc"))
        .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source))?;
    Ok(fs::read(library)?)
}

/// A started ipvsadm that forks.
#[derive(Debug)]
pub(super) struct Forks(Child);

impl Forks {
    /// Starts it where the library is; elsewhere there is none.
    ///
    /// # Errors
    /// When ipvsadm cannot be run.
    pub(super) fn start() -> Result<Option<Self>> {
        if !Path::new(LIBRARY).exists() {
            return Ok(None);
        }
        let child = Command::new("ipvsadm")
            .env("LD_PRELOAD", LIBRARY)
            .env("LD_BIND_NOW", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run ipvsadm")?;
        Ok(Some(Self(child)))
    }

    /// What it answers to one command.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn ask(&mut self, step: &Step) -> Result<Answer> {
        let mut request = Vec::new();
        let number = |number: usize, request: &mut Vec<u8>| {
            request.extend((number as u32).to_ne_bytes());
        };
        number(step.words.len(), &mut request);
        for text in step.words.iter().chain([&step.input]) {
            number(text.len(), &mut request);
            request.extend(text.as_bytes());
        }
        let context = "the forking ipvsadm has ended";
        let input = self.0.stdin.as_mut().context(context)?;
        input.write_all(&request).context(context)?;
        let output = self.0.stdout.as_mut().context(context)?;
        let mut numbers = [0; 3];
        for number in &mut numbers {
            let mut word = [0; 4];
            output.read_exact(&mut word).context(context)?;
            *number = u32::from_ne_bytes(word);
        }
        let mut text = |length: u32| -> Result<String> {
            let mut bytes = vec![0; length as usize];
            output.read_exact(&mut bytes).context(context)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Answer {
            stdout: text(numbers[1])?,
            stderr: text(numbers[2])?,
            code: numbers[0].cast_signed(),
        })
    }
}

impl Drop for Forks {
    fn drop(&mut self) {
        // It ends with its input; what fails here has ended already.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
