//! Tells members that they are none any more: afterwards every door is closed to them, and they
//! would have to guess.

use krg_meta::meta::Farewell;
use krg_rpc::dial::Dial;
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::proto::member::{GoodbyeRequest, PowerOffRequest};
use krg_types::MemberId;
use krg_types::limits::PROTOCOL_VERSION;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// One of them is told for so long at most.
const TELL_MAX: Duration = Duration::from_millis(800);

/// Goodbyes through these channels, in the name of this cluster.
pub fn by(dial: Arc<dyn Dial>, cluster: String) -> Farewell {
    Arc::new(move |leaving| {
        let (dial, cluster) = (dial.clone(), cluster.clone());
        Box::pin(async move {
            let mut told = JoinSet::new();
            for (member, address) in leaving {
                let mut client = MemberClient::new(dial.channel(member, &address));
                let cluster = cluster.clone();
                told.spawn(async move {
                    let version = PROTOCOL_VERSION;
                    let goodbye = GoodbyeRequest { version, cluster, member: member.get() };
                    if !matches!(timeout(TELL_MAX, client.goodbye(goodbye)).await, Ok(Ok(_))) {
                        tracing::warn!(%member, "could not be told that it is a member no more");
                    }
                });
            }
            while told.join_next().await.is_some() {}
        })
    })
}

/// Has the daemons of these members end; who could not be told.
pub async fn power_off(
    dial: &Arc<dyn Dial>,
    cluster: &str,
    members: Vec<(MemberId, String)>,
    reboot: bool,
) -> Vec<MemberId> {
    let mut told = JoinSet::new();
    for (member, address) in members {
        let mut client = MemberClient::new(dial.channel(member, &address));
        let cluster = cluster.to_owned();
        told.spawn(async move {
            let order = PowerOffRequest { version: PROTOCOL_VERSION, cluster, reboot };
            let done = timeout(TELL_MAX, client.power_off(order)).await;
            (!matches!(done, Ok(Ok(_)))).then_some(member)
        });
    }
    told.join_all().await.into_iter().flatten().collect()
}
