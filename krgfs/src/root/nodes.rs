//! The members as krgd has them: who there is, and who answers. While krgd is away the last list
//! stays.

use super::names::{NodeList, Seen};
use krg_rpc::local;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{MemberList, MembersRequest};
use krg_sys::clock::wall_ns;
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::{MemberId, NodeId};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// krgd is asked again so much later when it was not there.
const RETRY: Duration = Duration::from_millis(200);
/// The first list comes within this.
const FIRST_MAX: Duration = Duration::from_secs(4);

/// The members, as far as is known now.
#[derive(Clone, Debug)]
pub struct Nodes(watch::Receiver<Arc<NodeList>>);

impl Nodes {
    /// Takes krgd's first list, and follows it from then on. Within a tokio runtime.
    ///
    /// # Errors
    /// When krgd does not answer.
    pub async fn follow(own: NodeId, socket: PathBuf) -> io::Result<Nodes> {
        let nothing = NodeList { own, nodes: BTreeMap::new() };
        let (send, nodes) = watch::channel(Arc::new(nothing));
        let first = timeout(FIRST_MAX, take(&socket, own, &send, true)).await;
        first.map_err(|_| io::Error::other("krgd does not tell who is a member"))??;
        tokio::spawn(async move {
            while !send.is_closed() {
                if let Err(e) = take(&socket, own, &send, false).await {
                    tracing::debug!(error = %e, "no member list from krgd now");
                }
                sleep_until(Instant::now() + RETRY).await;
            }
        });
        Ok(Nodes(nodes))
    }

    /// The list.
    pub(super) fn now(&self) -> Arc<NodeList> {
        self.0.borrow().clone()
    }

    /// Returns when there is another list; `false`: there will be none.
    pub(super) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Takes lists until krgd is gone; or only one.
async fn take(
    socket: &Path,
    own: NodeId,
    send: &watch::Sender<Arc<NodeList>>,
    once: bool,
) -> io::Result<()> {
    let channel = local::connect(socket).await.map_err(io::Error::other)?;
    let mut client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let ask = MembersRequest { version: PROTOCOL_VERSION };
    let mut lists = client.members(ask).await.map_err(io::Error::other)?.into_inner();
    while let Some(list) = lists.message().await.map_err(io::Error::other)? {
        // krgd replaces this process when this node is another one now; the old list stays.
        if MemberId::from_u64(list.own).and_then(MemberId::node) == Some(own) {
            send.send_replace(Arc::new(read(own, &list, wall_ns())));
        }
        if once {
            break;
        }
    }
    Ok(())
}

fn read(own: NodeId, list: &MemberList, now_ns: u64) -> NodeList {
    // Who is let in still, but is nobody to ask, has no address.
    let asked = list.members.iter().filter(|m| !m.address.is_empty());
    let nodes = asked.filter_map(|m| {
        let node = MemberId::from_u64(m.id)?.node()?;
        let heard_ns = m.silent_ms.map(|ms| now_ns.saturating_sub(ms.saturating_mul(1_000_000)));
        Some((node, Seen { up: m.up, heard_ns }))
    });
    NodeList { own, nodes: nodes.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_rpc::proto::control::Member;

    #[test]
    fn who_may_be_asked_has_an_entry() {
        let node = |n| NodeId::new(n).unwrap();
        let member = |n, address: &str, up, silent_ms| Member {
            id: MemberId::new(node(n), 7).get(),
            address: address.into(),
            up,
            silent_ms,
            ..Member::default()
        };
        let members = vec![
            member(1, "a:1", true, None),
            member(2, "b:1", false, Some(3)),
            member(3, "", true, None),
            Member { id: 0, address: "c:1".into(), ..Member::default() },
        ];
        let list = MemberList { members, ..MemberList::default() };
        let list = read(node(1), &list, 10_000_000);
        let seen = |up, heard_ns| Seen { up, heard_ns };
        let wanted = [(node(1), seen(true, None)), (node(2), seen(false, Some(7_000_000)))];
        assert_eq!(list.nodes, wanted.into());
    }
}
