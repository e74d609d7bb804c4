//! The configuration file. Everything has a default; an unknown key is an error with its line.

pub mod mfs;

use crate::export;
use crate::kerrighed::KerrighedNodes;
use anyhow::{Context, Result, anyhow, bail};
use krg_types::limits::{CLUSTER_NAME_BYTES_MAX, NODE_ID_MAX};
use krg_types::{NodeId, view};
use mfs::Mfs;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// Where it is looked for.
pub const PATH: &str = "/etc/krg/krg.toml";
/// The port if none is said.
const PORT: u16 = 7600;

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The number this node asks for when it joins, or gives itself when it makes a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// The name of the cluster that this node makes if it is of none.
    pub cluster: String,
    /// Kerrighed's number of that cluster, 1 to 9999.
    pub session: u32,
    /// That cluster starts when so many nodes are there.
    pub nodes_min: u32,
    /// Where this node listens for others.
    pub listen: SocketAddr,
    /// Where others reach it, if not there: an unspecified `listen` means this machine's address
    /// towards its default route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<SocketAddr>,
    /// Where metrics are served over HTTP in Prometheus' text format; absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// The directory for the socket and for what is known of mounts.
    pub run_dir: PathBuf,
    /// The directory of what must survive: this node's papers, and what the cluster agreed on.
    pub state_dir: PathBuf,
    /// Hours that certificates last which this node signs.
    pub certificate_hours: f64,
    /// The view of the processes.
    pub view: View,
    /// The file trees of the nodes.
    pub mfs: Mfs,
}

/// The view of the cluster's processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct View {
    /// Where it is mounted; empty: nowhere.
    pub mount: PathBuf,
    /// The processes of a silent node leave after this many seconds.
    pub forget_after_s: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node_id: None,
            cluster: "krg".into(),
            session: 1,
            nodes_min: 1,
            listen: (Ipv4Addr::UNSPECIFIED, PORT).into(),
            advertise: None,
            metrics: None,
            run_dir: "/run/krg".into(),
            state_dir: "/var/lib/krg".into(),
            certificate_hours: 90.0 * 24.0,
            view: View::default(),
            mfs: Mfs::default(),
        }
    }
}

impl Default for View {
    fn default() -> View {
        View { mount: view::USUAL.into(), forget_after_s: 60 }
    }
}

impl Config {
    /// Reads `path`, or the usual file if there is one, or takes the defaults.
    pub fn load(path: Option<&Path>) -> Result<Config> {
        let (path, must) = path.map_or((Path::new(PATH), false), |p| (p, true));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must => String::new(),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        Config::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Config> {
        // The error of the toml crate shows the line, its number, and the keys there are.
        let config: Config = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = &self.cluster;
        if name.is_empty() || name.len() > CLUSTER_NAME_BYTES_MAX || !name.chars().all(plain) {
            bail!("cluster = {name:?}: letters, digits, `-`, `_` and `.`, 1 to 64 of them");
        }
        if !(1..=9999).contains(&self.session) {
            bail!("session = {}: 1 to 9999", self.session);
        }
        if !(1..=NODE_ID_MAX).contains(&self.nodes_min) {
            bail!("nodes_min = {}: 1 to {NODE_ID_MAX}", self.nodes_min);
        }
        if !(0.001..=87_600.0).contains(&self.certificate_hours) {
            bail!("certificate_hours = {}: up to 87600 (ten years)", self.certificate_hours);
        }
        if let Some(at) = self.advertise.filter(|at| at.ip().is_unspecified() || at.port() == 0) {
            bail!("advertise = {at}: others cannot reach that");
        }
        let rules = export::rules(self, &self.mfs, export::Whose::Others);
        rules.map(drop).map_err(|why| anyhow!("[mfs] {why}"))
    }

    /// What only the machine it is for can tell, when krgd starts: later the processes of mounts
    /// go on with what there is.
    ///
    /// # Errors
    /// What is not there.
    pub fn check_machine(&self) -> Result<()> {
        export::is_there(&self.mfs).map_err(|why| anyhow!("[mfs] {why}"))
    }

    /// The number that a node which makes a cluster gives itself.
    pub fn founder_id(&self) -> NodeId {
        self.node_id.unwrap_or_else(|| NodeId::new(1).expect("1 is a node's number"))
    }

    /// Where others reach this node.
    pub fn reachable_at(&self) -> SocketAddr {
        let known = self.advertise.or(Some(self.listen).filter(|at| !at.ip().is_unspecified()));
        known.unwrap_or_else(|| SocketAddr::new(own_ip(), self.listen.port()))
    }

    /// Takes from Kerrighed's file of nodes what the configuration itself does not say.
    pub fn fill_in(&mut self, nodes: &KerrighedNodes, hostname: &str) {
        let default = Config::default();
        if self.session == default.session {
            self.session = nodes.session.unwrap_or(self.session);
        }
        if self.nodes_min == default.nodes_min {
            self.nodes_min = nodes.nodes_min.unwrap_or(self.nodes_min);
        }
        self.node_id = self.node_id.or_else(|| nodes.ids.get(hostname).copied());
    }

    /// All of it, defaults included, as a file.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

/// The address of this machine from which it reaches others. Nothing is sent for it: a connected
/// datagram socket only asks the kernel's routes. The target is of a network kept for documents.
fn own_ip() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(Ipv4Addr::LOCALHOST.into(), |at| at.ip())
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn no_file_is_a_cluster_of_one() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.founder_id().get(), 1);
        assert!(!config.reachable_at().ip().is_unspecified());
        let again = Config::parse(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again.to_toml().unwrap(), config.to_toml().unwrap());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let text = "node_id = 2\n[view]\nmout = \"/x\"\n";
        let error = format!("{:#}", Config::parse(text).unwrap_err());
        assert!(error.contains("line 3"), "{error}");
        assert!(error.contains("mout") && error.contains("mount"), "{error}");
    }

    #[test]
    fn bad_values_are_refused() {
        for text in [
            "node_id = 0",
            "node_id = 256",
            "session = 0",
            "cluster = \"\"",
            "cluster = \"a b\"",
            "listen = \"nowhere\"",
            "[[peer]]\nid = 1\naddress = \"10.0.0.1:7600\"",
            "[[peer]]\nid = 2",
            "[mfs]\nexport = \"srv\"",
            "[mfs]\ndeny = [\"etc\"]",
            "[mfs]\nexport = \"/srv\"\ndeny = [\"/srv\"]",
            "[mfs]\nexport = \"/var/lib/krg\"",
            "[mfs]\nroot_squash = 7",
        ] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
        let config = Config::parse("[mfs]\nexport = \"/krg-not-there\"").unwrap();
        assert!(config.check_machine().unwrap_err().to_string().contains("[mfs] export"));
    }
}
