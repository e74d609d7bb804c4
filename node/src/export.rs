//! Which of this node's files others have: what its file and the cluster's configuration say,
//! less its own secrets.

pub mod agreed;
mod feed;
mod keep;

use crate::config::Config;
use crate::config::mfs::Mfs;
use crate::member_feed::Fed;
use agreed::Agreed;
use anyhow::{Context, Result};
use keep::{Keeper, Seen};
use krg_faf::export::{Export, Rules};
use krg_faf::server::Server;
use krg_rpc::peers::Peers;
use krg_types::NodeId;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

/// Who has the files of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The other nodes.
    Others,
    /// This node, whose tree is like that for others: but it is not turned away, and who is root
    /// here is root.
    Own,
}

/// Serves what is configured and agreed, and follows both, and what is mounted, from then on.
///
/// # Errors
/// When krgd does not tell what is agreed, or the tree cannot be made.
pub async fn serve(config: &Config, fed: &Fed, whose: Whose) -> Result<Arc<Server>> {
    let mut agreed = feed::start(config, agreed::PREFIX).await?;
    let (config, own) = (config.clone(), fed.members.own());
    let wanted = move |agreed: &Agreed| {
        let settings = agreed::settings(&config.mfs, agreed, own)?;
        rules(&config, &settings, whose)
    };
    let first = wanted(&agreed.borrow_and_update());
    let secret = fed.identity.key_pkcs8_der.clone();
    let (server, keeper) = tokio::task::spawn_blocking(move || open(first, &secret)).await??;
    tokio::spawn(async move {
        while agreed.changed().await.is_ok() {
            let rules = wanted(&agreed.borrow_and_update());
            let keeper = keeper.clone();
            let _ = tokio::task::spawn_blocking(move || keeper.want(rules)).await;
        }
    });
    Ok(server)
}

/// The server as it begins. What cannot be shown as it should be is not shown at all: there is
/// nothing yet that could stay as it was.
fn open(wanted: Result<Rules, String>, secret: &[u8]) -> Result<(Arc<Server>, Arc<Keeper>)> {
    let closed = Rules { off: true, ..Rules::default() };
    let (wanted, why) = match wanted {
        Ok(rules) => (rules, None),
        Err(why) => (closed.clone(), Some(why)),
    };
    // First: what is mounted while the tree is made is told.
    let mounts = Seen::new(&wanted).context("cannot follow what is mounted")?;
    let opened = match Export::open(wanted.clone(), secret) {
        Err(e) if wanted != closed => {
            keep::refused(&format!("{}: {e}", wanted.root.display()));
            Export::open(closed, secret)
        }
        opened => opened,
    };
    if let Some(why) = why {
        keep::refused(&why);
    }
    let export = opened.context("cannot make the tree that others see")?;
    let server = Arc::new(Server::new(export));
    let keeper = Arc::new(Keeper::new(server.clone(), wanted));
    keeper.clone().follow(mounts).context("no thread for the mount table")?;
    Ok((server, keeper))
}

/// What others may have by these settings. What is this node's own secret is not among it.
///
/// # Errors
/// When they contradict each other.
pub fn rules(config: &Config, settings: &Mfs, whose: Whose) -> Result<Rules, String> {
    settings.check()?;
    let own = [&config.state_dir, &config.run_dir].map(PathBuf::clone);
    let root = &settings.export;
    if let Some(dir) = settings.deny.iter().find(|dir| root.starts_with(dir)) {
        return Err(format!("deny = {dir:?} covers all of export = {root:?}"));
    }
    if let Some(dir) = own.iter().find(|dir| root.starts_with(dir)) {
        return Err(format!("export = {root:?}: {dir:?} is krgd's own, and denied to all"));
    }
    Ok(Rules {
        root: root.clone(),
        deny: settings.deny.iter().cloned().chain(own).collect(),
        nested: settings.nested,
        read_only: settings.read_only,
        root_squash: settings.root_squash.0.filter(|_| whose == Whose::Others),
        off: settings.off && whose == Whose::Others,
    })
}

