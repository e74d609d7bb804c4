//! A server in the client's own process: for this node's own files.

use super::pending::Reply;
use super::{Events, sane};
use crate::op::{Answer, OpenId, Request};
use crate::server::{Ear, Open, Out, Server, Session, enter_thread};
use bytes::Bytes;
use krg_types::{MemberId, NodeId};
use std::cell::RefCell;
use std::sync::Arc;

/// It, and its only client.
pub(super) struct Local {
    server: Arc<Server>,
    session: Arc<Session>,
}

thread_local! {
    /// What a thread that asks needs to answer: none before it has.
    static OUT: RefCell<Option<Out>> = const { RefCell::new(None) };
}

impl Local {
    pub(super) fn new(server: Arc<Server>, events: Arc<dyn Events>) -> Local {
        // Nobody else is here to be told from.
        let own = NodeId::new(1).map(|node| MemberId::new(node, 1)).unwrap_or_default();
        let session = server.join(own, 0);
        session.promises.set_ear(Ear::Here(Arc::new(move |notice| events.notice(notice))));
        Local { server, session }
    }

    pub(super) fn perform(&self, request: Request, data: &[&[u8]]) -> Reply {
        OUT.with_borrow_mut(|out| {
            if out.is_none() {
                enter_thread().map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))?;
            }
            let out = out.get_or_insert_default();
            let data = data.concat();
            match self.server.perform(&self.session, request, &data, out) {
                Answer::Failed(errno) => Err(sane(errno)),
                answer => Ok((answer, Bytes::copy_from_slice(out.bytes()))),
            }
        })
    }

    pub(super) fn file(&self, open: OpenId) -> Option<Arc<Open>> {
        self.session.get(open).ok()
    }
}
