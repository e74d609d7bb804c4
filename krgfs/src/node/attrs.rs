//! Attributes of files.

use super::core::{ATTR_TTL, Core, DEADLINE, ROOT_PATIENCE, Result, Who, unexpected};
use fuser::{Errno, FileHandle, INodeNo};
use krg_faf::op::{Answer, Attr, Handle, Op};
use std::sync::Arc;
use std::time::Duration;

impl Core {
    /// The attributes of a file, through one that is open if there is one, and how long the kernel
    /// may use them.
    pub fn attr(
        self: &Arc<Self>,
        who: &Who,
        ino: INodeNo,
        fh: Option<FileHandle>,
        done: impl FnOnce(Result<(Attr, Duration)>) + Send + 'static,
    ) {
        let handle = match self.handle(ino) {
            Ok(handle) => handle,
            Err(e) => return done(Err(e)),
        };
        if ino == INodeNo::ROOT {
            return self.root_attr(who, done);
        }
        let (life, asked, key) = (self.life(), self.asked(), self.inodes.key(ino));
        if let Some((attr, asked, at)) = self.after.take(&handle)
            && self.is_news(asked, key)
            && at.elapsed() < ATTR_TTL
        {
            return done(Ok((attr, ATTR_TTL.saturating_sub(at.elapsed()))));
        }
        let open = fh.and_then(|fh| self.opens.file(fh.0)).and_then(|f| f.remote(life));
        let question = move |open| Op::GetAttr { file: (*handle).clone(), open };
        let who = *who;
        self.behind.barrier_for(self, &who, ino, move |core, clear| {
            if let Err(e) = clear {
                return done(Err(e));
            }
            let asker = core.clone();
            let attr = move |core: &Arc<Core>, reply: Result| match reply {
                Ok((Answer::Attr(attr), _)) => {
                    core.inodes.set_size(ino, attr.size);
                    let is_news = core.is_news(asked, key);
                    Ok((attr, if is_news { ATTR_TTL } else { Duration::ZERO }))
                }
                other => Err(unexpected(other)),
            };
            core.ask(&who, question(open), &[], move |reply| {
                // The kernel does not say that fstat(2) asks. What has no name any more, or none
                // that may be seen, is still there for who has it open.
                let stale = open.is_none() && reply.as_ref().is_err_and(|e| *e == Errno::ESTALE);
                let of = || asker.opens.of(ino).and_then(|f| f.remote(life));
                match stale.then(of).flatten() {
                    Some(open) => {
                        let core = asker.clone();
                        asker.ask(&who, question(Some(open)), &[], move |r| done(attr(&core, r)));
                    }
                    None => done(attr(&asker, reply)),
                }
            });
        });
    }

    /// Those of the root: as they were a moment ago, if the server takes its time.
    fn root_attr(
        self: &Arc<Self>,
        who: &Who,
        done: impl FnOnce(Result<(Attr, Duration)>) + Send + 'static,
    ) {
        let last = *self.root();
        let patience = if last.is_some() { ROOT_PATIENCE } else { DEADLINE };
        let (core, asked, key) = (self.clone(), self.asked(), self.inodes.key(INodeNo::ROOT));
        let op = Op::GetAttr { file: Handle::default(), open: None };
        if let Some(attr) = last.filter(|_| self.is_up() && self.is_silent(INodeNo::ROOT)) {
            // One question at a time is under way, and its answer tells what it is like now.
            if self.begins_to_ask_of_root() {
                self.ask_for(&who.gone_on(), op, &[], DEADLINE, move |reply| {
                    core.has_asked_of_root();
                    if let Ok((Answer::Attr(attr), _)) = reply {
                        *core.root() = Some(attr);
                    }
                });
            }
            return done(Ok((attr, Duration::ZERO)));
        }
        self.ask_for(who, op, &[], patience, move |reply| match (reply, last) {
            (Ok((Answer::Attr(attr), _)), _) => {
                *core.root() = Some(attr);
                let is_news = core.is_news(asked, key);
                done(Ok((attr, if is_news { ATTR_TTL } else { Duration::ZERO })));
            }
            (Err(e), Some(attr)) if e == Errno::EHOSTDOWN && core.is_up() => {
                core.set_silent();
                done(Ok((attr, Duration::ZERO)));
            }
            (other, _) => done(Err(unexpected(other))),
        });
    }
}
