//! Bringing nodes into the cluster: who is to join, with what token, asked of whom.

use super::Event;
use crate::control::Krgd;
use crate::plan::Plan;
use crate::state::Node;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Joins at the same time.
const JOINS_MAX: usize = 8;

/// A token and the node that made it: that one knows it first.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Token {
    made_by: u32,
    text: String,
}

/// What is under way.
pub struct Joins {
    tokens: Vec<Token>,
    /// Tokens are being made.
    asking: bool,
    joining: BTreeSet<u32>,
    free: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
}

impl Joins {
    /// Nobody joins yet.
    pub fn new(events: mpsc::Sender<Event>) -> Joins {
        Joins {
            tokens: Vec::new(),
            asking: false,
            joining: BTreeSet::new(),
            free: Arc::new(Semaphore::new(JOINS_MAX)),
            events,
        }
    }

    /// Begins what can begin now. `nodes` are those that are not known to fail.
    pub fn go_on(&mut self, plan: Plan, nodes: &[&Node]) {
        let Some(host) = nodes.iter().copied().find(|n| can_help(n)) else { return };
        let strangers: Vec<&Node> = nodes
            .iter()
            .copied()
            .filter(|n| n.boot.is_some() && !n.member && !self.joining.contains(&n.id))
            .collect();
        if strangers.len() > self.tokens.len() && !self.asking {
            // In one go, also for those whose krgd is not ready yet.
            self.ask(host, strangers.len() - self.tokens.len());
        }
        for node in strangers.into_iter().filter(|n| n.ready) {
            let Some(token) = self.tokens.pop() else { return };
            let maker = nodes.iter().find(|n| n.id == token.made_by && can_help(n));
            let address = plan.listen(maker.map_or(host.id, |n| n.id));
            self.join(node, address, token.text);
        }
    }

    fn ask(&mut self, host: &Node, count: usize) {
        self.asking = true;
        let (host, events) = (host.clone(), self.events.clone());
        tokio::spawn(async move {
            let tokens = async {
                let mut krgd = Krgd::connect(&host).await?;
                krgd.tokens(u32::try_from(count)?).await
            };
            let made = tokens.await.map_err(|e| format!("no tokens to join with: {e:#}"));
            let _ = events.send(Event::Tokens(host.id, made)).await;
        });
    }

    /// Takes in the tokens that `made_by` made, or that it made none.
    pub fn on_tokens(&mut self, made_by: u32, made: Vec<String>) {
        self.asking = false;
        self.tokens.extend(made.into_iter().map(|text| Token { made_by, text }));
    }

    fn join(&mut self, node: &Node, address: String, token: String) {
        let Some(boot) = node.boot.map(|b| b.pid) else { return };
        self.joining.insert(node.id);
        let (node, free, events) = (node.clone(), self.free.clone(), self.events.clone());
        tokio::spawn(async move {
            // Never closed: all of it ends with the keeper.
            let _permit = free.acquire_owned().await;
            let joined = async {
                let mut krgd = Krgd::connect(&node).await?;
                krgd.join(address, token, node.id).await
            };
            let joined = joined.await.map_err(|e| format!("{e:#}"));
            let _ = events.send(Event::Joined(node.id, boot, joined)).await;
        });
    }

    /// It has joined, or failed to, or its life has ended.
    pub fn ended(&mut self, node: u32) {
        self.joining.remove(&node);
    }
}

/// A member that can make tokens and let others in.
fn can_help(node: &Node) -> bool {
    node.member && node.ready && node.is_up()
}
