//! Datagrams: an echo that says who it is, and questions to it.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::Namespace;

/// Answers every datagram with `NAME:` and what it held, until dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens in a namespace on one address.
    ///
    /// # Errors
    /// When it is no address of the namespace, or the port is taken.
    pub fn start(ns: &Namespace, at: impl Into<SocketAddr>, name: &str) -> Result<Self> {
        let at = at.into();
        let socket = ns
            .enter(|| UdpSocket::bind(at))
            .with_context(|| format!("cannot listen on {at}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let worker = thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else {
                    continue;
                };
                let answer = [name.as_bytes(), b":", &bytes[..length]].concat();
                // Who does not get an answer says so.
                let _ = socket.send_to(&answer, from);
            }
        });
        Ok(Self {
            stop,
            worker: Some(worker),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Sends `length` bytes from a new port; the name of who echoed them.
///
/// # Errors
/// When no answer comes within two seconds, or not from the address that was
/// asked, or with other bytes.
pub fn ask(from: &Namespace, to: impl Into<SocketAddr>, length: usize) -> Result<String> {
    let to = to.into();
    let any: IpAddr = match to {
        SocketAddr::V4(_) => [0, 0, 0, 0].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    };
    let socket = from.enter(|| UdpSocket::bind((any, 0)))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let question: Vec<u8> = (0..length).map(|i| (i * 7 + i / 251) as u8).collect();
    socket.send_to(&question, to).context("cannot send")?;
    let mut answer = vec![0; length + 64];
    let (got, by) = socket.recv_from(&mut answer).map_err(|error| {
        if error.kind() == ErrorKind::WouldBlock {
            anyhow::anyhow!("no answer of {length} bytes from {to}")
        } else {
            error.into()
        }
    })?;
    ensure!(by == to, "{by} answered instead of {to}");
    let answer = &answer[..got];
    let colon = answer.iter().position(|byte| *byte == b':');
    let (name, echoed) = answer.split_at(colon.context("the answer has no name")?);
    ensure!(echoed[1..] == question, "{to} echoed other bytes");
    Ok(String::from_utf8_lossy(name).into_owned())
}
