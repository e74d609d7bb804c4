//! The texts written into every node: krgd's configuration, names, the shell's prompt.

use crate::plan::Plan;
use crate::state::Node;
use std::fmt::Write;

/// Number of a lab's cluster session, as Kerrighed counts them.
const SESSION: u32 = 1;

/// `/etc/krg/krg.toml` of a node. Whom it meets is not in it: that is told when it joins.
pub fn krg_toml(cluster: &str, plan: Plan, node: u32) -> String {
    format!(
        "node_id = {node}\ncluster = \"{cluster}\"\nsession = {SESSION}\nlisten = \"{}\"\n",
        plan.listen(node)
    )
}

/// `/etc/hosts` of every node.
pub fn hosts(nodes: &[Node]) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n");
    for node in nodes {
        let _ = writeln!(text, "{}", host(node));
    }
    text
}

/// A node's line there.
pub fn host(node: &Node) -> String {
    format!("{}\t{}", node.address, node.hostname)
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
    fn a_node_is_told_who_it_is() {
        let text = krg_toml("lab", Plan { links: 1 }, 2);
        assert_eq!(
            text,
            "node_id = 2\ncluster = \"lab\"\nsession = 1\nlisten = \"10.91.1.2:7600\"\n"
        );
        assert_eq!(text.parse::<toml::Table>().unwrap().len(), 4);
    }

    #[test]
    fn hosts_name_all_nodes() {
        let nodes = [1, 2].map(|n| Node::new(Plan { links: 2 }, n));
        assert!(hosts(&nodes).contains("\n10.91.1.1\tnode1\n10.91.2.2\tnode2\n"));
    }
}