/// Can this node do what is to be agreed on? `before` is what is agreed now.
///
/// # Errors
/// With the reason. What was wrong before is no reason: the change may be a part of mending it.
pub fn check(
    config: &Config,
    own: NodeId,
    before: Agreed,
    key: &str,
    value: &str,
) -> Result<(), String> {
    agreed::check(key, value)?;
    let usable = |agreed: &Agreed| {
        let settings = agreed::settings(&config.mfs, agreed, own)?;
        rules(config, &settings, Whose::Others)?;
        is_there(&settings)
    };
    if !agreed::concerns(key, own) || usable(&before).is_err() {
        return Ok(());
    }
    let mut after = before;
    after.insert(key.to_owned(), value.to_owned());
    usable(&after)
}

/// Is the directory there?
///
/// # Errors
/// That it is not.
pub fn is_there(settings: &Mfs) -> Result<(), String> {
    match std::fs::metadata(&settings.export) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("export = {:?}: not a directory on this node", settings.export)),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(format!("export = {:?}: no such directory on this node", settings.export))
        }
        Err(e) => Err(format!("export = {:?}: {e}", settings.export)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::mfs::Squash;
    use std::path::Path;

    fn settings(export: &str, deny: &[&str]) -> Mfs {
        let deny = deny.iter().map(PathBuf::from).collect();
        Mfs { export: export.into(), deny, ..Mfs::default() }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let config = Config::default();
        let rules = |export, deny| rules(&config, &settings(export, deny), Whose::Others);
        let made = rules("/srv", &["/srv/a", "/etc"]).unwrap();
        assert_eq!(made.root, Path::new("/srv"));
        for own in [&config.state_dir, &config.run_dir] {
            assert!(made.deny.contains(own), "{own:?}");
        }
        for (export, deny, words) in [
            ("/srv", &["/srv"][..], "covers"),
            ("/srv/a", &["/x", "/srv"], "covers"),
            ("/", &["/"], "covers"),
            ("srv", &[], "absolute"),
            ("/srv", &["a"], "absolute"),
            ("/srv", &["/a/../srv"], "absolute"),
            ("/var/lib/krg/identity", &[], "krgd's own"),
            ("/run/krg", &[], "krgd's own"),
        ] {
            let refused = rules(export, deny).unwrap_err();
            assert!(refused.contains(words), "{export} {deny:?}: {refused}");
        }
    }

    #[test]
    fn the_own_node_is_not_turned_away() {
        let config = Config::default();
        let squash = Squash(Some((7, 8)));
        let settings =
            Mfs { off: true, read_only: true, root_squash: squash, ..settings("/srv", &[]) };
        let others = rules(&config, &settings, Whose::Others).unwrap();
        assert_eq!((others.off, others.root_squash), (true, Some((7, 8))));
        let own = rules(&config, &settings, Whose::Own).unwrap();
        assert_eq!((own.off, own.root_squash, own.read_only), (false, None, true));
        assert_eq!((own.root.clone(), own.view()), (others.root.clone(), others.view()));
    }

    #[test]
    fn a_change_is_refused_where_it_would_make_things_worse() {
        let config = Config::default();
        let own = NodeId::new(2).unwrap();
        let set = |before: &[(&str, &str)], key: &str, value: &str| {
            let before = before.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            check(&config, own, before.collect(), key, value)
        };
        assert_eq!(set(&[], "mfs/2/deny", "/usr/share"), Ok(()));
        for (key, value, words) in [
            ("mfs/export", "/krg-not-there", "no such directory"),
            ("mfs/2/export", "/etc/passwd", "not a directory"),
            ("mfs/2/deny", "/", "covers"),
            ("mfs/3/deny", "x", "absolute"),
        ] {
            let refused = set(&[], key, value).unwrap_err();
            assert!(refused.contains(words), "{key}: {refused}");
        }
        assert!(set(&[("mfs/export", "/usr")], "mfs/deny", "/usr").is_err());
        // Another node's: only it can tell.
        assert_eq!(set(&[], "mfs/3/export", "/krg-not-there"), Ok(()));
        // It is wrong already.
        assert_eq!(
            set(&[("mfs/export", "/usr"), ("mfs/deny", "/usr")], "mfs/off", "true"),
            Ok(())
        );
    }
}
