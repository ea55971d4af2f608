use std::{
    collections::BTreeSet,
    fs::File,
    net::IpAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use lb_userspace::netlink::{Link, Resolution, View, Watch, watch};
use nix::sched::{CloneFlags, setns};
use tokio::{sync::watch::Sender, time::timeout};

pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
pub(super) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

/// The kernel's first question is lost where the link-local address is not
/// there yet; the next one follows a second later.
pub(super) const FIRST_V6: u64 = 3000;

/// A director (`eth0`, 10.77.0.1, fd77::1) and a server (`eth0`, 10.77.0.2, fd77::2).
pub(super) struct Lab {
    pub(super) director: String,
    pub(super) server: String,
}

impl Lab {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let id = format!(
            "lvxnl-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let lab = Self {
            director: format!("{id}-d"),
            server: format!("{id}-s"),
        };
        for name in [&lab.director, &lab.server] {
            run(&format!("ip netns add {name}"));
            run(&format!("ip -n {name} link set lo up"));
            // Neighbour discovery waits until the link-local address is proven unique.
            run(&format!(
                "ip netns exec {name} sysctl -qw net.ipv6.conf.default.accept_dad=0"
            ));
        }
        run(&format!(
            "ip link add eth0 netns {} type veth peer name eth0 netns {}",
            lab.director, lab.server
        ));
        for (name, mac, host) in [(&lab.director, "11", 1), (&lab.server, "22", 2)] {
            run(&format!(
                "ip -n {name} link set eth0 address 02:00:00:00:00:{mac}"
            ));
            run(&format!("ip -n {name} addr add 10.77.0.{host}/24 dev eth0"));
            run(&format!(
                "ip -n {name} addr add fd77::{host}/64 dev eth0 nodad"
            ));
            run(&format!("ip -n {name} link set eth0 up"));
        }
        lab
    }

    pub(super) fn director(&self, command: &str) -> String {
        run(&format!("ip -n {} {command}", self.director))
    }

    pub(super) fn server(&self, command: &str) -> String {
        run(&format!("ip -n {} {command}", self.server))
    }

    /// Runs `test` in the director's namespace, on a thread of its own.
    pub(super) fn watch(&self, targets: &[&str], test: impl AsyncFnOnce(&mut Eye) + Send) {
        let targets: BTreeSet<IpAddr> = targets.iter().map(|t| t.parse().unwrap()).collect();
        let body = || {
            let namespace = File::open(format!("/run/netns/{}", self.director)).unwrap();
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (sender, receiver) = tokio::sync::watch::channel(targets);
                let mut eye = Eye {
                    watch: watch(receiver).await.unwrap(),
                    targets: sender,
                };
                timeout(Duration::from_secs(30), test(&mut eye))
                    .await
                    .expect("the test takes too long");
            });
        };
        thread::scope(|scope| {
            if let Err(panic) = scope.spawn(body).join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.director, &self.server] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub(super) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(super) struct Eye {
    pub(super) watch: Watch,
    pub(super) targets: Sender<BTreeSet<IpAddr>>,
}

impl Eye {
    /// Waits until `target` resolves as `good` says.
    pub(super) async fn sees(
        &self,
        within_ms: u64,
        target: &str,
        good: impl Fn(&Resolution) -> bool,
    ) -> Arc<View> {
        let target: IpAddr = target.parse().unwrap();
        let mut views = self.watch.subscribe();
        let wait = views.wait_for(|view| view.targets.get(&target).is_some_and(&good));
        let found = timeout(Duration::from_millis(within_ms), wait)
            .await
            .map(|view| view.unwrap().clone());
        found.unwrap_or_else(|_| panic!("{target}: {:?}", self.watch.view().targets.get(&target)))
    }

    pub(super) async fn sees_mac(
        &self,
        within_ms: u64,
        target: &str,
        wanted: [u8; 6],
    ) -> Arc<View> {
        self.sees(
            within_ms,
            target,
            |r| matches!(r, Resolution::Via { mac, .. } if *mac == Some(wanted)),
        )
        .await
    }

    pub(super) fn set_targets(&self, targets: &[&str]) {
        self.targets
            .send_replace(targets.iter().map(|t| t.parse().unwrap()).collect());
    }
}

pub(super) fn eth0(view: &View) -> &Link {
    view.links
        .values()
        .find(|link| link.name == "eth0")
        .unwrap()
}
