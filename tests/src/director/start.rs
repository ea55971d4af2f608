use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::{Namespace, tool};

/// How lvx is started.
#[derive(Clone, Debug)]
pub struct Start {
    interfaces: Vec<String>,
    mode: Option<String>,
    connections: Option<u64>,
    connections6: Option<u64>,
    room: Option<(u32, u32)>,
    by_ip_netns_exec: bool,
    proc_dir: Option<PathBuf>,
    state: Option<PathBuf>,
    group: Option<String>,
    under: Vec<String>,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            interfaces: vec!["eth0".to_owned()],
            mode: None,
            connections: Some(16_384),
            connections6: None,
            room: None,
            by_ip_netns_exec: false,
            proc_dir: None,
            state: None,
            group: None,
            under: Vec::new(),
        }
    }
}

impl Start {
    /// On these interfaces instead of `eth0`.
    #[must_use]
    pub fn interfaces(mut self, names: &[&str]) -> Self {
        self.interfaces = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// With `--mode`: `native`, `generic` or `auto`.
    #[must_use]
    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = Some(mode.to_owned());
        self
    }

    /// With `--connections`; `None` takes the default of lvx, else 16,384.
    #[must_use]
    pub fn connections(mut self, connections: Option<u64>) -> Self {
        self.connections = connections;
        self
    }

    /// With `--connections6`; else the default of lvx.
    #[must_use]
    pub fn connections6(mut self, connections: u64) -> Self {
        self.connections6 = Some(connections);
        self
    }

    /// With `--proc-dir`.
    #[must_use]
    pub fn proc_dir(mut self, dir: &Path) -> Self {
        self.proc_dir = Some(dir.to_owned());
        self
    }

    /// With `--state`.
    #[must_use]
    pub fn state(mut self, file: &Path) -> Self {
        self.state = Some(file.to_owned());
        self
    }

    /// With `--group`.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.to_owned());
        self
    }

    /// Under a program that becomes lvx: its name and its words.
    #[must_use]
    pub fn under(mut self, words: &[&str]) -> Self {
        self.under = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With `--services` and `--dests`; else the defaults of lvx.
    #[must_use]
    pub fn room(mut self, services: u32, dests: u32) -> Self {
        self.room = Some((services, dests));
        self
    }

    /// By `ip netns exec`, which also gives it a mount namespace of its own.
    #[must_use]
    pub fn by_ip_netns_exec(mut self) -> Self {
        self.by_ip_netns_exec = true;
        self
    }

    /// The words after `lvx`.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec!["run".to_owned()];
        for interface in &self.interfaces {
            words.extend(["--interface".to_owned(), interface.clone()]);
        }
        if let Some(mode) = &self.mode {
            words.extend(["--mode".to_owned(), mode.clone()]);
        }
        if let Some(connections) = self.connections {
            words.extend(["--connections".to_owned(), connections.to_string()]);
        }
        if let Some(connections) = self.connections6 {
            words.extend(["--connections6".to_owned(), connections.to_string()]);
        }
        if let Some(dir) = &self.proc_dir {
            words.extend(["--proc-dir".to_owned(), dir.display().to_string()]);
        }
        if let Some(group) = &self.group {
            words.extend(["--group".to_owned(), group.clone()]);
        }
        if let Some(file) = &self.state {
            words.extend(["--state".to_owned(), file.display().to_string()]);
        }
        if let Some((services, dests)) = self.room {
            words.extend(["--services".to_owned(), services.to_string()]);
            words.extend(["--dests".to_owned(), dests.to_string()]);
        }
        words
    }

    pub(super) fn command(&self, ns: &Namespace, lvx: &Path) -> Command {
        let mut command = if self.by_ip_netns_exec {
            let mut command = Command::new(tool("ip"));
            command.args(["netns", "exec", ns.name()]).arg(lvx);
            command
        } else if let Some((program, words)) = self.under.split_first() {
            let mut command = ns.command(tool(program));
            command.args(words).arg(lvx);
            command
        } else {
            ns.command(lvx)
        };
        command.args(self.arguments());
        command
    }
}
