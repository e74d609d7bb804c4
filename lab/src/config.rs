//! The texts written into every node: krgd's configuration, names, the shell's prompt.

use crate::plan::{Plan, hostname};
use std::fmt::Write;

/// Number of a lab's cluster session, as Kerrighed counts them.
const SESSION: u32 = 1;

/// `/etc/krg/krg.toml` of a node.
pub fn krg_toml(cluster: &str, plan: Plan, node: u32) -> String {
    let mut text = format!(
        "node_id = {node}\ncluster = \"{cluster}\"\nsession = {SESSION}\nlisten = \"{}\"\n",
        plan.listen(node)
    );
    for peer in plan.ids().filter(|k| *k != node) {
        let address = plan.listen(peer);
        let _ = write!(text, "[[peer]]\nid = {peer}\naddress = \"{address}\"\n");
    }
    text
}

/// `/etc/hosts` of every node.
pub fn hosts(plan: Plan) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n");
    for node in plan.ids() {
        let _ = writeln!(text, "{}\t{}", plan.address(node), hostname(node));
    }
    text
}

/// What an interactive shell in a node reads: the user's own settings, then the prompt.
pub const SHELL_RC: &str = "\
[ -r /etc/profile ] && . /etc/profile
[ -r ~/.bashrc ] && . ~/.bashrc
PS1='\\u@\\h:\\w\\$ '
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_but_itself() {
        let text = krg_toml("lab", Plan { nodes: 3, links: 1 }, 2);
        assert_eq!(
            text,
            "node_id = 2\ncluster = \"lab\"\nsession = 1\nlisten = \"10.91.1.2:7600\"\n\
             [[peer]]\nid = 1\naddress = \"10.91.1.1:7600\"\n\
             [[peer]]\nid = 3\naddress = \"10.91.1.3:7600\"\n"
        );
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["peer"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_node_alone_has_no_peers() {
        assert!(!krg_toml("x", Plan { nodes: 1, links: 2 }, 1).contains("peer"));
    }

    #[test]
    fn hosts_name_all_nodes() {
        let text = hosts(Plan { nodes: 2, links: 2 });
        assert!(text.contains("\n10.91.1.1\tnode1\n10.91.2.2\tnode2\n"));
    }
}
