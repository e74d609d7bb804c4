//! What is agreed on exports: keys of the shared configuration. `mfs/KEY` is for all nodes,
//! `mfs/N/KEY` for node N; both go before this node's own file, the second before the first.

use crate::config::mfs::{Mfs, SETTINGS};
use krg_types::NodeId;
use std::collections::BTreeMap;

/// All of these keys begin so.
pub const PREFIX: &str = "mfs/";

/// The keys with that prefix, and their values.
pub type Agreed = BTreeMap<String, String>;

/// For which node a key is, if not for all, and what it sets.
fn parse(key: &str) -> Option<(Option<NodeId>, &str)> {
    let rest = key.strip_prefix(PREFIX)?;
    let (node, setting) = match rest.split_once('/') {
        Some((node, setting)) => {
            let number: NodeId = node.parse().ok()?;
            // One node has one key: there is no `02`.
            (Some(number).filter(|n| n.to_string() == node)?.into(), setting)
        }
        None => (None, rest),
    };
    SETTINGS.contains(&setting).then_some((node, setting))
}

/// May this be agreed on?
///
/// # Errors
/// What is accepted instead.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    let Some((_, setting)) = parse(key) else {
        let words = "there is no such setting; there are mfs/KEY for all nodes and mfs/N/KEY for \
                     node N, where KEY is one of";
        return Err(format!("{key}: {words} {}", SETTINGS.join(", ")));
    };
    Mfs::default().set(setting, value).map_err(|accepted| wrong(key, value, &accepted))
}

/// Does a key change anything for this node?
pub fn concerns(key: &str, own: NodeId) -> bool {
    parse(key).is_some_and(|(node, _)| node.is_none_or(|node| node == own))
}

fn wrong(key: &str, value: &str, accepted: &str) -> String {
    format!("{key} = {value:?}: it takes {accepted}")
}

/// The settings of node `own`: those of its file, with what is agreed for all nodes in their
/// place, and with what is agreed for it in the place of these. Keys that are not known here are
/// another version's.
///
/// # Errors
/// When a value is bad: nothing of it is to be used then.
pub fn settings(file: &Mfs, agreed: &Agreed, own: NodeId) -> Result<Mfs, String> {
    let mut settings = file.clone();
    for whose in [None, Some(own)] {
        for (key, value) in agreed {
            if let Some((node, setting)) = parse(key)
                && node == whose
            {
                let set = settings.set(setting, value);
                set.map_err(|accepted| wrong(key, value, &accepted))?;
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::mfs::Squash;
    use std::path::Path;

    fn node(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    #[test]
    fn a_key_is_for_all_nodes_or_for_one() {
        assert_eq!(parse("mfs/off"), Some((None, "off")));
        assert_eq!(parse("mfs/12/deny"), Some((Some(node(12)), "deny")));
        for bad in [
            "mfs",
            "mfs/",
            "mfs//off",
            "mfs/0/off",
            "mfs/256/off",
            "mfs/02/off",
            "mfs/+2/off",
            "mfs/x/off",
            "mfs/2",
            "mfs/2/",
            "mfs/2/offf",
            "mfs/mount",
            "mfs/2/off/x",
            "mfx/off",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(concerns("mfs/off", node(2)) && concerns("mfs/2/off", node(2)));
        assert!(!concerns("mfs/3/off", node(2)) && !concerns("mfs/x", node(2)));
    }

    #[test]
    fn what_is_refused_is_told_with_what_is_accepted() {
        assert_eq!(check("mfs/2/off", "true"), Ok(()));
        assert_eq!(
            check("mfs/2/off", "1").unwrap_err(),
            "mfs/2/off = \"1\": it takes true or false"
        );
        let words = check("mfs/2/of", "true").unwrap_err();
        assert!(words.contains("mfs/N/KEY") && words.contains("root_squash"), "{words}");
    }

    #[test]
    fn the_nodes_own_key_goes_before_that_of_all_and_that_before_the_file() {
        let file =
            Mfs { read_only: true, deny: vec!["/file".into()], off: true, ..Mfs::default() };
        let agreed = |pairs: &[(&str, &str)]| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            settings(&file, &pairs.iter().map(own).collect(), node(2))
        };
        assert_eq!(agreed(&[]).unwrap(), file);
        let all = agreed(&[
            ("mfs/2/deny", "/own"),
            ("mfs/2/off", "false"),
            ("mfs/3/root_squash", "true"),
            ("mfs/deny", "/all"),
            ("mfs/export", "/srv"),
            ("mfs/of-another-version", "x"),
            ("mfs/off", "true"),
        ]);
        let all = all.unwrap();
        assert_eq!((all.read_only, all.off, all.root_squash), (true, false, Squash(None)));
        assert_eq!((all.export.as_path(), all.deny), (Path::new("/srv"), vec!["/own".into()]));
        let bad = agreed(&[("mfs/off", "maybe"), ("mfs/2/off", "true")]).unwrap_err();
        assert!(bad.contains("mfs/off"), "{bad}");
        assert!(agreed(&[("mfs/3/off", "maybe")]).is_ok(), "not this node's");
    }
}
