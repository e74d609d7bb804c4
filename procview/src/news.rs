//! What has changed in a view, for who keeps the kernel's caches in step with it.

use crate::store::NodeView;
use krg_types::NodeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// News waiting to be read. Should there be more, everything counts as changed.
const WAITING_MAX: usize = 256;
/// Who must not see what is old waits so long for the kernel to be told.
const TOLD_MAX: Duration = Duration::from_millis(300);

/// Something that changes what texts say.
#[derive(Debug)]
pub enum News {
    /// A node's processes are not what they were.
    View {
        /// They were so.
        old: Arc<NodeView>,
        /// And are so.
        new: Arc<NodeView>,
    },
    /// The texts of all processes of a node read otherwise, though none of them has changed.
    Place(NodeId),
    /// Nobody looks at a node any more: what is known of it will not be kept in step.
    Idle(NodeId),
    /// A content that is no longer the last, by its inode number, was read.
    Former(u64),
}

/// The end that tells.
#[derive(Debug)]
pub struct Teller {
    news: SyncSender<News>,
    told: AtomicU64,
    lost: AtomicBool,
    handled: watch::Sender<u64>,
}

/// The end that is told.
#[derive(Debug)]
pub struct Hearer {
    news: Receiver<News>,
    teller: Arc<Teller>,
}

/// Both ends.
pub fn pair() -> (Arc<Teller>, Hearer) {
    let (tx, rx) = sync_channel(WAITING_MAX);
    let handled = watch::Sender::new(0);
    let (told, lost) = (AtomicU64::new(0), AtomicBool::new(false));
    let teller = Arc::new(Teller { news: tx, told, lost, handled });
    (teller.clone(), Hearer { news: rx, teller })
}

impl Teller {
    /// Tells; never waits.
    pub fn tell(&self, news: News) {
        match self.news.try_send(news) {
            Ok(()) => drop(self.told.fetch_add(1, Ordering::SeqCst)),
            Err(_) => self.lost.store(true, Ordering::SeqCst),
        }
    }

    /// Waits until what was told before this call is handled.
    pub async fn caught_up(&self) {
        let told = self.told.load(Ordering::SeqCst);
        let mut handled = self.handled.subscribe();
        let _ = timeout(TOLD_MAX, handled.wait_for(|n| *n >= told)).await;
    }
}

impl Hearer {
    /// The next piece, or `None` after `patience`.
    pub fn next(&self, patience: Duration) -> Option<News> {
        self.news.recv_timeout(patience).ok()
    }

    /// Says that one more piece was handled.
    pub fn handled(&self) {
        self.teller.handled.send_modify(|n| *n += 1);
    }

    /// Was there more than could wait? Once said, it is no longer so.
    pub fn has_lost(&self) -> bool {
        self.teller.lost.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_goes_on_when_it_is_handled() {
        let (teller, hearer) = pair();
        teller.caught_up().await;
        teller.tell(News::Former(7));
        let waits = teller.caught_up();
        tokio::pin!(waits);
        assert!(timeout(Duration::from_millis(5), &mut waits).await.is_err());
        assert!(matches!(hearer.next(Duration::ZERO), Some(News::Former(7))));
        hearer.handled();
        timeout(TOLD_MAX / 2, waits).await.expect("it is handled");
    }

    #[test]
    fn too_much_is_said_to_be_lost() {
        let (teller, hearer) = pair();
        (0..=WAITING_MAX as u64).for_each(|n| teller.tell(News::Former(n)));
        assert!(hearer.has_lost());
        assert!(!hearer.has_lost());
    }
}
