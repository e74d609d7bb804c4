//! The configuration file. Everything has a default; an unknown key is an error with its line.

use anyhow::{Context, Result, bail};
use krg_types::NodeId;
use krg_types::limits::CLUSTER_NAME_BYTES_MAX;
use krg_types::view;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where it is looked for.
pub const PATH: &str = "/etc/krg/krg.toml";
/// The port if none is said.
const PORT: u16 = 7600;

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's number.
    pub node_id: NodeId,
    /// The cluster's name; a daemon of another one is refused.
    pub cluster: String,
    /// Kerrighed's number of a cluster, 1 to 9999; only shown.
    pub session: u32,
    /// Where other nodes reach this one.
    pub listen: SocketAddr,
    /// The directory for the socket and for what is known of mounts.
    pub run_dir: PathBuf,
    /// The view of the processes.
    pub view: View,
    /// The other nodes.
    #[serde(rename = "peer")]
    pub peers: Vec<Peer>,
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

/// Another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its number.
    pub id: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node_id: NodeId::new(1).expect("1 is a node's number"),
            cluster: "krg".into(),
            session: 1,
            listen: (Ipv4Addr::LOCALHOST, PORT).into(),
            run_dir: "/run/krg".into(),
            view: View::default(),
            peers: Vec::new(),
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
        let mut seen = BTreeSet::from([self.node_id]);
        for peer in &self.peers {
            if !seen.insert(peer.id) {
                bail!("[[peer]] id = {}: this node number is used twice", peer.id);
            }
        }
        Ok(())
    }

    /// Every node, this one included.
    pub fn nodes(&self) -> Vec<(NodeId, SocketAddr)> {
        let own = (self.node_id, self.listen);
        std::iter::once(own).chain(self.peers.iter().map(|p| (p.id, p.address))).collect()
    }

    /// All of it, defaults included, as a file.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn no_file_is_a_cluster_of_one() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.nodes().len(), 1);
        assert!(config.listen.ip().is_loopback());
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
        ] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
    }
}
