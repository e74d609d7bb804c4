//! Kerrighed's /etc/kerrighed_nodes: `session=N`, `nbmin=N` and `hostname:nodeid` lines.

use anyhow::{Context, Result, bail};
use krg_types::NodeId;
use krg_types::limits::{NAME_BYTES_MAX, NODE_ID_MAX};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

/// Where it is.
pub const PATH: &str = "/etc/kerrighed_nodes";
/// A longer file is not one of these.
const BYTES_MAX: u64 = 64 << 10;

/// What the file says.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct KerrighedNodes {
    /// The number that separates clusters on one wire, 1 to 9999.
    pub session: Option<u32>,
    /// The cluster starts when so many nodes are there.
    pub nodes_min: Option<u32>,
    /// The nodes' numbers by host name.
    pub ids: BTreeMap<String, NodeId>,
}

impl KerrighedNodes {
    /// Reads the file; nothing if there is none.
    ///
    /// # Errors
    /// When it cannot be read, or a line is not one; the line's number is told.
    pub fn load(path: &Path) -> Result<KerrighedNodes> {
        let size = match std::fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(KerrighedNodes::default()),
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        };
        if size > BYTES_MAX {
            bail!("{}: longer than {BYTES_MAX} bytes", path.display());
        }
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        KerrighedNodes::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<KerrighedNodes> {
        let mut nodes = KerrighedNodes::default();
        for (n, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                nodes.take(line).with_context(|| format!("line {}: {line:?}", n + 1))?;
            }
        }
        Ok(nodes)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim(), value.trim());
            let number: u32 = value.parse().context("not a number")?;
            match key {
                "session" if (1..=9999).contains(&number) => self.session = Some(number),
                "session" => bail!("a session is 1 to 9999"),
                "nbmin" if (1..=NODE_ID_MAX).contains(&number) => self.nodes_min = Some(number),
                "nbmin" => bail!("nbmin is 1 to {NODE_ID_MAX}"),
                _ => bail!("there are `session=` and `nbmin=`, not `{key}=`"),
            }
            return Ok(());
        }
        let Some((name, id)) = line.split_once(':') else {
            bail!("neither `session=N`, `nbmin=N` nor `hostname:nodeid`");
        };
        let name = name.trim();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            bail!("no host name");
        }
        let id: NodeId = id.trim().parse()?;
        if self.ids.values().any(|other| *other == id) {
            bail!("node number {id} is used twice");
        }
        if self.ids.insert(name.to_owned(), id).is_some() {
            bail!("host {name} is there twice");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_form_is_read() {
        let text = "session=12\nnbmin=3 # wait for three\n\nalpha:1\nbeta : 2\n";
        let nodes = KerrighedNodes::parse(text).unwrap();
        assert_eq!((nodes.session, nodes.nodes_min), (Some(12), Some(3)));
        assert_eq!(nodes.ids["beta"].get(), 2);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in [
            "session=0",
            "session=10000",
            "session=x",
            "nbmin=0",
            "nbmin=256",
            "other=1",
            "alpha",
            "alpha:0",
            "alpha:256",
            ":1",
            "a:1\nb:1",
            "a:1\na:2",
        ] {
            let error = format!("{:#}", KerrighedNodes::parse(bad).unwrap_err());
            assert!(error.contains("line"), "{error}");
        }
    }
}
