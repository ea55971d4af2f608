use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Background, Lab, Namespace, Node, Segment, tool};
use crate::http;

/// Where the real servers listen.
const PORTS: [u16; 3] = [80, 443, 8080];

/// A real server: a node with nginx on ports 80, 443 (plain HTTP too) and 8080 that answers its own name.
#[derive(Debug)]
pub struct Server {
    // Dropped before the node, so that nothing runs in a deleted namespace.
    nginx: Option<Background>,
    /// The host.
    pub node: Node,
    /// What it answers: `rs1`, …
    pub name: String,
}

impl Server {
    /// Makes the node and starts nginx on it.
    ///
    /// # Errors
    /// When nginx does not come up within five seconds.
    pub fn new(lab: &Lab, name: &str, segment: &Segment, addr: Ipv4Addr) -> Result<Self> {
        let node = Node::new(lab, name, segment, addr)?;
        Ok(Self {
            nginx: Some(nginx(&node.ns, name, &PORTS)?),
            node,
            name: name.to_owned(),
        })
    }

    /// Ends its nginx, if it runs: connections are refused.
    pub fn stop(&mut self) {
        self.nginx = None;
    }

    /// Starts nginx after [`Server::stop`].
    ///
    /// # Errors
    /// When it does not come up within five seconds.
    pub fn start(&mut self) -> Result<()> {
        self.nginx = Some(nginx(&self.node.ns, &self.name, &PORTS)?);
        Ok(())
    }

    /// Stops nginx in its tracks, or lets it go on: the kernel takes connections,
    /// and nobody ever answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        let nginx = self.nginx.as_ref().context("nginx does not run")?;
        Ok(kill(Pid::from_raw(nginx.pid() as i32), signal)?)
    }

    /// Lets the node answer for the VIP without telling the segment: the VIP on
    /// `lo`, and ARP only for addresses of the asking interface.
    ///
    /// # Errors
    /// When the address is there already.
    pub fn direct_routing(&self, vip: Ipv4Addr) -> Result<()> {
        for which in ["all", "lo"] {
            self.node
                .ns
                .sysctl(&format!("net/ipv4/conf/{which}/arp_ignore"), "1")?;
            self.node
                .ns
                .sysctl(&format!("net/ipv4/conf/{which}/arp_announce"), "2")?;
        }
        self.node.add_address(vip, "lo")
    }
}

/// Starts nginx in a namespace, on these ports of every address; every page is
/// `name` and a line feed, `/client` the address and port that it is asked
/// from, `/busy` status 503, `/index.html` the file `nginx-NAME/pages/index.html` of the lab. Below `/files/` it has the lab's files, and stores
/// what is put there.
///
/// # Errors
/// When it is not installed or does not come up within five seconds.
///
/// # Panics
/// Without a port.
pub fn nginx(ns: &Namespace, name: &str, ports: &[u16]) -> Result<Background> {
    let prefix = ns.lab().dir().join(format!("nginx-{name}"));
    let pages = prefix.join("pages");
    fs::create_dir_all(&pages)?;
    fs::write(pages.join("index.html"), format!("{name} on port 80\n"))?;
    let config = prefix.join("nginx.conf");
    fs::write(&config, configuration(name, ports, ns.lab().dir()))?;
    let mut command = ns.command(tool("nginx"));
    command
        .arg("-p")
        .arg(&prefix)
        .arg("-c")
        .arg(&config)
        .args(["-e", "stderr"]);
    let mut process = ns
        .spawn(&format!("nginx-{name}"), command)
        .map_err(|error| {
            error.context("the lab's servers are nginx: install the package nginx-light (or nginx)")
        })?;

    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, ports[0]);
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        match ns.enter(|| http::get(address, Duration::from_millis(500))) {
            Ok(_) => return Ok(process),
            Err(error) if process.ended().is_some() || Instant::now() > limit => {
                bail!(
                    "nginx on {name} does not answer: {error:#}\n{}",
                    process.log()
                )
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// One process, all of its files below its own prefix.
fn configuration(name: &str, ports: &[u16], files: &Path) -> String {
    let listen: String = ports
        .iter()
        .map(|port| format!("listen {port} backlog=4096; listen [::]:{port} backlog=4096;\n"))
        .collect();
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    keepalive_timeout 600;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        {listen}        default_type text/plain;
        location /files/ {{
            root {};
            dav_methods PUT;
            client_max_body_size 0;
            sendfile on;
        }}
        location = /index.html {{ root pages; }}
        location = /busy {{ return 503; }}
        location = /client {{ return 200 \"$remote_addr $remote_port\\n\"; }}
        location / {{ return 200 \"{name}\\n\"; }}
    }}
}}
",
        files.display()
    )
}
