//! What a job's holder needs of the cluster: ways to other nodes, and the record that all agree on.

use krg_rpc::bulk::{Bulk, Preface};
use krg_rpc::tonic::transport::Channel;
use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;

/// An answer that is waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Where a job is, as all nodes agree. Who has the newest may change it: no other change holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Where it was started.
    pub home: u32,
    /// Where its processes are.
    pub holder: u32,
    /// Names the move that brought it there.
    pub trace: String,
    /// How many there were.
    pub moves: u32,
    /// It has ended without a word: this has died.
    pub lost: Option<Lost>,
}

/// What a job was lost with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Its home: what it was started with.
    Home,
    /// What had it abroad.
    Holder,
}

impl Lost {
    fn name(self) -> &'static str {
        match self {
            Lost::Home => "home",
            Lost::Holder => "holder",
        }
    }

    fn parse(name: &str) -> Option<Lost> {
        [Lost::Home, Lost::Holder].into_iter().find(|lost| lost.name() == name)
    }
}

impl Record {
    /// As it is kept.
    pub fn to_text(&self) -> String {
        let Record { home, holder, trace, moves, lost } = self;
        let lost = lost.map(|lost| format!(" lost={}", lost.name())).unwrap_or_default();
        format!("home={home} holder={holder} moves={moves} trace={trace}{lost}")
    }

    /// What has happened to a job that is lost, in words.
    pub fn why_lost(&self) -> Option<String> {
        let words = match self.lost? {
            Lost::Home => format!("its holder at home, on node {}, was killed", self.home),
            Lost::Holder => format!("its holder on node {} was killed", self.holder),
        };
        Some(words)
    }

    /// As it was kept; `None` for what is none.
    pub fn parse(text: &str) -> Option<Record> {
        let mut record = Record::default();
        for word in text.split_whitespace() {
            match word.split_once('=')? {
                ("home", n) => record.home = n.parse().ok()?,
                ("holder", n) => record.holder = n.parse().ok()?,
                ("moves", n) => record.moves = n.parse().ok()?,
                ("trace", t) => record.trace = t.to_owned(),
                ("lost", what) => record.lost = Some(Lost::parse(what).unwrap_or(Lost::Holder)),
                // Of a newer program.
                _ => {}
            }
        }
        (record.home > 0 && record.holder > 0).then_some(record)
    }
}

/// The key of a job's record.
pub fn key(job: u32) -> String {
    format!("{PREFIX}{job}")
}

/// Of all records.
pub const PREFIX: &str = "jobs/";

/// It.
pub trait Cluster: Send + Sync + 'static {
    /// This node.
    fn own(&self) -> u32;
    /// Its name, said in every request.
    fn name(&self) -> Answer<'_, String>;
    /// To the daemon of a node.
    fn channel(&self, node: u32) -> Answer<'_, Channel>;
    /// To who waits on a node for the images of a job.
    fn images_to<'a>(&'a self, node: u32, whom: &'a Preface) -> Answer<'a, Bulk>;
    /// On a connection that has come for them, from node `from` and nobody else.
    fn images_from(&self, connection: TcpStream, from: u32) -> Answer<'_, Bulk>;
    /// A job's record and its revision (0: there is none), as it is now.
    fn record(&self, job: u32) -> Answer<'_, (Option<Record>, u64)>;
    /// Changes it if it has this revision still; false if it has another. After an error it is not
    /// known.
    fn set_record<'a>(
        &'a self,
        job: u32,
        record: Option<&'a Record>,
        if_revision: u64,
    ) -> Answer<'a, bool>;
    /// Keeps a text, for all nodes.
    fn keep(&self, key: String, text: String) -> Answer<'_, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_kept() {
        for lost in [None, Some(Lost::Home), Some(Lost::Holder)] {
            let record = Record { home: 1, holder: 3, trace: "a-7".into(), moves: 9, lost };
            assert_eq!(Record::parse(&record.to_text()), Some(record));
        }
        let newer = Record::parse("home=1 holder=2 later=x trace= moves=1");
        assert_eq!(newer.map(|r| r.holder), Some(2));
        for bad in ["", "home=1", "holder=2", "home=x holder=1", "nonsense"] {
            assert_eq!(Record::parse(bad), None, "{bad}");
        }
    }
}
