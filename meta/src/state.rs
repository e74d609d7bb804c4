//! What all nodes agree on. Pure: the same batches in the same order make the same state on every
//! node, whatever its clock and its disk do.

use crate::codec::CodecError;
use crate::command::{Batch, Command, Proposal, Replies, Reply, SURVIVOR_EPOCH, Ticket};
use crate::table::sessions::{self, Known};
use crate::table::{At, Change, Rows};
use crate::table::{admission, config, info, leases, nodes, sequences, sets, tokens, trust};
use krg_types::{MemberId, NodeId};

/// The newest version of the state that this program knows: raised with each new command or table.
pub const STATE_VERSION: u32 = 1;

/// Declares the tables: their place in the state, their name on disk, their rows.
macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $row:ty,)*) => {
        /// All tables, and how far they have come.
        #[derive(Clone, Debug)]
        pub struct State {
            /// Grows by one with each command.
            pub revision: u64,
            /// The cluster's clock when the last batch was made, ms.
            pub now_ms: u64,
            $($(#[$doc])* pub $field: Rows<$row>,)*
        }

        impl Default for State {
            fn default() -> State {
                State { revision: 0, now_ms: 0, $($field: Rows::new(stringify!($field)),)* }
            }
        }

        impl State {
            /// Rows changed since this was last asked, in their stored form.
            pub fn take_changes(&mut self) -> Vec<Change> {
                let mut changes = Vec::new();
                $(self.$field.take_changes(&mut changes);)*
                changes
            }

            /// Every row: table, key, stored form.
            pub fn stored(&self) -> Vec<(String, String, Vec<u8>)> {
                let mut rows = Vec::new();
                $(self.$field.stored(&mut rows);)*
                rows
            }

            /// How many rows there are.
            pub fn row_count(&self) -> u64 {
                0 $(+ self.$field.len() as u64)*
            }

            /// The highest revision that wrote one of the rows.
            pub fn newest_row(&self) -> u64 {
                let newest = [$(self.$field.iter().map(|(_, row)| row.revision).max(),)*];
                newest.into_iter().flatten().max().unwrap_or(0)
            }

            /// Takes in one stored row. Rows of a table that this program does not know are an
            /// error: dropping them would be a silent loss.
            ///
            /// # Errors
            /// When the row is damaged, too new, or of an unknown table.
            pub fn load(&mut self, table: &str, key: String, row: &[u8]) -> Result<(), CodecError> {
                match table {
                    $(stringify!($field) => self.$field.load(key, row),)*
                    _ => Err(CodecError::Table(table.to_owned())),
                }
            }
        }
    };
}

tables! {
    /// The cluster as a whole.
    info: info::Info,
    /// Who is a member, or was.
    nodes: nodes::Node,
    /// Which numbers belong to which addresses.
    map: nodes::MapLine,
    /// Who signs certificates.
    authorities: trust::Authority,
    /// Join tokens.
    tokens: tokens::Token,
    /// Named sets of nodes.
    sets: sets::List,
    /// The configuration.
    config: config::Text,
    /// Sequence numbers.
    sequences: sequences::Next,
    /// Leases.
    leases: leases::Lease,
    /// What was answered to whom.
    sessions: sessions::Session,
}

/// Applies a batch.
pub fn apply(state: &mut State, batch: &Batch) -> Replies {
    state.now_ms = state.now_ms.max(batch.now_ms);
    Replies(batch.proposals.iter().map(|proposal| apply_one(state, proposal)).collect())
}

/// Applies a batch and tells after each command that was new what it changed: its revision, its
/// rows. It takes the changes, as `take_changes` does.
pub fn apply_each(
    state: &mut State,
    batch: &Batch,
    mut changed: impl FnMut(u64, Vec<Change>),
) -> Replies {
    state.now_ms = state.now_ms.max(batch.now_ms);
    let replies = batch.proposals.iter().map(|proposal| {
        let before = state.revision;
        let reply = apply_one(state, proposal);
        if state.revision != before {
            changed(state.revision, state.take_changes());
        }
        reply
    });
    Replies(replies.collect())
}

fn apply_one(state: &mut State, proposal: &Proposal) -> Reply {
    match sessions::look(&state.sessions, &proposal.ticket) {
        Known::Done(reply) => return reply,
        Known::Over => {
            return Reply::Refused(
                "this came so late that it is not known whether it was done before".into(),
            );
        }
        Known::New => {}
    }
    // What is kept of a proposer ends with its membership: a late copy would look new.
    let Ticket { origin, epoch, .. } = proposal.ticket;
    let founded = state.info().newest_serial != 0;
    if founded && epoch != SURVIVOR_EPOCH && state.member(origin).is_none() {
        return Reply::Refused(format!("{origin} is not a member of the cluster"));
    }
    state.revision += 1;
    let at = At { revision: state.revision, now_ms: state.now_ms };
    let reply = match &proposal.command {
        Command::Config(c) => config::apply(&mut state.config, at, c),
        Command::Sets(c) => sets::apply(&mut state.sets, at, c),
        Command::Sequences(c) => sequences::apply(&mut state.sequences, at, c),
        Command::Leases(c) => leases::apply(&mut state.leases, at, c),
        Command::Nodes(c) => nodes::apply(state, at, c),
        Command::Tokens(c) => tokens::apply(&mut state.tokens, at, c),
        Command::Trust(c) => trust::apply(state, at, c),
        Command::Admission(c) => admission::apply(state, at, c),
    };
    sessions::keep(&mut state.sessions, at, &proposal.ticket, &reply);
    reply
}

impl State {
    /// Are these two copies the same in who is a member, or may be one, and whom to trust?
    pub fn same_members(&self, other: &State) -> bool {
        self.info.same(&other.info)
            && self.nodes.same(&other.nodes)
            && self.authorities.same(&other.authorities)
            && self.tokens.same(&other.tokens)
            && self.map.same(&other.map)
    }

    /// The cluster as a whole.
    pub fn info(&self) -> info::Info {
        info::get(&self.info)
    }

    /// Everybody who is a member, by node number.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &nodes::Node)> {
        self.nodes.iter().filter_map(|(_, row)| Some((row.value.member?, &row.value)))
    }

    /// The record of this membership, while it lasts.
    pub fn member(&self, member: MemberId) -> Option<&nodes::Node> {
        self.node(member.node()?).filter(|node| node.member == Some(member))
    }

    /// The record of a node.
    pub fn node(&self, node: NodeId) -> Option<&nodes::Node> {
        self.nodes.get(&nodes::key(node))
    }

    /// The number that the map gives to an address (with or without a port).
    pub fn mapped(&self, address: &str) -> Option<NodeId> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        let lines = self.map.iter().map(|(_, row)| &row.value);
        lines.filter_map(|line| line.number_of(host)).next()
    }

    /// Does the map speak of this number?
    pub fn is_mapped(&self, node: NodeId) -> bool {
        self.map.iter().any(|(_, row)| row.value.numbers().contains(&node.get()))
    }

    /// The version that every member knows; it never goes back.
    pub(crate) fn settle_version(&mut self, at: At) {
        let Some(common) = self.members().map(|(_, node)| node.state_version).min() else {
            return;
        };
        if common > self.info().state_version {
            info::change(&mut self.info, at, |info| info.state_version = common);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u32, serial: u64) -> MemberId {
        MemberId::new(NodeId::new(number).unwrap(), serial)
    }

    fn proposal(origin: MemberId, number: u64, command: Command) -> Batch {
        let ticket = Ticket { origin, epoch: 1, number, settled: 0 };
        Batch { now_ms: 0, proposals: [Proposal { ticket, command }].into() }
    }

    #[test]
    fn who_is_no_member_changes_nothing() {
        let mut state = State::default();
        let founder = admission::Applicant {
            address: "10.0.0.1:7600".into(),
            ..admission::Applicant::default()
        };
        let found = admission::Command::Found {
            name: "test".into(),
            session: 0,
            nodes_min: 1,
            founder: Box::new(founder),
            node: NodeId::new(1).unwrap(),
            authority: (String::new(), String::new(), 0),
            gossip_key: String::new(),
        };
        let set = |value: &str| {
            Command::Config(config::Command::Set {
                key: "k".into(),
                value: Some(value.into()),
                if_revision: None,
            })
        };
        apply(&mut state, &proposal(member(1, 1), 1, Command::Admission(found)));
        apply(&mut state, &proposal(member(1, 1), 2, set("mine")));
        let before = state.revision;
        // Another node, and an earlier membership of this one.
        for stranger in [member(2, 2), member(1, 9)] {
            let reply = apply(&mut state, &proposal(stranger, 1, set("theirs"))).0.remove(0);
            assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
        }
        assert_eq!(state.revision, before);
        assert_eq!(state.config.get("k"), Some(&config::Text("mine".into())));
    }
}
