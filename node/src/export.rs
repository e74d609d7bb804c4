//! Which of this node's files others have: what the configuration says, less its own secrets.

use crate::config::Config;
use anyhow::{Context, Result};
use krg_cluster::identity::Identity;
use krg_faf::export::{Export, Rules};

/// Makes the tree that others see.
///
/// # Errors
/// Without root, or when the directory is not there.
pub fn open(config: &Config, identity: &Identity) -> Result<Export> {
    let export = Export::open(rules(config), &identity.key_pkcs8_der);
    export.context("cannot make the tree that others see")
}

/// What others may have. What is this node's own secret is not among it.
fn rules(config: &Config) -> Rules {
    let deny = vec![config.state_dir.clone(), config.run_dir.clone()];
    Rules { deny, ..Rules::default() }
}
